"""`tenantry status`: whether mirror, inbox and feed are well, and what to type where they are not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tenantry import mirror
from tenantry.cli.db import DatabaseUrl, Json
from tenantry.database import connect, run
from tenantry.errors import ConfigurationError, DatabaseUnavailable, SchemaError, TenantryError

if TYPE_CHECKING:
    from tenantry.settings import Settings
    from tenantry.silence import Silence
    from tenantry.status import Facts, Status

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def status(
    ask_clerk: Annotated[
        bool,
        typer.Option("--ask-clerk", help="Ask Clerk whether something changed that no webhook told of."),
    ] = False,
    as_json: Json = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Say whether webhooks, mirror, feed and isolation are well, a line each. Exits with 1 where something is not."""
    import os

    from tenantry.settings import Settings

    url = database_url or os.environ.get("TENANTRY_MIGRATION_URL") or os.environ.get("DATABASE_URL")
    settings: Settings | ConfigurationError
    try:
        settings = Settings.from_env(database_url=url)
    except ConfigurationError as error:  # one line of the status: the others are told all the same
        settings = error
    if ask_clerk and isinstance(settings, Settings) and settings.secret_key is None:
        raise ConfigurationError("There is no key to ask Clerk with.", hint="Set CLERK_SECRET_KEY.")
    found = _gather(settings, url, ask_clerk=ask_clerk)
    if as_json:
        shown = {"level": found.level, "at": found.at.isoformat(), "checks": [asdict(check) for check in found.checks]}
        typer.echo(json.dumps(shown))
    else:
        _print(found)
    raise typer.Exit(0 if found.level == "ok" else 1)


def _gather(settings: Settings | ConfigurationError, url: str | None, *, ask_clerk: bool) -> Status:
    from tenantry import schema, status

    installed = None
    try:
        with connect(url) as connection:
            installed = schema.status(connection)
            facts = status.read_facts(run(connection, mirror.status()))
            findings = len(schema.check(connection))
    except (DatabaseUnavailable, SchemaError) as error:
        return status.without_facts(error, installed=installed, with_detail=True)
    unset = settings if isinstance(settings, ConfigurationError) else None
    silence, unasked = _ask(settings, facts) if ask_clerk else (None, None)
    return status.judge(
        facts,
        reconcile_every=0 if isinstance(settings, ConfigurationError) else settings.reconcile,
        installed=installed,
        findings=findings,
        asked=ask_clerk,
        silence=silence,
        unasked=unasked,
        unset=unset,
    )


def _ask(settings: Settings | ConfigurationError, facts: Facts) -> tuple[Silence | None, TenantryError | None]:
    """What Clerk shows, or why it could not be asked."""
    if isinstance(settings, ConfigurationError):
        return None, settings
    try:
        return asyncio.run(_ask_clerk(settings, facts)), None
    except TenantryError as error:
        return None, error


async def _ask_clerk(settings: Settings, facts: Facts) -> Silence | None:
    from tenantry.pool import Pool
    from tenantry.silence import ask_clerk

    pool = Pool(settings.database_url or "", size=1)
    await pool.open()
    try:
        return await ask_clerk(settings, pool.run, facts.silent_since, facts.instance_id)
    finally:
        await pool.close()


def _print(found: Status) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)  # never wrapped, so that a command can be copied
    width = max(len(check.name) for check in found.checks)
    for check in found.checks:
        line = Text(f"{check.name:<{width}}  ").append(f"{check.level:<4}", _STYLES[check.level])
        console.print(line.append(f"  {check.says}"))
        for number, step in enumerate(check.next):
            console.print(Text(f"{'':<{width}}  {'' if number else 'next':<4}  ", "dim").append(step, "cyan"))
