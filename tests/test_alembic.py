"""Migrations isolate and share tables, autogenerate writes them, and a second autogenerate finds nothing left to do."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import (
    Column,
    Engine,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import tenantry.alembic  # noqa: F401  # registers the operations, as env.py does
from databases import APP, OWNER, SUPERUSER, Database
from sql.tenants import make_tenant, read, rows, run
from tenantry.errors import SchemaError, TableNotIsolable
from tenantry.sqlalchemy import TenantScoped, isolated, shared

MODELS = '''
from sqlalchemy import ForeignKeyConstraint, Identity
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from tenantry.sqlalchemy import TenantScoped, isolated, shared


class Base(DeclarativeBase):
    pass


class Country(Base):
    __tablename__ = "countries"
    __table_args__ = shared("read")
    code: Mapped[str] = mapped_column(primary_key=True)


class Project(TenantScoped, Base):
    __tablename__ = "projects"
    __tenant_in_key__ = True
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)


class Document(TenantScoped, Base):
    __tablename__ = "documents"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "project_id"], ["projects.tenant_id", "projects.id"]),
        isolated(permissions={"delete": "org:documents:delete"}),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    project_id: Mapped[int | None]


class Invoice(Base):
    """A table that has carried Clerk's own id all along."""

    __tablename__ = "invoices"
    __table_args__ = isolated(column="org_id")
    id: Mapped[int] = mapped_column(primary_key=True)
    org_id: Mapped[str]


class Job(Base):
    """Says nothing about tenants."""

    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)
