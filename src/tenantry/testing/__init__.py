"""A pytest plugin for apps that use Tenantry: tenants, members, signed tokens and webhooks, a fresh database a test.

Load it with `-p tenantry.testing` in pytest's `addopts`: see `docs/testing.md`. Its assertions are no `assert`
statements: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ModuleNotFoundError("tenantry.testing is a pytest plugin: pip install pytest", name="pytest") from None

from tenantry.database import connect
from tenantry.errors import TenantryError
from tenantry.settings import Settings
from tenantry.testing.assertions import assert_hidden, check_isolation
from tenantry.testing.clerk import Clerk, Member, Tenant, acting_as
from tenantry.testing.databases import Database, Migrate, Place, Workshop, find_place, running
from tenantry.testing.instance import Instance, Webhook

__all__ = [
    "Database",
    "Instance",
    "MakeTenant",
    "Member",
    "Migrate",
    "Tenant",
    "Webhook",
    "acting_as",
    "assert_hidden",
    "check_isolation",
]


class MakeTenant(Protocol):
    """The fixture `make_tenant`."""

    def __call__(self, name: str = "Acme", *, slug: str | None = None) -> Tenant:
        """A new organization."""


@dataclass(frozen=True)
class _Run:
    """What is decided as pytest starts, before anything of the app is imported."""

    instance: Instance
    place: Place
    environment: dict[str, str]
    replaced: dict[str, str | None]


_RUN = pytest.StashKey[_Run]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Comes when the plugin is loaded by `-p`: before a conftest.py that imports the app."""
    _enter(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Comes before a test module is imported, however the plugin is loaded."""
    _enter(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    for name, former in run.replaced.items():
        if former is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = former


def _enter(config: pytest.Config) -> None:
    """Replaces the shell's Clerk instance and database by those of the run."""
    if _RUN not in config.stash:
        try:
            instance, place = Instance(), find_place(config.rootpath)
        except TenantryError as error:
            raise pytest.UsageError(str(error)) from None
        environment = instance.environment() | place.database.environment()
        roles_file = config.rootpath / "tenantry.toml"
        if roles_file.is_file():  # also where pytest is started elsewhere
            environment["TENANTRY_ROLES_FILE"] = os.environ.get("TENANTRY_ROLES_FILE") or str(roles_file)
        replaced = {name: os.environ.get(name) for name in environment}
        config.stash[_RUN] = _Run(instance, place, environment, replaced)
    os.environ.update(config.stash[_RUN].environment)


@pytest.fixture(scope="session")
def clerk_instance(pytestconfig: pytest.Config) -> Instance:
    """The Clerk instance of the run: signs any session token and any event."""
    return pytestconfig.stash[_RUN].instance


@pytest.fixture(scope="session")
def tenantry_settings() -> Settings:
    """The run's settings, for an app that is built from them."""
    return Settings.from_env()


@pytest.fixture(scope="session")
def tenantry_migrate() -> Migrate:
    """Override it to make your tables: a command, or a function that takes the owner's URL."""
    return None


@pytest.fixture(scope="session")
def tenantry_workshop(
    pytestconfig: pytest.Config, tenantry_settings: Settings, tenantry_migrate: Migrate
) -> Iterator[Workshop]:
    """The server with the migrated template; made once, when a test first wants a database."""
    place = pytestconfig.stash[_RUN].place
    with _told_briefly(), ExitStack() as stack:
        stack.enter_context(running(place))
        workshop = Workshop(place, stack.enter_context(connect(place.admin_url)))
        workshop.claim()
        stack.callback(workshop.drop)
        workshop.make_template(tenantry_migrate, tenantry_settings.roles_file, pytestconfig.rootpath)
        yield workshop


@pytest.fixture
def tenantry_database(tenantry_workshop: Workshop) -> Database:
    """A fresh database for this test, at the DATABASE_URL of the run."""
    return tenantry_workshop.renew()


@pytest.fixture
def make_tenant(
    tenantry_database: Database, clerk_instance: Instance, tenantry_settings: Settings
) -> Iterator[MakeTenant]:
    """Makes organizations: `make_tenant("Acme").member("ada")`."""
    with connect(tenantry_database.url) as connection:
        clerk = Clerk(clerk_instance, tenantry_settings, connection)

        def make(name: str = "Acme", *, slug: str | None = None) -> Tenant:
            return clerk.create_organization(name, slug=slug)

        yield make


@contextmanager
def _told_briefly() -> Iterator[None]:
    """What is wrong and what to do about it, without the way there."""
    try:
        yield
        return
    except TenantryError as error:
        told = str(error)
    pytest.fail(told, pytrace=False)  # here, where no traceback of the error comes along
