"""What every test may ask for: a PostgreSQL of both ends of the version range, a fresh database, a tool or a skip.

Options: `--pg=16` runs database tests on that version only. With `TENANTRY_REQUIRE_ALL=1` what a machine lacks fails
the tests that need it, instead of skipping them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from databases import ANY, APP, OWNER, SUPERUSER, SUPPORTED, VERSIONS, Database, Server, start_server
from tenantry.dev.binaries import find_binaries
from tenantry.errors import ConfigurationError

TEMPLATE = "tenantry_template"

# A property fails for what is wrong, never for a busy machine: Hypothesis would else give each example 200 ms.
settings.register_profile("unhurried", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg", type=int, action="append", choices=SUPPORTED, help="run database tests on this PostgreSQL version only"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "requires(*tools): skip, with a reason, where one of these tools is missing")
    config.addinivalue_line("markers", "attack(*numbers): shows that these scenarios of tests/attacks do not happen")
    config.addinivalue_line("markers", "breach(*numbers): shows that they do happen once the defence is removed")
    # A shell's background job ignores SIGINT, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for version in config.getoption("--pg") or ():  # else all its tests would skip, and the run be green
        try:
            find_binaries(version)
        except ConfigurationError as error:
            raise pytest.UsageError(f"{error.message} {error.detail}") from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for tool in mark.args:
            if not TOOLS[tool]():
                lack(f"{tool} is not installed on this machine, or too old")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg_version" in metafunc.fixturenames:
        chosen = chosen_versions(metafunc.config)
        metafunc.parametrize("pg_version", chosen, ids=[f"pg{version}" for version in chosen], scope="session")


def chosen_versions(config: pytest.Config) -> Sequence[int]:
    return config.getoption("--pg") or VERSIONS


def lack(reason: str) -> NoReturn:
    """Skips a test that this machine could be set up to run; fails it where everything is required."""
    if os.environ.get("TENANTRY_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}, and TENANTRY_REQUIRE_ALL=1 is set", pytrace=False)
    pytest.skip(reason)


def has_chromium() -> bool:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return any(shutil.which(name) for name in names)


def has_node(least: tuple[int, int] = (20, 9)) -> bool:
    """Next.js 16 takes no older one, as Debian 12 has it."""
    node = shutil.which("node")
    if node is None:
        return False
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= least


TOOLS: dict[str, Callable[[], bool]] = {
    "node": cache(has_node),
    "npm": lambda: shutil.which("npm") is not None,
    "curl": lambda: shutil.which("curl") is not None,
    "psql": lambda: shutil.which("psql") is not None,
    "git": lambda: shutil.which("git") is not None,
    "chromium": has_chromium,
    "pgbouncer": lambda: shutil.which("pgbouncer") is not None,
    "redis-server": lambda: shutil.which("redis-server") is not None,
}


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Callable[[int], Server]]:
    """Starts a version's server on first use and keeps it for the session."""
    newest = max(chosen_versions(pytestconfig))
    running: dict[int, Server] = {}
    with reachable_folder() as folder:

        def serve(version: int) -> Server:
            version = newest if version == ANY else version
            if version not in running:
                try:
                    running[version] = start_server(version, folder)
                except ConfigurationError as error:
                    lack(error.message)
            return running[version]

        yield serve
        for server in running.values():
            server.postgres.stop()


@pytest.fixture(scope="session")
def server(pg_version: int, servers: Callable[[int], Server]) -> Server:
    """A server of each version that is run, in turn."""
    return servers(pg_version)


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of a database with the tenantry schema, made once a server."""
    server.make_template(TEMPLATE, _install_schema)
    return TEMPLATE


@pytest.fixture
def database(server: Server, template: str) -> Iterator[Database]:
    """A fresh database with the tenantry schema."""
    made = server.create(template)
    yield made
    server.drop(made)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A fresh database with nothing in it; roles of other tests exist, as roles are the server's."""
    made = server.create()
    yield made
    server.drop(made)


@pytest.fixture
def lone_server(server: Server, open_tmp_path: Path) -> Iterator[Server]:
    """A server of its own, on which no role of tenantry exists: roles are shared by all databases of a server."""
    alone = start_server(server.version, open_tmp_path)
    yield alone
    alone.postgres.stop()


@pytest.fixture
def open_tmp_path() -> Iterator[Path]:
    """A temporary folder that a server without root's rights can reach."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _install_schema(database: Database) -> None:
    from tenantry import schema

    with database.connect(SUPERUSER) as connection:
        schema.install(connection, app_roles=[APP, OWNER])


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter, as root's servers run as one. pytest's own are closed, and every
    further pytest of this user closes them again."""
    with TemporaryDirectory(prefix="tenantry-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
