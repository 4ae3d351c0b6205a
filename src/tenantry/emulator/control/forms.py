"""The page's forms: what one sends, what came of it, and what to show in it again."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from tenantry.emulator.control.call import ControlForm, Controls
from tenantry.emulator.control.routes import find_action
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.http import read_body

_SPECIAL = ("_do", "_form", "_next")
_PATH = re.compile(r"(/[\w{}-]+)+|/", re.ASCII)


@dataclass(frozen=True)
class Submitted:
    """A form that was sent: the control it names, its own name, where to go then, and its fields."""

    do: str
    form: str
    next: str
    pairs: tuple[tuple[str, str], ...]

    @cached_property
    def values(self) -> Mapping[str, list[str]]:
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in self.pairs:
            values[name].append(value)
        return dict(values)


@dataclass(frozen=True)
class Outcome:
    """What came of a form: what the control answered, or why it refused."""

    submitted: Submitted
    result: Any = None
    error: ClerkError | None = None

    @property
    def message(self) -> str | None:
        """The refusal in plain words."""
        if self.error is None:
            return None
        text = self.error.message
        if self.error.param:
            text = text.replace(self.error.param, self.error.param.replace("_", " "))
        return text[:1].upper() + text[1:]

    def leads_to(self, here: str) -> str | None:
        """Back to the page; or to one of ours, where `{id}` is what was made; or to the app. None: it is shown here."""
        wanted = self.submitted.next
        if self.error or wanted == "show":
            return None
        found = self.result if isinstance(self.result, dict) else {}
        if wanted == "url" and "url" in found:
            return str(found["url"])
        return wanted.replace("{id}", str(found.get("id", ""))) if _PATH.fullmatch(wanted) else here

    def result_of(self, do: str) -> Any:
        """What this control answered; None when the form named another, or it refused."""
        return self.result if self.submitted.do == do else None

    def state_of(self, form: str) -> FormState:
        if form != self.submitted.form:
            return FormState(form)
        wrong = self.error.param if self.error else None
        return FormState(form, self.submitted.values, wrong, refused=self.error is not None)


@dataclass(frozen=True)
class FormState:
    """What a template asks about one of its forms: what was typed, when it comes again."""

    id: str
    values: Mapping[str, list[str]] = field(default_factory=dict)
    wrong: str | None = None
    refused: bool = False

    def value(self, name: str, default: object = "") -> object:
        return self.values[name][-1] if name in self.values else default

    def is_chosen(self, name: str, value: str, default: bool) -> bool:
        return value in self.values.get(name, ()) if self.refused else default

    def is_wrong(self, name: str) -> bool:
        return self.refused and self.wrong == name.removesuffix("[]")


async def receive(controls: Controls, request: Request) -> Outcome:
    """Does what the form says. ClerkError when it cannot be read."""
    submitted = _read(await read_body(request))
    try:
        action, path = find_action(submitted.do)
        return Outcome(submitted, controls.use(action, path, ControlForm.from_pairs(submitted.pairs)))
    except ClerkError as error:
        return Outcome(submitted, error=error)


def _read(raw: bytes) -> Submitted:
    pairs = parse_qsl(raw.decode(errors="replace"), keep_blank_values=True)
    special = {name: value for name, value in pairs if name in _SPECIAL}
    rest = tuple(pair for pair in pairs if pair[0] not in _SPECIAL)
    return Submitted(special.get("_do", ""), special.get("_form", ""), special.get("_next", ""), rest)
