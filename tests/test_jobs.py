"""Envelopes say for whom a job runs, and nothing else will do; and the workers of job queues keep to it."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from databases import OWNER, SUPERUSER, Database, Server
from instance import Document, World, fresh_database, gone, joined, removed, serving
from snippets import blocks
from sql.clerk_objects import INSTANCE
from tenantry import jobs
from tenantry.context import Scope, TenantContext, current_tenant, tenant_context, use_scope
from tenantry.errors import (
    BadEnvelope,
    ConfigurationError,
    EnvelopeExpired,
    InvalidArgument,
    JobRefused,
    NotAMember,
    NoTenant,
    OrganizationDeleted,
    TenantryError,
    UnknownTenant,
    WrongInstance,
)
from tenantry.fastapi import CurrentTenant
from tenantry.jobs import Envelope, job_context, open_envelope, seal

TENANT = UUID("0b8a7f6e-0000-4000-8000-000000000001")
SECRET, OTHER = "an old secret that only tests have", "a new secret that only tests have"
SEALED_AT = 1_800_000_000


def scope(user_id: str | None = "user_1", instance_id: str | None = "ins_1") -> Scope:
    """Of a member whom the database has let in."""
    context = TenantContext(id=TENANT, org_id="org_1", slug=None, name=None, user_id=user_id, role="org:member")
    return Scope(key=("org_1", user_id), context=context, instance_id=instance_id)


def sealed(secret: str = SECRET, *, ttl: timedelta = jobs.DAY, **of: Any) -> str:
    with use_scope(scope(**of)):
        return seal(ttl=ttl, secrets=[secret])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    return lambda now: monkeypatch.setattr("tenantry.jobs.time.time", lambda: now)


# --- the envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user_id", ["user_1", None])
@pytest.mark.parametrize("instance_id", ["ins_1", None])
def test_an_envelope_says_what_was_sealed(
    user_id: str | None, instance_id: str | None, clock: Callable[[float], None]
) -> None:
    clock(SEALED_AT)
    text = sealed(user_id=user_id, instance_id=instance_id, ttl=timedelta(hours=1))
    assert open_envelope(text, secrets=[SECRET]) == Envelope(
        tenant_id=TENANT,
        user_id=user_id,
        instance_id=instance_id,
        issued_at=SEALED_AT,
        expires_at=SEALED_AT + 3600,
    )
    assert text.isascii()
    assert len(text) < 300
    assert not set(text) & set(' \n/+=?&"')


def test_an_envelope_expires_with_a_minutes_patience(clock: Callable[[float], None]) -> None:
    clock(SEALED_AT)
    text = sealed(ttl=timedelta(hours=1))
    clock(SEALED_AT + 3600 + 59)
    assert open_envelope(text, secrets=[SECRET]).user_id == "user_1"
    clock(SEALED_AT + 3600 + 61)
    with pytest.raises(EnvelopeExpired, match="61 s ago") as caught:
        open_envelope(text, secrets=[SECRET])
    assert text not in str(caught.value)


def test_an_envelope_lasts_a_day_unless_said(clock: Callable[[float], None]) -> None:
    clock(SEALED_AT)
    assert open_envelope(sealed(), secrets=[SECRET]).expires_at == SEALED_AT + 86_400


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta(days=367), timedelta.max])
def test_an_envelope_cannot_last_for_ever_or_no_time(ttl: timedelta) -> None:
    with pytest.raises(InvalidArgument, match="cannot be good for"):
        sealed(ttl=ttl)


def test_an_envelope_of_the_future_is_refused(clock: Callable[[float], None]) -> None:
    clock(SEALED_AT)
    text = sealed()
    clock(SEALED_AT - 59)
    open_envelope(text, secrets=[SECRET])
    clock(SEALED_AT - 120)
    with pytest.raises(BadEnvelope, match="120 s in the future"):
        open_envelope(text, secrets=[SECRET])


def test_while_a_secret_is_rotated_both_open_and_the_first_seals() -> None:
    old, new = sealed(SECRET), sealed(OTHER)
    for text in (old, new):
        assert open_envelope(text, secrets=[OTHER, SECRET]).tenant_id == TENANT
    with use_scope(scope()):
        assert open_envelope(seal(secrets=[OTHER, SECRET]), secrets=[OTHER]).tenant_id == TENANT
    with pytest.raises(BadEnvelope):
        open_envelope(old, secrets=[OTHER])


def test_an_altered_envelope_is_refused_whichever_character_it_is() -> None:
    text = sealed()
    for place, character in enumerate(text):
        altered = text[:place] + ("A" if character != "A" else "B") + text[place + 1 :]
        for spoilt in (altered, text[:place], text[:place] + text[place + 1 :]):
            with pytest.raises(BadEnvelope) as caught:
                open_envelope(spoilt, secrets=[SECRET])
            assert place < 8 or spoilt not in str(caught.value)


def test_one_envelopes_facts_do_not_go_with_anothers_signature() -> None:
    mine, theirs = sealed().split("."), sealed(user_id="user_2").split(".")
    with pytest.raises(BadEnvelope):
        open_envelope(".".join((mine[0], theirs[1], mine[2])), secrets=[SECRET])


def test_the_secret_signs_nothing_else_that_passes_for_an_envelope() -> None:
    """Whoever has the app sign chosen texts with the same secret, plainly, gains no envelope."""
    import hmac

    signed = sealed().rpartition(".")[0]
    forged = jobs._encode(hmac.digest(SECRET.encode(), signed.encode(), "sha256"))
    with pytest.raises(BadEnvelope):
        open_envelope(f"{signed}.{forged}", secrets=[SECRET])


@given(st.text(st.characters(codec=None)) | st.text("tyj1.AZaz09-_=") | st.binary() | st.none())
def test_whatever_else_comes_out_of_a_queue_is_refused(odd: Any) -> None:
    with pytest.raises(BadEnvelope):
        open_envelope(odd, secrets=[SECRET])


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(str(TENANT))


@given(
    scalars
    | st.lists(scalars, max_size=3)
    | st.dictionaries(st.sampled_from(["tenant", "user", "instance", "issued", "expires"]), scalars)
)
def test_what_we_signed_and_never_sealed_is_refused(told: Any) -> None:
    signed = f"tyj1.{jobs._encode(json.dumps(told).encode())}"
    with pytest.raises(JobRefused):
        open_envelope(f"{signed}.{jobs._sign(SECRET, signed)}", secrets=[SECRET])


def test_an_envelope_of_another_version_is_refused() -> None:
    signed = f"tyj2.{sealed().split('.')[1]}"
    with pytest.raises(BadEnvelope):
        open_envelope(f"{signed}.{jobs._sign(SECRET, signed)}", secrets=[SECRET])


@pytest.mark.parametrize("secrets", [None, [], ["short"], [SECRET, ""]])
def test_without_a_proper_secret_nothing_is_sealed_or_opened(secrets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTRY_JOB_SECRET", raising=False)
    with use_scope(scope()), pytest.raises(ConfigurationError, match="jobs") as caught:
        seal(secrets=secrets)
    assert "TENANTRY_JOB_SECRET" in str(caught.value)
    with pytest.raises(ConfigurationError):
        open_envelope(sealed(), secrets=secrets)


def test_without_a_tenant_there_is_nothing_to_seal() -> None:
    with pytest.raises(NoTenant, match="runs for no tenant"):
        seal(secrets=[SECRET])
    with tenant_context(TENANT, reason="test"), pytest.raises(NoTenant, match="not been entered"):
        seal(secrets=[SECRET])


def test_the_environments_secret_is_used_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_JOB_SECRET", f"{'s' * 32},{'t' * 32}")
    with use_scope(scope()):
        text = seal()
    assert open_envelope(text, secrets=["s" * 32]) == open_envelope(text)


# --- the job ----------------------------------------------------------------------------------------------------------


def test_a_job_works_for_the_envelopes_tenant_user_and_instance() -> None:
    with job_context(sealed(), reason="word count", secrets=[SECRET]) as opened:
        call = opened.enter()
    assert call.arguments == (str(TENANT), "word count", '{"user_id":"user_1","instance_id":"ins_1"}')
    with pytest.raises(NoTenant):
        current_tenant()


def test_a_job_with_a_bad_envelope_does_not_begin_and_is_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    text = sealed(OTHER)
    with pytest.raises(BadEnvelope), job_context(text, reason="word count", secrets=[SECRET]):
        pytest.fail("it began")
    assert "bad_envelope: the job 'word count' was refused" in caplog.text
    assert text not in caplog.text


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """With user_1 in org_1 and user_2 in org_2, and an app that seals."""
    monkeypatch.setenv("TENANTRY_JOB_SECRET", SECRET.replace(" ", "_"))
    async with serving(database, add_sealing) as made:
        await made.deliver(joined("user_1", "org_1"), joined("user_2", "org_2"))
        yield made


def add_sealing(world: World) -> None:
    @world.app.get("/seal")
    async def answer_envelope(tenant: CurrentTenant) -> PlainTextResponse:
        return PlainTextResponse(seal())

    @world.app.post("/pushed")
    async def pushed(request: Request) -> PlainTextResponse:
        with job_context((await request.body()).decode(), reason="pushed"):
            async with world.sessions.begin() as session:
                await session.connection()
                return PlainTextResponse(str(current_tenant().org_id))


async def envelope_of(world: World, user_id: str = "user_1", org_id: str = "org_1", **claims: Any) -> str:
    return (await world.get("/seal", user_id, org_id, **claims)).text


async def write(world: World, envelope: str, title: str = "written") -> None:
    """A job."""
    with job_context(envelope, reason="write"):
        async with world.sessions.begin() as session:
            session.add(Document(title=title))


def documents(world: World) -> list[tuple[str, str]]:
    return world.rows(
        "select t.clerk_org_id, d.title from documents d join tenantry.tenants t on t.id = d.tenant_id order by d.id"
    )


async def test_a_job_writes_as_the_member_who_asked_for_it(world: World) -> None:
    text = await envelope_of(world)
    assert open_envelope(text).instance_id == INSTANCE
    await write(world, text)
    assert documents(world) == [("org_1", "written")]


@pytest.mark.attack(58)
@pytest.mark.parametrize(
    ("ending", "error"), [(removed, NotAMember), (lambda: gone("organization", "org_1"), OrganizationDeleted)]
)
async def test_a_job_that_runs_after_the_end_is_denied_and_logged(
    world: World, ending: Callable[[], Any], error: type[TenantryError], caplog: pytest.LogCaptureFixture
) -> None:
    text = await envelope_of(world)
    await world.deliver(ending())
    for _ in range(2):  # a retry is no better
        with pytest.raises(error):
            await write(world, text)
    assert documents(world) == []
    tenant = open_envelope(text).tenant_id
    assert f"{error.code}: the job 'write' was denied (user_1 in tenant {tenant}, sealed " in caplog.text
    assert text not in caplog.text


@pytest.mark.breach(58)
async def test_a_job_that_carries_the_tenant_alone_runs_for_a_removed_member(world: World) -> None:
    tenant = open_envelope(await envelope_of(world)).tenant_id
    await world.deliver(removed())
    with tenant_context(tenant, reason="write"):
        async with world.sessions.begin() as session:
            session.add(Document(title="written"))
    assert documents(world) == [("org_1", "written")]


@pytest.mark.breach(55)
async def test_a_job_that_never_leaves_its_tenant_leaves_it_to_the_next(world: World) -> None:
    tenant = open_envelope(await envelope_of(world)).tenant_id

    def work() -> None:
        forgotten = tenant_context(tenant, reason="first")
        forgotten.__enter__()  # and no `with`
        with world.sync_sessions.begin() as session:  # the next job
            session.add(Document(title="written"))

    await asyncio.to_thread(work)
    assert documents(world) == [("org_1", "written")]


async def test_a_job_of_another_instance_is_denied(world: World) -> None:
    text = await envelope_of(world)
    world.rows("select tenantry.rebind_instance_v1('ins_staging')")
    with pytest.raises(WrongInstance):
        await write(world, text)


async def test_a_job_of_another_database_is_denied(
    world: World, servers: Callable[[int], Server], caplog: pytest.LogCaptureFixture
) -> None:
    text = await envelope_of(world)
    with fresh_database(servers) as other:
        async with serving(other) as elsewhere:
            with pytest.raises(UnknownTenant):
                await write(elsewhere, text)
    assert "unknown_tenant: the job 'write' was denied" in caplog.text


async def test_a_job_seals_for_the_next(world: World) -> None:
    first = await envelope_of(world)
    with job_context(first, reason="first"):
        async with world.sessions.begin() as session:
            await session.connection()
            second = seal()
    assert open_envelope(second).instance_id == open_envelope(first).instance_id
    await world.deliver(removed())
    with pytest.raises(NotAMember):
        await write(world, second)


async def test_a_job_that_begins_no_transaction_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with job_context(await envelope_of(world), reason="mail"):
        pass
    assert "the job 'mail' began no transaction" in caplog.text
    caplog.clear()
    await write(world, await envelope_of(world))
    assert "began no transaction" not in caplog.text


async def test_a_job_pushed_over_http_is_refused_as_a_request(world: World) -> None:
    text = await envelope_of(world)

    async def push(body: str) -> tuple[int, str]:
        answer = await world.client.post("/pushed", content=body)
        return answer.status_code, answer.text if answer.is_success else answer.json()["code"]

    assert await push(text) == (200, "org_1")
    assert await push(text[:-1]) == (403, "bad_envelope")
    await world.deliver(removed())
    assert await push(text) == (403, "not_a_member")


# --- real workers, running the page's own code ------------------------------------------------------------------------

ADD = "add_document"
PRELUDE = """
import json, pathlib
from sqlalchemy import Identity, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tenantry.sqlalchemy import TenantScoped

