"""What git says of a project: whether what is about to be written can be told from what is there, and undone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

_PATIENCE_SECONDS = 20


def warn(root: Path) -> str | None:
    """A sentence where git could not give back what is there now; None where all is committed."""
    try:
        done = subprocess.run(
            ["git", "status", "--porcelain", "--", "."],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return "This folder is not under git: nothing here can be undone by it."
    changes = len(done.stdout.splitlines())
    if changes:
        return f"The git tree is dirty ({changes} uncommitted): commit first, and this is one diff that you can undo."
    return None


def ignored(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of the files that git leaves out."""
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--", *paths],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()
