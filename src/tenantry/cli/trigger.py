"""`tenantry emulator trigger`: makes a running emulator send an event, by the change that causes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

_PATIENCE = 15.0  # seconds for the first attempts: as long as a receiver may take
_PAUSE = 0.05

Url = Annotated[
    str, typer.Option("--url", envvar="TENANTRY_EMULATOR_URL", metavar="URL", help="Where the emulator runs.")
]


def trigger(
    type: Annotated[str, typer.Argument(metavar="[TYPE]", help="Such as organizationMembership.deleted.")] = "",
    user: Annotated[str, typer.Option(metavar="EMAIL", help="A person: e-mail address, username or id.")] = "",
    organization: Annotated[str, typer.Option(metavar="NAME", help="An organization: name, slug or id.")] = "",
    role: Annotated[str, typer.Option(metavar="KEY", help="A role, such as org:admin.")] = "",
    permission: Annotated[str, typer.Option(metavar="KEY", help="A permission, such as org:reports:read.")] = "",
    domain: Annotated[str, typer.Option(metavar="NAME", help="A domain, such as example.com.")] = "",
    name: Annotated[str, typer.Option(help="A name to give.")] = "",
    url: Url = "http://127.0.0.1:4010",
    list_types: Annotated[bool, typer.Option("--list", help="Show every type and what it needs.")] = False,
) -> None:
    """Make an event happen in a running emulator, by a real change. Exits with 1 when a webhook did not arrive."""
    with _open(url) as client:
        if list_types or not type:
            _print_types(_ask(client, "GET", "/emulator/trigger"))
            return
        given = {
            "user": user,
            "organization": organization,
            "role": role,
            "permission": permission,
            "domain": domain,
            "name": name,
        }
        stated = {parameter: value for parameter, value in given.items() if value}
        made = _ask(client, "POST", "/emulator/trigger", {"type": type} | stated)
        arrived = _print_made(client, made)
    raise typer.Exit(0 if arrived else 1)


def _open(url: str) -> httpx.Client:
    import httpx

    try:
        return httpx.Client(base_url=url, timeout=_PATIENCE, trust_env=False)
    except httpx.InvalidURL:
        raise ConfigurationError(
            f"{url!r} is no URL.", hint="Write something like --url http://127.0.0.1:4010."
        ) from None


def _ask(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The emulator's answer. ConfigurationError when there is none, or it refuses."""
    import httpx

    try:
        response = client.request(method, path, json=body)
        answer = dict(response.json())
    except (httpx.HTTPError, TypeError, ValueError):
        raise ConfigurationError(
            f"No Clerk emulator answers at {client.base_url}.",
            hint="Start one with 'tenantry dev' or 'tenantry emulator', or say with --url where it is.",
        ) from None
    if response.is_error:
        raise ConfigurationError(_reason(answer), hint="'tenantry emulator trigger --list' shows what each type needs.")
    return answer


def _reason(answer: dict[str, Any]) -> str:
    match answer:
        case {"errors": [{"message": str(message)}, *_]}:
            return message
        case _:
            return "The emulator refused, and did not say why."


def _print_types(answer: dict[str, Any]) -> None:
    for each in answer["data"]:
        options = [f"--{name}" for name in each["needs"]] + [f"[--{name}]" for name in each["takes"]]
        typer.echo(f"{each['type']:<33}{' '.join(options)}")
        typer.secho(f"  {each['does']}", dim=True)


def _print_made(client: httpx.Client, made: dict[str, Any]) -> bool:
    """What was announced, and how each delivery went; whether all arrived."""
    typer.echo(f"The emulator announced {', '.join(made['events'])}.")
    if not made["deliveries"]:
        typer.echo("No webhook: no endpoint wants it. See --webhook-url of 'tenantry emulator'.")
    arrived = [_print_delivery(_first_attempt(client, id)) for id in made["deliveries"]]
    return all(arrived)


def _first_attempt(client: httpx.Client, delivery_id: str) -> dict[str, Any]:
    """The delivery, tried once, or as it is when the patience ends."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        delivery = _ask(client, "GET", f"/emulator/deliveries/{delivery_id}")
        if delivery["attempts"] or time.monotonic() > deadline:
            return delivery
        time.sleep(_PAUSE)


def _print_delivery(delivery: dict[str, Any]) -> bool:
    last = delivery["attempts"][-1] if delivery["attempts"] else None
    arrived = bool(delivery["status"] == "delivered")
    outcome = f"{last['outcome']} {last['status'] or last['error'] or ''}".rstrip() if last else "still waiting"
    again = f", again in {last['retry_in']:.0f} s" if last and last["retry_in"] is not None else ""
    typer.secho(f"{delivery['type']} to {delivery['url']}: {outcome}{again}", fg="green" if arrived else "red")
    return arrived