class Base(DeclarativeBase): pass

class Document(TenantScoped, Base):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str]

written = []
event.listen(Document, "after_insert", lambda *_: written.append(1))

def read_without_tenant(path):
    try:
        with sync_sessions() as session:
            answer = len(list(session.scalars(select(Document))))
    except Exception as error:
        answer = type(error).__name__
    pathlib.Path(path).write_text(json.dumps([answer, len(written)]))
"""
PEEK = "@queue.task(name='peek')\ndef peek(path):\n    read_without_tenant(path)\n"
CODAS = {
    "celery": f"queue.config_from_object('beside')\n{PEEK}",
    "arq": "async def peek(ctx, path):\n    read_without_tenant(path)\nWorkerSettings.functions.append(peek)\n",
    "procrastinate": PEEK,
}
# What celery and arq want of redis-py cannot be installed together: here celery has its queue in files.
CELERY = """
result_backend = "file://{folder}"
broker_transport_options = {{"data_folder_in": "{folder}", "data_folder_out": "{folder}", "control_folder": "{folder}"}}
"""
COMMANDS = {
    "celery": ["celery", "-A", "page:queue", "worker", "--pool=prefork", "--concurrency=1", "--loglevel=INFO"],
    "arq": ["arq", "page.WorkerSettings"],
    "procrastinate": ["procrastinate", "--app=page.queue", "worker", "--concurrency=1"],
}


def code_for(library: str) -> str:
    """The page's blocks that make up a worker of a library, as one module."""
    _, _, job, sessions, *queues = blocks("docs/jobs.md", "python")
    named = dict(zip(("celery", "arq", "procrastinate"), queues, strict=True))
    return "\n".join([PRELUDE, sessions, job, named.get(library, ""), CODAS.get(library, "")])


