"""Identifiers in Clerk's form, the same for the same seed, sortable by creation, never given twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_EPOCH = 386_000_000  # the first four bytes; makes the "3C…" that Clerk's own identifiers of 2026 begin with
_BLOCK = 1000


def digest(*parts: object) -> bytes:
    """32 bytes that depend on nothing but `parts`."""
    return hashlib.sha256(":".join(map(str, parts)).encode()).digest()


def base62(number: int, width: int) -> str:
    """`number` in base 62, padded with zeros to `width`."""
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits)).rjust(width, "0")


class Identifiers:
    """Counts from `start`. `reserve` is told the number that a later run must start from: no identifier returns."""

    def __init__(self, seed: int, *, start: int = 0, reserve: Callable[[int], None] | None = None) -> None:
        self._seed = seed
        self._count = start
        self._reserved = start
        self._reserve = reserve

    def new(self, prefix: str) -> str:
        """Such as `org_` and 27 characters."""
        count = self._next()
        payload = (_EPOCH + count).to_bytes(4, "big") + digest(self._seed, prefix, count)[:16]
        return f"{prefix}_{base62(int.from_bytes(payload, 'big'), 27)}"

    def hex(self, length: int) -> str:
        """At most 64 hexadecimal digits."""
        return digest(self._seed, "hex", self._next()).hex()[:length]

    def _next(self) -> int:
        self._count += 1
        if self._reserve and self._count > self._reserved:
            self._reserved = self._count + _BLOCK
            self._reserve(self._reserved)
        return self._count