'''

ENV = """
from alembic import context
from sqlalchemy import create_engine

import models
import tenantry.alembic

url = context.config.get_main_option("sqlalchemy.url")
options = {"target_metadata": models.Base.metadata, "compare_server_default": True, "include_schemas": True}
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url)
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
"""

SCRIPT = '''"""${message}"""
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
'''


@dataclass
class Project:
    """An app's folder with Alembic set up as its page of the docs says."""

    folder: Path
    database: Database

    @property
    def config(self) -> Config:
        config = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
        config.set_main_option("script_location", str(self.folder / "migrations"))
        config.set_main_option("sqlalchemy.url", self.database.url(OWNER).replace("%", "%%"))
        return config

    def revise(self) -> str:
        """Autogenerates a revision; its text."""
        made = command.revision(self.config, autogenerate=True)
        assert made is not None
        assert not isinstance(made, list)
        return Path(made.path).read_text()


@pytest.fixture
def project(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "models.py").write_text(MODELS)
    migrations = tmp_path / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (migrations / "env.py").write_text(ENV)
    (migrations / "script.py.mako").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    return Project(tmp_path, database)


def body(script: str, function: str) -> list[str]:
    """The `op.` calls of ours in a migration's function."""
    lines = script.partition(f"def {function}")[2].partition("\n\n\ndef ")[0].splitlines()
    return [line.strip() for line in lines if "isol" in line or "share_table" in line]


def test_autogenerate_writes_what_the_models_say(project: Project) -> None:
    script = project.revise()
    assert body(script, "upgrade") == [
        "op.share_table('countries', mode='read')",
        "op.isolate_table('invoices', column='org_id')",
        "op.isolate_table('projects')",
        "op.isolate_table('documents', permissions={'delete': 'org:documents:delete'})",
    ]
    assert body(script, "downgrade") == [
        "op.drop_isolation('documents')",
        "op.drop_isolation('projects')",
        "op.drop_isolation('invoices')",
        "op.share_table('countries', mode='none')",
    ]
    assert script.index("op.create_table('documents'") < script.index("op.isolate_table('documents'")
    assert "jobs" in script


def test_after_an_upgrade_nothing_is_left_to_do(project: Project) -> None:
    project.revise()
    command.upgrade(project.config, "head")
    second = project.revise()
    assert second.count("    pass") == 2, second


def test_an_upgrade_isolates_and_a_downgrade_takes_all_back(project: Project) -> None:
    tenant = make_tenant(project.database, "alpha")
    project.revise()
    command.upgrade(project.config, "head")
    with project.database.connect(APP) as connection:
        with pytest.raises(psycopg.Error, match="No tenant is set"):
            run(connection, "insert into documents (title) values ('x')")
        with connection.transaction():
            run(connection, f"select tenantry.set_tenant_by_id_v1('{tenant.id}', 'a test')")
            run(connection, "insert into documents (title) values ('x')", "insert into invoices (id) values (1)")
            assert rows(connection, "select tenant_id::text from documents") == [tenant.id]
            assert rows(connection, "select org_id from invoices") == [tenant.org_id]
            assert rows(connection, "select code from countries") == []
    with project.database.connect(OWNER) as connection:
        assert {row[1] for row in connection.execute("select name, object from tenantry.check_v1()")} == {"jobs"}
    command.downgrade(project.config, "base")
    with project.database.connect(SUPERUSER) as connection:
        left = rows(
            connection, "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        )
        assert left == ["alembic_version"]
    command.upgrade(project.config, "head")


def test_a_migration_can_be_printed_and_run_elsewhere(project: Project) -> None:
    project.revise()
    config = project.config
    command.upgrade(config, "head", sql=True)
    script = config.output_buffer.getvalue()  # type: ignore[union-attr]
    assert "tenantry.isolate_table_v1(CAST('documents' AS REGCLASS)" in script
    with project.database.connect(OWNER) as connection:
        run(connection, "drop table alembic_version", script)
        assert rows(connection, "select relation::text from tenantry.table_isolation where mode = 'isolated'") == [
            "documents",
            "invoices",
            "projects",
        ]
    assert project.revise().count("    pass") == 2


# --- one comparison at a time -----------------------------------------------------------------------------------------


@pytest.fixture
def owner(database: Database) -> Iterator[Engine]:
    engine = create_engine(database.url(OWNER))
    yield engine
    engine.dispose()


def autogenerate(owner: Engine, metadata: MetaData, **options: Any) -> tuple[str, str]:
    """The upgrade and the downgrade that lead to the metadata, after running the upgrade."""
    with owner.begin() as connection:
        opts = {"target_metadata": metadata, "compare_server_default": True, **options}
        context = MigrationContext.configure(connection, opts=opts)
        script = produce_migrations(context, metadata)
        assert script.upgrade_ops is not None
        assert script.downgrade_ops is not None
        written = render_python_code(script.upgrade_ops), render_python_code(script.downgrade_ops)
        execute(connection, written[0])
    return written


def execute(connection: Any, code: str) -> None:
    """Runs rendered operations, as a migration script would."""
    op = Operations(MigrationContext.configure(connection))
    names: dict[str, Any] = {"op": op, "sa": sqlalchemy}
    exec(f"def migrate():\n    {code}", names)
    names["migrate"]()


def calls(code: str) -> list[str]:
    return [line.strip() for line in code.splitlines() if line.strip().startswith("op.")]


def plain(*columns: Column[Any], **info: Any) -> MetaData:
    metadata = MetaData()
    Table("documents", metadata, Column("id", Integer, Identity(), primary_key=True), *columns, **info)
    return metadata


def scoped_model() -> MetaData:
    class Base(DeclarativeBase):
        pass

    class Document(TenantScoped, Base):
        __tablename__ = "documents"
        id: Mapped[int] = mapped_column(Identity(), primary_key=True)

    return Base.metadata


def test_a_table_that_becomes_scoped_gets_its_column_bare_and_then_isolation(owner: Engine, database: Database) -> None:
    autogenerate(owner, plain())
    upgrade, downgrade = autogenerate(owner, scoped_model())
    assert calls(upgrade) == [
        "op.add_column('documents', sa.Column('tenant_id', sa.Uuid(), nullable=True))",
        "op.isolate_table('documents')",
    ]
    assert calls(downgrade) == ["op.drop_isolation('documents')", "op.drop_column('documents', 'tenant_id')"]
    assert calls(autogenerate(owner, scoped_model())[0]) == []
    with owner.begin() as connection:
        execute(connection, downgrade)
    assert calls(autogenerate(owner, plain())[0]) == []


def test_rows_without_a_tenant_are_backfilled_or_refused(owner: Engine, database: Database) -> None:
    tenant = make_tenant(database, "alpha")
    autogenerate(owner, plain(Column("tenant_id", Text)))
    with owner.begin() as connection:
        connection.execute(text("alter table documents drop column tenant_id"))
        connection.execute(text("insert into documents default values"))
    with owner.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        with pytest.raises(TableNotIsolable, match="backfill"), connection.begin_nested():
            op.isolate_table("documents")  # type: ignore[attr-defined]
        op.isolate_table("documents", backfill=tenant.org_id)  # type: ignore[attr-defined]
    with database.connect(SUPERUSER) as connection:
        assert rows(connection, "select tenant_id::text from documents") == [tenant.id]


def test_changed_permissions_isolate_again_and_back(owner: Engine, database: Database) -> None:
    def policies() -> list[str]:
        with database.connect(OWNER) as connection:
            return rows(connection, "select polname::text from pg_policy where polname like 'tenantry_may%'")

    def model(**permissions: str) -> MetaData:
        return plain(Column("org_id", Text), **isolated(column="org_id", permissions=permissions))

    autogenerate(owner, model(delete="org:documents:delete"))
    upgrade, downgrade = autogenerate(owner, model(insert="org:documents:create"))
    assert calls(upgrade) == [
        "op.isolate_table('documents', column='org_id', permissions={'insert': 'org:documents:create'})"
    ]
    assert policies() == ["tenantry_may_insert"]
    with owner.begin() as connection:
        execute(connection, downgrade)
    assert policies() == ["tenantry_may_delete"]


def test_any_change_of_mode_has_its_way_back(owner: Engine, database: Database) -> None:
    def mode() -> Any:
        with database.connect(OWNER) as connection:
            return read(connection, "select mode from tenantry.table_isolation where relation = 'documents'::regclass")

    stated = {"isolated": isolated(column="org_id"), **{m: shared(m) for m in ("read", "write", "none")}}
    models = {mode: plain(Column("org_id", Text), **info) for mode, info in stated.items()}
    for before, after in permutations(models, 2):
        autogenerate(owner, models[before])
        assert mode() == before
        _, downgrade = autogenerate(owner, models[after])
        assert mode() == after
        assert calls(autogenerate(owner, models[after])[0]) == []
        with owner.begin() as connection:
            execute(connection, downgrade)
        assert mode() == before


def test_a_table_that_is_dropped_is_isolated_again_on_the_way_back(owner: Engine, database: Database) -> None:
    autogenerate(owner, scoped_model())
    upgrade, downgrade = autogenerate(owner, MetaData())
    assert calls(upgrade)[0] == "op.drop_isolation('documents')"
    with owner.begin() as connection:
        execute(connection, downgrade)
    assert calls(autogenerate(owner, scoped_model())[0]) == []


def test_what_a_model_says_nothing_about_is_left_alone(owner: Engine) -> None:
    """A table isolated by hand is not taken out of isolation."""
    autogenerate(owner, plain(Column("org_id", Text)))
    with owner.begin() as connection:
        Operations(MigrationContext.configure(connection)).isolate_table("documents", column="org_id")  # type: ignore[attr-defined]
    assert calls(autogenerate(owner, plain(Column("org_id", Text)))[0]) == []


def test_indexes_and_references_of_the_apps_own_are_still_seen(owner: Engine) -> None:
    metadata = scoped_model()
    table = metadata.tables["documents"]
    Index("documents_by_tenant_and_id", table.c.tenant_id, table.c.id)
    table.append_column(Column("parent_id", Integer))
    table.append_constraint(ForeignKeyConstraint(["parent_id"], ["documents.id"], name="documents_parent"))
    autogenerate(owner, metadata)
    removed = scoped_model()
    removed.tables["documents"].append_column(Column("parent_id", Integer))
    upgrade, _ = autogenerate(owner, removed)
    assert sorted(call.partition("(")[0] for call in calls(upgrade)) == ["op.drop_constraint", "op.drop_index"]


def test_tables_of_other_schemas_are_isolated_there(owner: Engine) -> None:
    metadata = MetaData()
    info = isolated(column="org_id")
    Table("Notes", metadata, Column("id", Integer, primary_key=True), Column("org_id", Text), schema="App", **info)
    with owner.begin() as connection:
        connection.execute(text('create schema "App"'))
    upgrade, downgrade = autogenerate(owner, metadata, include_schemas=True)
    assert calls(upgrade)[-1] == "op.isolate_table('Notes', column='org_id', schema='App')"
    assert calls(autogenerate(owner, metadata, include_schemas=True)[0]) == []
    with owner.begin() as connection:
        execute(connection, downgrade)


def test_filters_of_the_app_hold(owner: Engine) -> None:
    metadata = scoped_model()
    with owner.begin() as connection:
        opts = {"include_object": lambda thing, name, kind, reflected, other: name != "documents"}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_a_database_without_the_schema_is_told_what_to_do(empty_database: Database) -> None:
    engine = create_engine(empty_database.url(SUPERUSER))
    with engine.connect() as connection, pytest.raises(SchemaError, match="tenantry db migrate"):
        compare_metadata(MigrationContext.configure(connection), MetaData())
    engine.dispose()