@dataclass
class Worker:
    """A running worker: `run` enqueues a job and answers the name of the error it ends with, or None."""

    run: Callable[..., Awaitable[str | None]]
    log: Path


@contextmanager
def program(command: list[str], folder: Path, log: Path, **env: str) -> Iterator[None]:
    search = os.pathsep.join([str(folder), *filter(None, sys.path)])
    with log.open("wb") as output:
        running = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]) if command[0] in COMMANDS else command[0], *command[1:]],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": search, "PYTHONUNBUFFERED": "1"} | env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)


@asynccontextmanager
async def working(library: str, database: Database, folder: Path, port: int) -> AsyncIterator[Worker]:
    (folder / "page.py").write_text(code_for(library))
    (folder / "queue").mkdir()
    (folder / "beside.py").write_text(CELERY.format(folder=folder / "queue"))
    broker = "filesystem://" if library == "celery" else f"redis://127.0.0.1:{port}/0"
    log = folder / "worker.log"
    env = {"DATABASE_URL": database.dsn(), "BROKER_URL": broker, "QUEUE_URL": database.dsn(OWNER)}
    server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    queues: dict[str, Any] = {"celery": celery_queue, "arq": arq_queue, "procrastinate": procrastinate_queue}
    with program(server, folder, folder / "redis.log") if library == "arq" else nullcontext():
        async with queues[library](database, broker, log) as run:
            with program(COMMANDS[library], folder, log, **env):
                yield Worker(run, log)


