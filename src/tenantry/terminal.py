"""What a terminal is given: text that came from outside acts on none, and a change is a line, the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Control characters, those that end a line or turn its direction, and halves of characters.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_KIND_WIDTH = 22


def printable(text: str) -> str:
    """The text with what a terminal would act on written as an escape: `\\x1b`, `\\n`."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def change_line(at: str, kind: str, about: Iterable[str | None], cause: str) -> tuple[str, str, str]:
    """A change in three parts, to be coloured: when and kind as columns, whom it is about, and the cause."""
    words = "  ".join(printable(word) for word in about if word)
    return f"{at}  ", f"{kind:<{_KIND_WIDTH}}", f"{words}  ({cause})"
