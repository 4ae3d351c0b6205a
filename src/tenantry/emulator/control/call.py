"""One use of a control: what it works on, and what was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.params import Body, Form
from tenantry.emulator.records import Membership
from tenantry.emulator.state import State
from tenantry.emulator.store import Event, Store

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any]

_REMEMBERED = 100  # events


class Controls:
    """The emulator, and where the app under development is; without `app_url` it is where webhooks go."""

    def __init__(self, emulator: Emulator, app_url: str | None = None) -> None:
        self.emulator = emulator
        self.events: deque[Event] = deque(maxlen=_REMEMBERED)  # of the control that is being used
        self._app_url = read_app_url(app_url) if app_url else None
        emulator.store.subscribe(self.events.append)

    @property
    def app_url(self) -> str | None:
        """Without a path: `http://127.0.0.1:8000`."""
        endpoints = self.emulator.webhooks.endpoints.values()
        return self._app_url or next((_origin(endpoint.url) for endpoint in endpoints), None)

    @app_url.setter
    def app_url(self, url: str) -> None:
        self._app_url = read_app_url(url)

    def use(self, action: Action, path: dict[str, str], body: Body) -> Json | str:
        """What the action answers. ClerkError."""
        self.events.clear()
        return action(Call(self, path, body))


@dataclass(frozen=True, slots=True)
class Call:
    controls: Controls
    path: dict[str, str]
    body: Body

    @property
    def emulator(self) -> Emulator:
        return self.controls.emulator

    @property
    def store(self) -> Store:
        return self.emulator.store

    @property
    def state(self) -> State:
        return self.store.state

    @property
    def membership(self) -> Membership:
        """The one that the path names."""
        found = self.state.memberships.get(self.path["membership_id"])
        if found is None:
            raise errors.not_found("membership", self.path["membership_id"])
        return found

    def given(self, *names: str) -> Json:
        """The texts among `names` that were sent; an empty one is None."""
        return {name: self.body.text(name) or None for name in names if self.body.text(name) is not None}


Action = Callable[[Call], Json | str]


class ControlForm(Form):
    """A form or a query; an empty field of a number says nothing, one of a list is an empty list."""

    def number(self, name: str) -> float | None:
        text = self.text(name)
        try:
            return float(text) if text and text.strip() else None
        except ValueError:
            raise errors.malformed(name, "a number") from None

    def texts(self, name: str) -> list[str] | None:
        values = self._values.get(name)
        several = values if isinstance(values, list) else [values]
        return None if values is None else [value for value in several if value]


def read_app_url(url: str) -> str:
    """ClerkError when it is no address of a web app."""
    if (origin := _origin(url)) is None:
        message = f"{url[:100]!r} is no address of an app; write something like http://127.0.0.1:8000."
        raise ClerkError(422, "form_param_value_invalid", message, param="app_url")
    return origin


def _origin(url: str) -> str | None:
    try:
        parts = urlsplit(url.strip())
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"
