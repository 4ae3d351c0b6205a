"""`tenantry emulator`: the Clerk emulator alone, for an app that is started some other way."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.errors import ConfigurationError

if TYPE_CHECKING:
    from tenantry.emulator.app import Emulator
    from tenantry.emulator.deliveries import Attempt

HOST = "127.0.0.1"


def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 4010,
    webhook_url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Where webhooks go. May be given several times.")
    ] = None,
    seed_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, resolve_path=True, help="People and organizations to begin with."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every id, key and chance.")] = 1,
    data: Annotated[
        Path | None, typer.Option(file_okay=False, resolve_path=True, help="Keeps everything here between runs.")
    ] = None,
    disorder: Annotated[
        str, typer.Option(metavar="NAME=CHANCE,...", help="Among twice, late, swapped, lost; for example twice=0.2.")
    ] = "",
    speed: Annotated[float, typer.Option(min=0.001, help="Divides the delays between retries.")] = 1.0,
    token_version: Annotated[int, typer.Option(min=1, max=2, help="The version of session tokens.")] = 2,
    slugs: Annotated[
        bool | None, typer.Option(help="Whether organizations have slugs. At first they have not.")
    ] = None,
    personal_accounts: Annotated[
        bool | None, typer.Option(help="Whether people may do without an organization. At first they may not.")
    ] = None,
    rate_limits: Annotated[bool, typer.Option(help="Whether the limits of a development instance hold.")] = True,
) -> None:
    """Run the Clerk emulator: Backend API, session tokens, webhooks. It listens on this machine only."""
    try:
        from tenantry.emulator.app import Emulator
        from tenantry.emulator.disorder import parse
        from tenantry.emulator.seed import DEFAULT, read_seed
        from tenantry.emulator.settings import Options
    except ModuleNotFoundError as error:
        hint = "Run: pip install 'tenantry[dev]'"
        raise ConfigurationError(f"'tenantry emulator' needs the package '{error.name}'.", hint=hint) from None
    settings = _settings(slugs, personal_accounts)
    with contextlib.closing(_claim(port)) as claimed:
        try:
            started = Emulator(
                folder=data,
                seed=seed,
                seed_data=read_seed(seed_file) if seed_file else DEFAULT,
                settings=settings,
                options=Options(token_version=1 if token_version == 1 else 2, rate_limits=rate_limits),
                webhook_urls=webhook_url or [],
                disorder=parse(disorder),
                speed=speed,
                on_attempt=_show_attempt,
            )
        except OSError as error:
            detail = f"{error.filename}: {error.strerror}."
            raise ConfigurationError("The emulator cannot start.", detail=detail) from None
        except ValueError as error:
            raise ConfigurationError("The emulator cannot start.", detail=str(error)) from None
        with contextlib.closing(started):
            _serve(started, claimed)


def _settings(slugs: bool | None, personal_accounts: bool | None) -> dict[str, Any]:
    """Only what is asked for: the rest stays as it was kept."""
    asked = {"slugs": slugs, "membership_required": None if personal_accounts is None else not personal_accounts}
    return {name: value for name, value in asked.items() if value is not None}


def _claim(port: int) -> socket.socket:
    claimed = socket.socket(proto=socket.IPPROTO_TCP)  # said aloud, or asyncio leaves Nagle on: 40 ms a request
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind((HOST, port))
        claimed.listen()
    except OSError as error:
        claimed.close()
        hint = "Choose another with --port; 0 takes any free one."
        raise ConfigurationError(f"Port {port} cannot be used: {error.strerror}.", hint=hint) from None
    return claimed


def _serve(started: Emulator, claimed: socket.socket) -> None:
    import uvicorn

    from tenantry.emulator.app import create_app

    class Announcing(uvicorn.Server):
        """Shows the screen when signals are handled and requests are answered, not before."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _show_screen(started, f"http://{HOST}:{claimed.getsockname()[1]}")

    config = uvicorn.Config(create_app(started), log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    with contextlib.suppress(KeyboardInterrupt):
        Announcing(config).run(sockets=[claimed])


def _show_screen(started: Emulator, url: str) -> None:
    environment = "\n".join(f"  {name}={value}" for name, value in started.environment(url).items())
    people = "\n".join(_people(started)) or "  Nobody yet."
    typer.echo(f"Clerk emulator at {url}  (Ctrl-C stops it)\n\nYour app's environment:\n{environment}\n")
    typer.echo(f"People:\n{people}\n")
    typer.echo(f"A session token:\n  {_token_command(started, url)}\n")
    endpoints = ", ".join(endpoint.url for endpoint in started.webhooks.endpoints.values())
    typer.echo(f"Webhooks go to {endpoints}." if endpoints else "Webhooks go nowhere; name a place with --webhook-url.")


def _people(started: Emulator) -> list[str]:
    state = started.store.state
    lines = []
    for user in list(state.users.values())[:10]:
        held = [
            f"{state.organizations[each.organization_id].name} ({state.roles[each.role_id].key.removeprefix('org:')})"
            for each in state.memberships_of_user(user.id)
        ]
        lines.append(f"  {user.identifier:<24} {', '.join(held)}".rstrip())
    more = len(state.users) - len(lines)
    return [*lines, f"  and {more} more"] if more else lines


def _token_command(started: Emulator, url: str) -> str:
    """A command that works, for whoever is there."""
    from tenantry.emulator.store.organizations import slugify

    state = started.store.state
    membership = next(iter(state.memberships.values()), None)
    if membership is None:
        return f"curl -s {url}/emulator/token -d user=E-MAIL -d organization=NAME"
    user, organization = state.users[membership.user_id], state.organizations[membership.organization_id]
    name = slugify(organization.name) or organization.id
    return f"curl -s {url}/emulator/token -d user={user.identifier} -d organization={name}"


def _show_attempt(attempt: Attempt) -> None:
    answer = f" {attempt.status or attempt.error}" if attempt.number else ""
    again = f", again in {attempt.retry_in:.0f} s" if attempt.retry_in is not None else ""
    typer.echo(f"  {attempt.event_type:<32} {attempt.outcome}{answer}{again}  {attempt.message_id}")
