"""The emulator's own controls: its state, tokens by one request, webhooks held back, sent again or put in disorder.

They need no key, so they answer only on this machine: to a loopback address, under a loopback name (a page on another
site cannot point its own name here), and to no page of another site.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tenantry.emulator import errors, render
from tenantry.emulator.deliveries import Endpoint
from tenantry.emulator.disorder import Disorder
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.http import read_body, write_error
from tenantry.emulator.params import Body, parse_json
from tenantry.emulator.store.users import NewUser

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any]


class Control:
    """Each method is one control; `body` holds the JSON body, or the query of a GET."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def show_state(self, path: dict[str, str], body: Body) -> Json:
        state, webhooks = self._emulator.store.state, self._emulator.webhooks
        return {
            "instance_id": self._emulator.instance.id,
            "publishable_key": self._emulator.instance.publishable_key,
            "users": len(state.users),
            "organizations": len(state.organizations),
            "memberships": len(state.memberships),
            "settings": asdict(state.settings),
            "webhooks": {"paused": webhooks.paused, "unfinished": webhooks.unfinished} | self.show_disorder(path, body),
        }

    def mint_token(self, path: dict[str, str], body: Body) -> Json:
        """`user` (e-mail or id), `organization` (id, slug or name; empty for the personal account), `expires_in`."""
        jwt = self._emulator.mint_token(
            body.need("user"),
            body.text("organization"),
            seconds=body.integer("expires_in", -86_400, 315_360_000),
            version=body.integer("version", 1, 2),
            authorized_party=body.text("azp"),
        )
        return {"jwt": jwt}

    def mint_bare_token(self, path: dict[str, str], body: Body) -> str:
        """The same for a shell: `TOKEN=$(curl -s .../emulator/token -d user=ada@example.test -d organization=acme)`."""
        return str(self.mint_token(path, body)["jwt"])

    def list_deliveries(self, path: dict[str, str], body: Body) -> Json:
        return {"data": [delivery.describe() for delivery in self._emulator.webhooks.deliveries()]}

    def resend(self, path: dict[str, str], body: Body) -> Json:
        try:
            return self._emulator.webhooks.resend(path["delivery_id"]).describe()
        except LookupError:
            raise errors.not_found("delivery", path["delivery_id"]) from None

    def pause(self, path: dict[str, str], body: Body) -> Json:
        self._emulator.webhooks.pause()
        return {"paused": True}

    def release(self, path: dict[str, str], body: Body) -> Json:
        self._emulator.webhooks.release()
        return {"paused": False}

    def show_disorder(self, path: dict[str, str], body: Body) -> Json:
        return {"disorder": asdict(self._emulator.webhooks.disorder)}

    def set_disorder(self, path: dict[str, str], body: Body) -> Json:
        """What is not given is off."""
        names = [field.name for field in fields(Disorder)]
        body.only(*names)
        try:
            given = {name: body.number(name) for name in names}
            disorder = Disorder(**{name: value for name, value in given.items() if value is not None})
        except ValueError as error:
            raise ClerkError(422, "form_param_value_invalid", str(error)) from None
        self._emulator.webhooks.disorder = disorder
        return self.show_disorder(path, body)

    def list_endpoints(self, path: dict[str, str], body: Body) -> Json:
        return {"data": [_show_endpoint(endpoint) for endpoint in self._emulator.webhooks.endpoints.values()]}

    def add_endpoint(self, path: dict[str, str], body: Body) -> Json:
        try:
            endpoint = self._emulator.webhooks.add_endpoint(
                body.need("url"), secret=body.text("secret"), events=body.texts("events")
            )
        except ValueError as error:
            raise ClerkError(422, "form_param_value_invalid", str(error)) from None
        return _show_endpoint(endpoint)

    def accept_invitation(self, path: dict[str, str], body: Body) -> Json:
        """As the invited person would, who signs up first where needed."""
        store = self._emulator.store
        invitation = store.invitations.get(path["invitation_id"])
        address = invitation.email_address
        user_id = store.state.user_by_email.get(address)
        if user_id is None:
            user_id = store.users.create(NewUser(email_addresses=(address,))).id
        return render.membership(store.state, store.invitations.accept(invitation, user_id))

    def end_session(self, path: dict[str, str], body: Body) -> Json:
        """As a person who signs out."""
        store = self._emulator.store
        return render.session(store.sessions.end(store.sessions.get(path["session_id"]), "ended"))


Action = Callable[[dict[str, str], Body], Json | str]


def create_app(emulator: Emulator) -> Starlette:
    """To be mounted at `/emulator`."""
    control = Control(emulator)
    routes: dict[str, dict[str, Action]] = {
        "/": {"GET": control.show_state},
        "/tokens": {"GET": control.mint_token, "POST": control.mint_token},
        "/token": {"GET": control.mint_bare_token, "POST": control.mint_bare_token},
        "/deliveries": {"GET": control.list_deliveries},
        "/deliveries/{delivery_id}/resend": {"POST": control.resend},
        "/webhooks/pause": {"POST": control.pause},
        "/webhooks/release": {"POST": control.release},
        "/disorder": {"GET": control.show_disorder, "PUT": control.set_disorder},
        "/endpoints": {"GET": control.list_endpoints, "POST": control.add_endpoint},
        "/invitations/{invitation_id}/accept": {"POST": control.accept_invitation},
        "/sessions/{session_id}/end": {"POST": control.end_session},
    }
    return Starlette(
        routes=[Route(path, _endpoint(emulator, actions), methods=[*actions]) for path, actions in routes.items()]
    )


def _endpoint(emulator: Emulator, actions: dict[str, Action]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            _check_local(request)
            body = await _read(request)
            shown = actions[request.method](request.path_params, body)
            return PlainTextResponse(shown) if isinstance(shown, str) else JSONResponse(shown)
        except ClerkError as error:
            return write_error(error, emulator.store.identifiers.hex(32))

    return answer


async def _read(request: Request) -> Body:
    """A JSON object, or what `curl -d name=value` sends, or the query of a GET."""
    if request.method == "GET":
        return _from_pairs(request.query_params.multi_items())
    raw = await read_body(request)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return _from_pairs(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    content = parse_json(raw)
    if not isinstance(content, dict):
        raise ClerkError(400, "request_body_invalid", "The request body must be a JSON object.")
    return Body(content)


def _from_pairs(pairs: list[tuple[str, str]]) -> Body:
    integers = ("expires_in", "version")
    return Body({name: _integer(name, value) if name in integers else value for name, value in pairs})


def _check_local(request: Request) -> None:
    origin = request.headers.get("origin")
    hosts = [request.client.host if request.client else None, _host(f"//{request.headers.get('host', '')}")]
    if not all(_is_loopback(host) for host in [*hosts, *([_host(origin)] if origin is not None else [])]):
        message = "The emulator's controls answer only on this machine, as 127.0.0.1 or localhost."
        raise ClerkError(403, "loopback_only", message)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _integer(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise errors.malformed(name, "an integer") from None


def _show_endpoint(endpoint: Endpoint) -> Json:
    """With its secret: whoever adds an endpoint needs it to verify what arrives."""
    return asdict(endpoint)
