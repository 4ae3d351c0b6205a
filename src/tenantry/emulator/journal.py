"""What the emulator keeps between runs: one JSON line for each change, compacted when opened.

A line is `[kind, id, value]`; the newest for a kind and id counts, and null removes. Appending a line costs the same
however much is stored, and a process killed while writing loses at most that one line.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

Contents = dict[str, dict[str, Any]]


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one; only its owner may read it, since it may hold keys."""
    beside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Journal:
    """`contents` is what earlier runs left, by kind and id. OSError; ValueError when damaged, or open elsewhere."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _claim(path.with_name(path.name + ".lock"))
        self.contents = _replay(path) if path.exists() else {}
        write_atomically(path, "".join(_lines(self.contents)))
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def append(self, kind: str, id: str, value: object) -> None:
        self._file.write(_line(kind, id, value))
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self._lock.close()


def _claim(path: Path) -> IO[str]:
    """Held as long as the file is open: two writers would mix their lines."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ValueError(
            f"{path.parent} is in use by another emulator. Stop that one, or name another folder."
        ) from None
    return lock


def _replay(path: Path) -> Contents:
    contents: Contents = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break  # the last write of a killed process
        kind, id, value = _parse(line, path, number)
        if value is None:
            contents.get(kind, {}).pop(id, None)
        else:
            contents.setdefault(kind, {})[id] = value
    return contents


def _parse(line: str, path: Path, number: int) -> tuple[str, str, Any]:
    try:
        kind, id, value = json.loads(line)
    except (TypeError, ValueError):
        raise ValueError(f"{path}, line {number}, is damaged. Restore the file, or delete it to begin anew.") from None
    return kind, id, value


def _lines(contents: Contents) -> Iterator[str]:
    return (_line(kind, id, value) for kind, values in contents.items() for id, value in values.items())


def _line(kind: str, id: str, value: object) -> str:
    return json.dumps([kind, id, value], separators=(",", ":")) + "\n"
