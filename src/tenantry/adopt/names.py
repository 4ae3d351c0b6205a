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


def shorten(*parts: str) -> str:
    """One name of several, unquoted; where it is too long its end is a hash of the whole."""
    name = "_".join(map(plain, parts))
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: _LONGEST - 9].decode(errors="ignore") + "_" + digest


def listing(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
