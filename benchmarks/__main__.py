"""Runs benchmarks: `python -m benchmarks [question ...] [--quick] [--only floor,ours] [--json | --write]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.harness import page
from benchmarks.harness.bench import Bench
from benchmarks.harness.tables import Table, machine

QUESTIONS = ("token", "webhook", "request", "growth", "isolation", "backfill", "adopt", "with_tenant")


@dataclass(frozen=True)
class Answer:
    """The tables of one question, and the machine and versions they are true for."""

    question: str
    machine: Mapping[str, str]
    tables: Sequence[Table]

    def as_text(self) -> str:
        return "\n\n".join([self._surroundings(), *(table.as_text() for table in self.tables), ""])

    def as_markdown(self) -> str:
        return "\n\n".join([f"{self._surroundings()}.", *(table.as_markdown() for table in self.tables)])

    def as_json(self) -> str:
        tables = [table.as_json() for table in self.tables]
        return json.dumps({"question": self.question, "machine": self.machine, "tables": tables})

    def _surroundings(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.machine.items())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.write and (options.only or options.quick):
        parser.error("--write takes whole tables: leave out --only and --quick")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers stop and the folder goes
    for question in options.questions or QUESTIONS:
        answer = _ask(question, options)
        if options.write:
            page.write(question, answer.as_markdown())
        show = answer.as_json if options.json else answer.as_markdown if options.markdown else answer.as_text
        print(show(), flush=True)
    return 0


def _ask(question: str, options: argparse.Namespace) -> Answer:
    started = time.monotonic()
    with ExitStack() as stack:
        bench = Bench(options.quick, options.only, options.postgres, _folder(stack), stack)
        bench.say(f"{question} ...")
        tables = import_module(f"benchmarks.{question}").measure(bench)
        found = machine(bench.cluster.version if bench.has_cluster else None)
    bench.say(f"{question} took {time.monotonic() - started:.0f} s")
    return Answer(question, {"on": time.strftime("%Y-%m-%d"), **found}, tables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="all of them, unless some are named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under a minute a question")
    parser.add_argument("--only", type=_words, default=[], help="roles or parts of names, by comma: floor,ours")
    parser.add_argument("--postgres", type=int, default=15, help="major version of the server (15 to 18)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each question")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md too")
    return parser


def _words(text: str) -> list[str]:
    return text.split(",")


def _folder(stack: ExitStack) -> Path:
    """A folder that goes with the run; open to others, since root's PostgreSQL runs as another user."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="tenantry-bench-")))
    folder.chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit(main())
