"""`tenantry dev`: PostgreSQL, the Clerk emulator and an app, wired together on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.errors import ConfigurationError


def dev(
    app: Annotated[
        str | None, typer.Option(metavar="MODULE:APP", help="Your ASGI app. Without it a small demo runs.")
    ] = None,
    app_dir: Annotated[
        Path, typer.Option(exists=True, file_okay=False, resolve_path=True, help="The folder your app runs in.")
    ] = Path(),
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The app's port. Default: the first free one from 8000 on.")
    ] = None,
    emulator_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The emulator's. Default: the first free one from 4010 on.")
    ] = None,
    data: Annotated[
        Path, typer.Option(file_okay=False, resolve_path=True, help="Where databases and keys stay between runs.")
    ] = Path(".tenantry"),
    seed_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, resolve_path=True, help="People and organizations to begin with."),
    ] = None,
    migrate: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help='Run before the app, as the tables\' owner: "alembic upgrade head".'),
    ] = None,
    reload: Annotated[
        bool, typer.Option(help="Start your app again when a .py or .toml file of its folder changes.")
    ] = True,
) -> None:
    """Run PostgreSQL, the Clerk emulator and your app together. Ctrl-C stops everything.

    The app finds DATABASE_URL (an ordinary login) and CLERK_* in its environment; migrations find
    TENANTRY_MIGRATION_URL (the tables' owner). A DATABASE_URL that is already set is used instead of the embedded
    server.
    """
    try:
        from tenantry.dev.runner import Options, run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"'tenantry dev' needs the package '{error.name}'.", hint="Run: pip install 'tenantry[dev]'"
        ) from None
    run(
        Options(
            app=app,
            app_dir=app_dir,
            port=port,
            emulator_port=emulator_port,
            data=data,
            seed_file=seed_file,
            migrate=migrate,
            reload=reload,
        )
    )
