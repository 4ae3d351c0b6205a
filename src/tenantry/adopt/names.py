"""Names of database objects, as SQL writes them: quoted where they must be."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 63  # bytes of a name that PostgreSQL keeps


def plain(name: str) -> str:
    """What a name is without its quotes: `"Order"` -> `Order`."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def quote(name: str) -> str:
    """A name of ours, none of which is a keyword, with quotes where it needs them."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it, with whatever `standard_conforming_strings` says."""
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def split(table: str) -> tuple[str, str]:
    """Schema and table of a qualified name: `"My App".users` -> `"My App"`, `users`."""
    match = re.fullmatch(r'("(?:[^"]|"")*"|[^".]+)\.(.+)', table)
    if match is None:
        raise ValueError(f"{table!r} is no qualified name")
    return match[1], match[2]


_NAME = r'(?:"(?:[^"]|"")+"|[^\s".,()]+)'
_TARGET = re.compile(rf"({_NAME}\.{_NAME})\s*\(\s*({_NAME}(?:\s*,\s*{_NAME})*)\s*\)")


def parse_target(text: str) -> tuple[str, tuple[str, ...]]:
    """Table and columns of a reference: `public.issues (project_id, number)`. Raises ValueError."""
    match = _TARGET.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no table with its columns")
    return match[1], tuple(re.findall(_NAME, match[2]))


def format_target(table: str, columns: tuple[str, ...]) -> str:
    return f"{table} ({listing(columns)})"


def shorten(*parts: str) -> str:
    """One name of several, unquoted; where it is too long its end is a hash of the whole."""
    name = "_".join(map(plain, parts))
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: _LONGEST - 9].decode(errors="ignore") + "_" + digest


def listing(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
