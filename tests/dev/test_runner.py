"""`tenantry dev` wires database, emulator and app together, and takes everything down with it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from databases import APP, SUPERUSER, Database
from dev.runs import UP, running
from processes import is_alive, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "documents" / "api"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

AN_APP = """
import os
import psycopg
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

received = []

async def state(request):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        query = "select current_user, rolsuper or rolbypassrls from pg_roles where rolname = current_user"
        login, privileged = connection.execute(query).fetchone()
        kept = connection.execute("select to_regclass('made_by_migration') is not null").fetchone()[0]
    names = [name for name in os.environ if name.startswith(("CLERK_", "TENANTRY_"))]
    return JSONResponse({"login": login, "privileged": privileged, "migrated": kept, "received": received,
                         "environment": {name: os.environ[name] for name in names}, "folder": os.getcwd()})

async def webhook(request):
    received.append((await request.json())["type"])
    return Response(status_code=204)

app = Starlette(routes=[Route("/", state), Route("/webhooks/clerk", webhook, methods=["POST"])])
"""

ODD_SEED = """
[[users]]
email = "o'hara@example.test"

[[organizations]]
name = "O'Hara & Söhne $(id) #1"
created_by = "o'hara@example.test"
"""

A_MIGRATION = """
import os, psycopg
with psycopg.connect(os.environ["TENANTRY_MIGRATION_URL"]) as connection:
    connection.execute("create table if not exists made_by_migration as select current_user::text as owner")
