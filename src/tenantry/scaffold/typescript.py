"""Type-checks a project with its own compiler, and tells apart whose errors they are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_SECONDS = 300
_ERROR = re.compile(r"^(?P<path>[^(\n]+)\(\d+,\d+\): error TS\d+: .*$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What the compiler said: lines about the files in question, and how many there are about others."""

    errors: tuple[str, ...]
    others: int


def check(root: Path, paths: Collection[str]) -> Verdict | None:
    """Runs `tsc --noEmit`; None where the project has no compiler installed, or there is no Node, or it hangs."""
    compiler = _find_compiler(root)
    node = shutil.which("node")
    if compiler is None or node is None:
        return None
    try:
        done = subprocess.run(
            [node, compiler, "--noEmit", "--pretty", "false"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = list(_ERROR.finditer(done.stdout))
    ours = tuple(error[0] for error in found if error["path"] in paths)
    return Verdict(ours, len(found) - len(ours))


def _find_compiler(root: Path) -> Path | None:
    candidates = (folder / "node_modules" / "typescript" / "bin" / "tsc" for folder in (root, *root.parents))
    return next((path for path in candidates if path.is_file()), None)
