"""Renders templates: programs that compile as they stand, of which a variant is what is left when parts are deleted.

    // tenantry:if api
    ...                  deleted, unless the switch `api` is on (`!api`: unless it is off)
    // tenantry:end

A marker is a comment alone on its line, in the comment syntax of TypeScript, JSX, SQL or Python. Markers do not nest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_MARKER = re.compile(r"\s*(?://|--|#|\{/\*|/\*)\s*tenantry:(?P<word>\w+)\s*(?P<name>!?\w*)\s*(?:\*/\}?)?\s*")
_ANYWHERE = re.compile(r"\btenantry:(?:if|end|else)\b")


class TemplateError(Exception):
    """A template is wrong, which a test finds before a user can."""


def read(path: str) -> str:
    """The text of a template, by its path under this package: `nextjs/clerk-multitenant/tenant.ts`."""
    return resources.files("tenantry.scaffold").joinpath(path).read_text(encoding="utf-8")


def render(text: str, switches: Mapping[str, bool]) -> str:
    """The text without its markers and without what they delete. Raises TemplateError, naming the line."""
    kept: list[str] = []
    opened: tuple[int, bool] | None = None  # the line of the open `if`, and whether its block stays
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        marker = _read_marker(line, number)
        if marker is None:
            if opened is None or opened[1]:
                kept.append(line)
        elif marker == "end":
            if opened is None:
                raise TemplateError(f"Line {number}: an end without its if.")
            opened = None
        else:
            if opened is not None:
                raise TemplateError(f"Line {number}: an if within that of line {opened[0]}.")
            opened = number, _is_on(marker, switches, number)
    if opened is not None:
        raise TemplateError(f"Line {opened[0]}: an if without its end.")
    return "".join(kept)


def _read_marker(line: str, number: int) -> str | None:
    """The switch an `if` names, or `end`; None for a line that is no marker."""
    found = _MARKER.fullmatch(line)
    if found is None:
        if _ANYWHERE.search(line):
            raise TemplateError(f"Line {number}: a marker stands in a comment of its own, alone on its line.")
        return None
    word, name = found["word"], found["name"]
    if word == "end" and not name:
        return "end"
    if word == "if" and name.removeprefix("!"):
        return name
    raise TemplateError(f"Line {number}: there is no marker {word!r} of this form.")


def _is_on(name: str, switches: Mapping[str, bool], number: int) -> bool:
    switch = name.removeprefix("!")
    if switch not in switches:
        raise TemplateError(f"Line {number}: there is no switch {switch!r}; there are {', '.join(sorted(switches))}.")
    return switches[switch] != name.startswith("!")
