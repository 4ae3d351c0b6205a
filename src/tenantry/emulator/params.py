"""A request's query and body, read strictly: a parameter of the wrong form is Clerk's error, never ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from tenantry.emulator import errors

T = TypeVar("T")
Check = Callable[[str], bool]

_MAX_INTEGER = 2**53  # beyond it JSON readers disagree
_MAX_VALUES = 100  # of a repeated query parameter


@dataclass(frozen=True, slots=True)
class Selection:
    """Values to include and to exclude, from `a`, `+b`, `-c`; with nothing to include, all are."""

    include: frozenset[str]
    exclude: frozenset[str]

    def holds(self, *values: str | None) -> bool:
        """Whether something with these values is selected."""
        if self.exclude.intersection(values):
            return False
        return not self.include or bool(self.include.intersection(values))

    @property
    def is_empty(self) -> bool:
        return not self.include and not self.exclude


class Query:
    """Repeated parameters may also be written `name[]`."""

    def __init__(self, params: QueryParams) -> None:
        self._params = params

    def has(self, name: str) -> bool:
        return name in self._params

    def text(self, name: str) -> str | None:
        return self._params.get(name) or None

    def texts(self, name: str) -> list[str]:
        values = [*self._params.getlist(name), *self._params.getlist(f"{name}[]")]
        if len(values) > _MAX_VALUES:
            raise errors.invalid(name, f"accepts at most {_MAX_VALUES} values")
        return values

    def selection(self, name: str) -> Selection:
        """A `+` that was not encoded arrives as a space."""
        values = [value.strip() for value in self.texts(name) if value.strip()]
        include = frozenset(value.removeprefix("+") for value in values if not value.startswith("-"))
        return Selection(include, frozenset(value[1:] for value in values if value.startswith("-")))

    def flag(self, name: str) -> bool | None:
        value = self._params.get(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false", "1", "0"):
            raise errors.malformed(name, "true or false")
        return value.lower() in ("true", "1")

    def integer(self, name: str, default: int | None, low: int, high: int = _MAX_INTEGER) -> int | None:
        value = self._params.get(name)
        if value is None:
            return default
        if not value.lstrip("-").isascii() or not value.lstrip("-").isdigit() or len(value) > 20:
            raise errors.malformed(name, "an integer")
        if not low <= int(value) <= high:
            raise errors.invalid(name, f"must be between {low} and {high}")
        return int(value)

    def order(self, allowed: Iterable[str], default: str) -> tuple[str, bool]:
        """The field to order by, and whether it descends."""
        value = (self._params.get("order_by") or default).strip()
        name = value.lstrip("+-")
        if name not in allowed or value[: -len(name)] not in ("", "+", "-"):
            raise errors.invalid("order_by", f"must be one of {', '.join(allowed)}, with + or - before it")
        return name, value.startswith("-")

    def page(self, records: Sequence[T]) -> Sequence[T]:
        """`limit` of them, 1 to 500, 10 unless given; from `offset` on, 0 unless given."""
        limit = self.integer("limit", 10, 1, 500) or 10
        offset = self.integer("offset", 0, 0) or 0
        return records[offset : offset + limit]


class Body:
    """A JSON object. A null counts as absent, except for `changes`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def only(self, *names: str) -> None:
        """ClerkError when there is a parameter of another name."""
        for name in self._values:
            if name not in names:
                raise errors.unknown(name)

    def has(self, name: str) -> bool:
        return name in self._values

    def need(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise errors.missing(name)
        return value

    def text(self, name: str) -> str | None:
        return self._typed(name, str, "a string")

    def flag(self, name: str) -> bool | None:
        return self._typed(name, bool, "true or false")

    def integer(self, name: str, low: int, high: int = _MAX_INTEGER) -> int | None:
        value = self._typed(name, int, "an integer")
        if value is not None and not low <= value <= high:
            raise errors.invalid(name, f"must be between {low} and {high}")
        return value

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is not None and type(value) not in (int, float):
            raise errors.malformed(name, "a number")
        return None if value is None else float(value)

    def mapping(self, name: str) -> dict[str, Any] | None:
        return self._typed(name, dict, "an object")

    def texts(self, name: str) -> list[str] | None:
        values = self._typed(name, list, "an array of strings")
        if values is not None and not all(isinstance(value, str) for value in values):
            raise errors.malformed(name, "an array of strings")
        return values

    def moment(self, name: str) -> int | None:
        """RFC 3339, as milliseconds."""
        value = self.text(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            raise errors.malformed(name, "a time such as 2026-01-31T07:15:20Z") from None

    def metadata(self, *names: str) -> dict[str, dict[str, Any]]:
        """Those of the metadata fields that are given."""
        found = {name: self.mapping(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def changes(self, readers: dict[str, Callable[[str], T]]) -> dict[str, T]:
        """What is given among `readers`, read; a null is a change to null where the reader allows it."""
        return {name: read(name) for name, read in readers.items() if name in self._values}

    def _typed(self, name: str, wanted: type[T], description: str) -> T | None:
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is not wanted:  # not isinstance: true is no integer
            raise errors.malformed(name, description)
        return value


class Form(Body):
    """What a page's form sends: every value a text, a name again for each of several, an object as JSON."""

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Form:
        """Several values may also be named `name[]`; where one is wanted the last counts."""
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name.removesuffix("[]"), []).append(value)
        return cls({name: several if len(several) > 1 else several[0] for name, several in values.items()})

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Form:
        return cls(content)

    def _typed(self, name: str, wanted: type[T], description: str) -> T | None:
        value = self._values.get(name)
        if isinstance(value, list) and value and wanted is not list:
            value = value[-1]
        if isinstance(value, str) and wanted is not str:
            value = _from_text(value)
        if isinstance(value, str) and wanted is list:
            value = [value]
        if value is None:
            return None
        if type(value) is not wanted:
            raise errors.malformed(name, description)
        return value


def _from_text(value: str) -> Any:
    """What the text says as JSON, else the text; an empty one says nothing."""
    try:
        return parse_json(value.encode()) if value else None
    except errors.ClerkError:
        return value


def parse_json(raw: bytes) -> Any:
    """ClerkError 400 for what is no JSON, or cannot be given back as JSON: NaN, 1e999, half a surrogate pair."""
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise errors.ClerkError(400, "request_body_invalid", "The request body is not valid JSON.") from None
    return value
