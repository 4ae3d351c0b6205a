"""Runs benchmarks: `python -m benchmarks [question ...] [--quick] [--only floor,ours] [--markdown | --json]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness.bench import Bench
from benchmarks.harness.tables import Table, machine

QUESTIONS = ("token", "webhook", "request", "growth", "isolation")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    tables: list[Table] = []
    versions: str | None = None
    for question in options.questions or QUESTIONS:
        started = time.monotonic()
        with ExitStack() as stack:
            bench = Bench(options.quick, options.only, options.postgres, _folder(stack), stack)
            bench.say(f"{question} ...")
            found = import_module(f"benchmarks.{question}").measure(bench)
            if "cluster" in vars(bench):
                versions = bench.cluster.version
        bench.say(f"{question} took {time.monotonic() - started:.0f} s")
        tables += found
        if not options.json and not options.markdown:
            print("\n\n".join(["", *(table.as_text() for table in found), ""]), flush=True)
    surroundings = machine(versions)
    if options.json:
        print(json.dumps({"machine": surroundings, "tables": [table.as_json() for table in tables]}, indent=1))
    elif options.markdown:
        print("\n\n".join([_as_line(surroundings), *(table.as_markdown() for table in tables)]))
    else:
        print(_as_line(surroundings))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="all of them, unless some are named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute a question")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="roles or parts of names, by comma"
    )
    parser.add_argument("--postgres", type=int, default=15, help="major version of the server (15 to 18)")
    parser.add_argument("--markdown", action="store_true", help="tables for docs/performance.md")
    parser.add_argument("--json", action="store_true", help="everything, for a machine")
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _folder(stack: ExitStack) -> Path:
    """A folder that goes with the run; open to others, since root's PostgreSQL runs as another user."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="tenantry-bench-")))
    folder.chmod(0o755)
    return folder


def _as_line(surroundings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in surroundings.items())


if __name__ == "__main__":
    sys.exit(main())