Run = Callable[..., Awaitable[str | None]]


@asynccontextmanager
async def celery_queue(database: Database, broker: str, log: Path) -> AsyncIterator[Run]:
    from celery import Celery

    queue = Celery("documents", broker=broker)
    queue.config_from_object(SimpleNamespace(**runpy.run_path(str(log.parent / "beside.py"))))

    def run(name: str, *args: str) -> str | None:
        try:
            queue.send_task(name, args).get(timeout=60)
        except TenantryError as error:
            return type(error).__name__
        return None

    yield lambda name, **kwargs: asyncio.to_thread(run, name, *kwargs.values())
    queue.close()


@asynccontextmanager
async def arq_queue(database: Database, broker: str, log: Path) -> AsyncIterator[Run]:
    from arq import create_pool
    from arq.connections import RedisSettings

    pool = await create_pool(RedisSettings.from_dsn(broker))

    async def run(name: str, **kwargs: str) -> str | None:
        job = await pool.enqueue_job(name, *kwargs.values())
        assert job is not None
        try:
            await job.result(timeout=60)
        except TenantryError as error:
            return type(error).__name__
        return None

    yield run
    await pool.aclose()


@asynccontextmanager
async def procrastinate_queue(database: Database, broker: str, log: Path) -> AsyncIterator[Run]:
    from procrastinate import App, PsycopgConnector

    queue = App(connector=PsycopgConnector(conninfo=database.dsn(OWNER)))
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()

        async def run(name: str, **kwargs: str) -> str | None:
            before = said()
            number = await queue.configure_task(name, allow_unknown=True).defer_async(**kwargs)
            async with asyncio.timeout(60):
                while (status := await asyncio.to_thread(status_of, number)) not in ("succeeded", "failed"):
                    await asyncio.sleep(0.05)
            if status == "succeeded":
                return None
            raised = [line for line in said()[len(before) :].splitlines() if line.startswith("tenantry.errors.")]
            return raised[-1].removeprefix("tenantry.errors.").partition(":")[0]

        def said() -> str:
            return log.read_text() if log.exists() else ""

        def status_of(number: int) -> str:
            with database.connect(SUPERUSER) as connection:
                row = connection.execute("select status::text from procrastinate_jobs where id = %s", [number])
                return str(row.fetchall()[0][0])

        yield run


