"""The terminal of a development run shows what changes, as it happens and by name; and webhooks that fail."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from databases import SUPERUSER, Database
from dev.runs import UP, Run, running
from processes import wait_until
from sql.clerk_objects import event, membership, organization, role, user
from sql.mirror import Mirror
from tenantry.dev.emulator import _show
from tenantry.dev.feed import following
from tenantry.dev.screen import Screen
from tenantry.emulator.deliveries import Attempt


@pytest.fixture
def printed() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(printed: io.StringIO) -> Screen:
    return Screen(Console(file=printed, width=40, highlight=False, soft_wrap=True))


@pytest.fixture
def mirror(database: Database) -> Iterator[Mirror]:
    with database.connect(SUPERUSER) as connection:
        yield Mirror(connection)


def lines(printed: io.StringIO) -> list[str]:
    """Without the time."""
    return [re.sub(r" {2,}", "  ", line[10:]).strip() for line in printed.getvalue().splitlines()]


def test_changes_are_shown_by_name_from_now_on(
    database: Database, mirror: Mirror, screen: Screen, printed: io.StringIO
) -> None:
    mirror.deliver(event("user.created", user("user_0", first_name="Before")))
    mirror.run("select tenantry.sequence_changes_v1()")
    with following(database.dsn(), screen):
        org = organization("org_1", name="Acme [bold]")
        mirror.deliver(event("user.created", user("user_1", first_name="Ada", last_name="Lovelace")))
        mirror.deliver(event("organizationMembership.created", membership(of=org, user_id="user_1", role="org:admin")))
        mirror.deliver(event("role.created", role()))
        assert wait_until(lambda: len(lines(printed)) >= 4)
    assert lines(printed) == [
        "user.created  Ada Lovelace  (webhook)",
        "tenant.created  Acme [bold]  (webhook)",
        "member.joined  Ada Lovelace  org:admin  Acme [bold]  (webhook)",
        f"role.created  {role()['key']}  (webhook)",
    ]


def test_who_was_known_keeps_the_name_when_deleted(
    database: Database, mirror: Mirror, screen: Screen, printed: io.StringIO
) -> None:
    with following(database.dsn(), screen):
        mirror.deliver(event("user.created", user("user_1", first_name="Ada", last_name=None)))
        assert wait_until(lambda: len(lines(printed)) == 1)
        mirror.deliver(event("user.deleted", {"id": "user_1", "object": "user", "deleted": True}))
        assert wait_until(lambda: len(lines(printed)) == 2)
    assert lines(printed)[1] == "user.deleted  Ada  (webhook)"


def test_it_goes_on_after_its_connection_was_lost(
    database: Database, mirror: Mirror, screen: Screen, printed: io.StringIO
) -> None:
    others = "from pg_stat_activity where usename = 'app_login' and datname = current_database()"
    with following(database.dsn(), screen):
        mirror.deliver(event("organization.created", organization("org_1", name="Acme")))
        assert wait_until(lambda: len(lines(printed)) == 1)
        assert mirror.column(f"select pg_terminate_backend(pid) {others}") == [True]
        mirror.deliver(event("organization.created", organization("org_2", name="Birch")))
        assert wait_until(lambda: len(lines(printed)) == 2)


def test_a_database_that_is_away_stops_nothing(screen: Screen, printed: io.StringIO) -> None:
    with following("postgresql://nobody@127.0.0.1:1/nothing", screen):
        pass
    assert printed.getvalue() == ""


@pytest.mark.parametrize(
    ("status", "excerpt", "shown"),
    [
        (200, '{"outcome": "applied", "message_id": "msg_1"}', "delivered 200"),
        (200, '{"outcome": "failed", "message_id": "msg_1"}', "dead letter 200"),
        (204, "", "delivered 204"),
        (200, "[1, 2", "delivered 200"),
        (200, '["failed"]', "delivered 200"),
    ],
)
def test_a_dead_letter_is_told_from_a_delivery(
    screen: Screen, printed: io.StringIO, status: int, excerpt: str, shown: str
) -> None:
    attempt = Attempt("dlv_1", "msg_1", "user.created", "http://app", 1, 0, "delivered", status, excerpt=excerpt)
    _show(screen, attempt)
    assert lines(printed) == [f"user.created  {shown}  msg_1"]


def call(run: Run, method: str, path: str, **content: str) -> None:
    """Asks the run's Backend API."""
    key = re.search(r"Bearer (sk_test_\w+)", run.printed)
    url = re.search(r"Clerk emulator +(http://127\.0\.0\.1:\d+)", run.printed)
    assert key
    assert url
    headers = {"Authorization": f"Bearer {key[1]}", "Content-Type": "application/json"}
    body = json.dumps(content).encode() if content else None
    request = urllib.request.Request(f"{url[1]}/v1{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=30):
        pass


AN_APP = """
from starlette.applications import Starlette
from tenantry.starlette import Tenantry

tenancy = Tenantry.from_env()
app = Starlette(lifespan=tenancy.lifespan)
tenancy.install(app)
"""


def test_a_run_shows_what_webhooks_change(open_tmp_path: Path) -> None:
    (open_tmp_path / "an_app.py").write_text(AN_APP)
    with running(open_tmp_path, "--app", "an_app:app") as run:
        run.read_until(UP)
        assert "Ada Lovelace  org:admin  Acme  (webhook)" in run.read_until("Lovelace  org:admin")
        call(run, "POST", "/organizations", name="Initech")
        assert "tenant.created" in run.read_until("Initech")
