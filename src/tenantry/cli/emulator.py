"""`tenantry emulator`: the Clerk emulator alone, for an app that is started some other way."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantry.cli.trigger import trigger
from tenantry.errors import ConfigurationError, TenantryError

if TYPE_CHECKING:
    from tenantry.dev.emulator import LocalClerk
    from tenantry.dev.screen import Summary
    from tenantry.emulator.disorder import Disorder


app = typer.Typer()
app.command()(trigger)


class Framework(StrEnum):
    """Whose names the printed environment has."""

    PYTHON = "python"
    NEXTJS = "nextjs"


@app.command()
def fetch() -> None:
    """Fetch Clerk's browser bundles from npm into the cache: for images and machines without a network later."""
    from tenantry.emulator.bundles import Bundles, BundleUnavailable

    try:
        for folder in Bundles().prefetch():
            typer.echo(folder)
    except BundleUnavailable as error:
        raise TenantryError(str(error)) from None


@app.callback(invoke_without_command=True)
def emulator(
    context: typer.Context,
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
        str, typer.Option(metavar="NAME=CHANCE,...", help="Among twice, late, swapped, lost, slow_seconds, rate_limit.")
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
    framework: Annotated[
        Framework, typer.Option("--for", help="Whose variables to print.", case_sensitive=False)
    ] = Framework.PYTHON,
) -> None:
    """Run the Clerk emulator: both APIs, session tokens, webhooks, a control page. It listens on this machine only."""
    if context.invoked_subcommand is not None:
        return
    try:
        from tenantry.dev.emulator import LocalClerk, build_emulator, read_seed_file
        from tenantry.dev.screen import Screen
        from tenantry.dev.serving import address_of, claim_port, serve
        from tenantry.emulator.app import create_app
        from tenantry.emulator.settings import Options
    except ModuleNotFoundError as error:
        hint = "Run: pip install 'tenantry[dev]'"
        raise ConfigurationError(f"'tenantry emulator' needs the package '{error.name}'.", hint=hint) from None
    screen = Screen()
    with contextlib.closing(claim_port(port, port, "--port")) as claimed:
        started = build_emulator(
            screen,
            folder=data,
            seed=seed,
            seed_data=read_seed_file(seed_file),
            settings=_settings(slugs, personal_accounts),
            options=Options(token_version=1 if token_version == 1 else 2, rate_limits=rate_limits),
            webhook_urls=webhook_url or [],
            disorder=_disorder(disorder),
            speed=speed,
        )
        clerk = LocalClerk(address_of(claimed), started)
        with contextlib.closing(started), contextlib.suppress(KeyboardInterrupt):
            serve(create_app(started), claimed, lambda: screen.show(_summarize(clerk, framework, webhook_url or [])))


def _summarize(clerk: LocalClerk, framework: Framework, webhook_urls: list[str]) -> Summary:
    """What a person needs: where it is, the app's environment, who there is, a token."""
    from tenantry.dev.screen import Summary

    addresses = [("Clerk emulator", clerk.url), ("Control page", f"{clerk.url}/")]
    addresses += [("Webhooks go to", url) for url in webhook_urls] or [("Webhooks go", "nowhere: see --webhook-url")]
    variables = clerk.nextjs_environment() if framework is Framework.NEXTJS else clerk.environment()
    environment = "\n  ".join(f"export {name}={value}" for name, value in variables.items())
    steps = [("your app's environment", environment)]
    if framework is Framework.NEXTJS:
        rewrite = f'{{ source: "/__clerk/:path*", destination: "{clerk.url}/__clerk/:path*" }}'
        steps.append(("and a rewrite in next.config", rewrite))
    tokens = [
        (f"a session token of {person.name} in {organization}", clerk.token_command(person, organization))
        for person in clerk.people()
        for organization, _ in person.memberships
    ]
    return Summary(addresses, clerk.people(), [*steps, *tokens[:1]])


def _disorder(text: str) -> Disorder:
    from tenantry.emulator.disorder import parse

    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError("--disorder cannot be read.", detail=str(error)) from None


def _settings(slugs: bool | None, personal_accounts: bool | None) -> dict[str, Any]:
    """Only what is asked for: the rest stays as it was kept."""
    asked = {"slugs": slugs, "membership_required": None if personal_accounts is None else not personal_accounts}
    return {name: value for name, value in asked.items() if value is not None}