@pytest.mark.attack(55, 58)
@pytest.mark.parametrize(
    "library", ["celery", pytest.param("arq", marks=pytest.mark.requires("redis-server")), "procrastinate"]
)
async def test_a_worker_serves_the_members_of_its_jobs_and_nobody_else(
    world: World, library: str, tmp_path: Path, free_port: int
) -> None:
    async with working(library, world.database, tmp_path, free_port) as worker:
        mine, theirs = await envelope_of(world), await envelope_of(world, "user_2", "org_2")
        assert await worker.run(ADD, envelope=mine, title="one") is None
        assert await worker.run(ADD, envelope=theirs, title="two") is None
        assert documents(world) == [("org_1", "one"), ("org_2", "two")]

        # The same process, and nothing of the tenants before.
        await worker.run("peek", path=str(tmp_path / "peek"))
        assert json.loads((tmp_path / "peek").read_text()) == ["NoTenant", 2]

        assert await worker.run(ADD, envelope=mine.replace(".", ".x", 1), title="x") == "BadEnvelope"
        with pytest.MonkeyPatch.context() as patched, use_scope(scope()):
            before = time.time() - 2 * 86_400
            patched.setattr("tenantry.jobs.time.time", lambda: before)
            old = seal()
        assert await worker.run(ADD, envelope=old, title="x") == "EnvelopeExpired"
        await world.deliver(removed(), gone("organization", "org_2"))
        assert await worker.run(ADD, envelope=mine, title="x") == "NotAMember"
        assert await worker.run(ADD, envelope=theirs, title="x") == "OrganizationDeleted"
        assert await worker.run("peek", path=str(tmp_path / "peek")) is None
        assert json.loads((tmp_path / "peek").read_text()) == ["NoTenant", 2]
    assert documents(world) == [("org_1", "one"), ("org_2", "two")]
    assert "not_a_member: the job 'add a document' was denied" in worker.log.read_text()


async def test_a_plain_script_does_the_job_of_its_envelope(world: World, tmp_path: Path) -> None:
    text = await envelope_of(world)
    (tmp_path / "page.py").write_text(code_for("script") + "\nimport sys\nadd_document(sys.argv[1], 'scripted')\n")

    def run() -> subprocess.CompletedProcess[str]:
        env = os.environ | {"DATABASE_URL": world.database.dsn(), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(tmp_path / "page.py"), text]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    assert (await asyncio.to_thread(run)).returncode == 0
    assert documents(world) == [("org_1", "scripted")]
    await world.deliver(removed())
    denied = await asyncio.to_thread(run)
    assert denied.returncode == 1
    assert "tenantry.errors.NotAMember" in denied.stderr
    assert "not_a_member: the job 'add a document' was denied" in denied.stderr
    assert documents(world) == [("org_1", "scripted")]