"""


@pytest.fixture
def project(open_tmp_path: Path) -> Path:
    folder = open_tmp_path / "project"
    folder.mkdir()
    (folder / "an_app.py").write_text(AN_APP)
    (folder / "a_migration.py").write_text(A_MIGRATION)
    return folder


def test_the_app_gets_an_ordinary_login_and_the_emulators_keys(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        state = run.state()
    assert (state["login"], state["privileged"]) == ("app", False)
    assert state["environment"].keys() >= {
        "CLERK_API_URL",
        "CLERK_PUBLISHABLE_KEY",
        "CLERK_SECRET_KEY",
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "TENANTRY_MIGRATION_URL",
    }
    assert f"http://localhost:{run.app_url.rpartition(':')[2]}" in state["environment"]["CLERK_AUTHORIZED_PARTIES"]
    assert state["folder"] == str(project)


def test_the_screen_names_the_people_and_prints_a_line_per_webhook(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        run.read_until(UP)
        assert "ada@example.test" in run.printed
        assert "delivered 204" in run.read_until("organization.created")
        assert wait_until(lambda: "organization.created" in run.state()["received"])


@pytest.mark.requires("curl")
def test_the_command_that_signs_in_works_as_it_is_printed(project: Path) -> None:
    with running(project, "--app", "an_app:app") as run:
        command = run.read_until("TOKEN=").strip()
        run.read_until(UP)
        answer = subprocess.run(["sh", "-c", f'{command}; echo "$TOKEN"'], capture_output=True, text=True)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", answer.stdout.strip()), answer


@pytest.mark.requires("curl")
def test_a_name_with_odd_characters_is_quoted_for_the_shell(project: Path) -> None:
    (project / "seed.toml").write_text(ODD_SEED)
    with running(project, "--app", "an_app:app", "--seed-file", "seed.toml") as run:
        command = run.read_until("TOKEN=").strip()
        run.read_until(UP)
        answer = subprocess.run(["sh", "-c", f'{command}; echo "$TOKEN"'], capture_output=True, text=True)
    assert answer.stdout.count(".") == 2, answer


@pytest.mark.requires("curl")
def test_what_the_demo_proposes_works_as_it_is_printed(project: Path) -> None:
    with running(project) as run:
        run.read_until(UP)
        commands = re.findall(r"^  (TOKEN=.*|curl .*)$", run.printed, re.MULTILINE)
        assert len(commands) == 4
        answer = subprocess.run(["sh", "-ec", "\n".join([*commands, ""])], capture_output=True, text=True)
    assert answer.stdout.count('"text":"hello"') == 2, answer
    assert answer.stdout.endswith("[]"), answer  # the other organization has none


@ON_LINUX
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("reload", ["--reload", "--no-reload"])
def test_no_process_is_left_behind(project: Path, number: signal.Signals, code: int, reload: str) -> None:
    with running(project, "--app", "an_app:app", reload) as run:
        run.read_until(UP)
        everyone = run.everyone()
        assert len(everyone) > 1
        run.process.send_signal(number)
        left, printed = run.finish()
        assert left == code
        assert "Traceback" not in printed
        assert wait_until(lambda: not any(map(is_alive, everyone)))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("app = None", "not an ASGI app"),
    ],
)
def test_an_app_that_fails_to_import_ends_the_run_with_a_sentence(project: Path, code: str, told: str) -> None:
    (project / "broken.py").write_text(code)
    with running(project, "--app", "broken:app") as run:
        code_left, printed = run.finish()
    assert code_left == 2
    assert told in printed
    assert "Traceback" not in printed


def test_an_app_whose_start_up_fails_ends_the_run(project: Path) -> None:
    (project / "broken.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no licence'})\n"
    )
    with running(project, "--app", "broken:app") as run:
        code, printed = run.finish()
    assert code == 1
    assert "no licence" in printed
    assert "The app did not start." in printed


def test_migrations_run_as_the_owner_before_the_app(project: Path) -> None:
    with running(project, "--app", "an_app:app", "--migrate", f"{sys.executable} a_migration.py") as run:
        run.read_until(UP)
        assert run.state()["migrated"] is True


def test_the_example_runs_as_make_dev_runs_it(project: Path) -> None:
    options = ("--app", "documents.main:app", "--app-dir", str(EXAMPLE), "--migrate", "alembic upgrade head")
    with running(project, *options) as run:
        run.read_until(UP)
        assert "delivered 200" in run.read_until("organizationMembership.created")


@pytest.mark.parametrize("command", ["false", "no-such-command", "an 'unfinished quote"])
def test_a_failing_migration_ends_the_run(project: Path, command: str) -> None:
    with running(project, "--app", "an_app:app", "--migrate", command) as run:
        code, printed = run.finish()
    assert code == 2
    assert f"The migration command '{command}'" in printed
    assert ("TENANTRY_MIGRATION_URL" in printed) == (command == "false")
    assert "Traceback" not in printed


@ON_LINUX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_migration_is_left_behind(project: Path, number: signal.Signals) -> None:
    (project / "slow.py").write_text("import time\nprint('migrating', flush=True)\ntime.sleep(600)\n")
    with running(project, "--app", "an_app:app", "--migrate", f"{sys.executable} slow.py") as run:
        run.read_until("migrating")
        everyone = run.everyone()
        run.process.send_signal(number)
        assert wait_until(lambda: not any(map(is_alive, everyone)))


def test_the_data_is_kept_between_runs(project: Path) -> None:
    with running(project, "--app", "an_app:app", "--migrate", f"{sys.executable} a_migration.py") as first:
        first.read_until(UP)
        key = first.state()["environment"]["CLERK_SECRET_KEY"]
        first.process.send_signal(signal.SIGINT)
        first.finish()
    with running(project, "--app", "an_app:app") as second:
        second.read_until(UP)
        state = second.state()
    assert state["migrated"] is True
    assert state["environment"]["CLERK_SECRET_KEY"] == key
    assert (project / ".tenantry" / ".gitignore").read_text() == "*\n"


def test_a_second_run_in_the_folder_names_the_first(project: Path) -> None:
    with running(project, "--app", "an_app:app") as first:
        first.read_until(UP)
        with running(project, "--app", "an_app:app") as second:
            code, printed = second.finish()
        assert code == 2
        assert f"in use by process {first.process.pid}" in printed
        assert first.state()["login"] == "app"


def test_a_given_database_is_used_instead_of_the_embedded_server(project: Path, empty_database: Database) -> None:
    given = {"DATABASE_URL": empty_database.dsn(APP), "TENANTRY_MIGRATION_URL": empty_database.dsn(SUPERUSER)}
    with running(project, "--app", "an_app:app", **given) as run:
        run.read_until(UP)
        assert run.state()["login"] == APP
    assert not (project / ".tenantry" / "postgres").exists()
    with empty_database.connect(SUPERUSER) as connection:
        assert connection.execute("select to_regnamespace('tenantry') is not null").fetchone() == (True,)


def test_a_seed_file_that_is_wrong_ends_the_run_with_a_sentence(project: Path) -> None:
    (project / "seed.toml").write_text("[[nonsense")
    with running(project, "--app", "an_app:app", "--seed-file", "seed.toml") as run:
        code, printed = run.finish()
    assert code == 2
    assert "seed.toml" in printed
    assert "Traceback" not in printed
