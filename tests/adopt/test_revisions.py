"""A move by Alembic: phase after phase up, and down again while that is possible."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from adopt import worlds
from adopt.comparing import state
from adopt.worlds import World
from databases import OWNER, Database
from tenantry.adopt import config, move, revisions
from tenantry.adopt.step import PHASES
from tenantry.errors import AdoptionRefused, ConfigurationError

ENV = """
from alembic import context
from sqlalchemy import create_engine

url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    context.configure(url=url, dialect_name="postgresql")
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
"""

FIRST = """
from alembic import op

revision = "first"
down_revision = None


def upgrade():
    op.execute("create table notes (id bigint primary key)")
    op.execute("drop table notes")


def downgrade():
    pass
"""


@pytest.fixture
def world(database: Database) -> World:
    return worlds.tracker(database)


@pytest.fixture
def alembic(world: World, tmp_path: Path) -> Config:
    """An app's folder of revisions, with those of the move."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (versions / "first.py").write_text(FIRST)
    plan = tmp_path / "adopt.toml"
    plan.write_text(config.write(world.plan, {}))
    scripts = {phase: f"-- {phase}\n\nselect 1;" for phase in PHASES}
    revisions.write(versions, plan, scripts, "first")
    made = Config(stdout=io.StringIO(), output_buffer=io.StringIO())
    made.set_main_option("script_location", str(tmp_path / "migrations"))
    made.set_main_option("sqlalchemy.url", world.database.url(OWNER).replace("%", "%%"))
    return made


def catalog(database: Database) -> Any:
    """All there is but Alembic's own table."""
    found = {kind: [row for row in rows if "alembic_version" not in str(row)] for kind, rows in state(database).items()}
    return {kind: rows for kind, rows in found.items() if "alembic_version" not in kind}


def test_each_revision_is_a_phase_and_goes_back_as_one(world: World, alembic: Config) -> None:
    before = catalog(world.database)
    command.upgrade(alembic, "tenantry_adopt_3_constrain")
    assert world.findings() == []
    command.upgrade(alembic, "tenantry_adopt_4_isolate")
    command.downgrade(alembic, "tenantry_adopt_3_constrain")
    with world.database.connect(OWNER) as owner:
        assert move.check(owner, world.plan).phase == "constrain"
    command.downgrade(alembic, "first")
    assert catalog(world.database) == before


def test_all_revisions_at_once_end_behind_isolation_and_cannot_go_back(world: World, alembic: Config) -> None:
    command.upgrade(alembic, "head")
    assert world.findings() == []
    with pytest.raises(AdoptionRefused, match="contract has begun"):
        command.downgrade(alembic, "-1")


def test_a_revision_cannot_be_printed_and_says_what_can(alembic: Config) -> None:
    with pytest.raises(ConfigurationError, match="needs its database"):
        command.upgrade(alembic, "tenantry_adopt_1_expand", sql=True)


def test_revisions_show_their_sql_and_are_never_written_over(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("[rows]\n")
    paths = revisions.write(tmp_path, plan, {"expand": "begin;\n\nselect 1;"})
    assert "#\n# begin;\n#\n# select 1;\n" in paths[0].read_text()
    assert [path.stem for path in paths] == [f"tenantry_adopt_{n}_{phase}" for n, phase in enumerate(PHASES, 1)]
    with pytest.raises(ConfigurationError, match="there already"):
        revisions.write(tmp_path, plan, {})
    with pytest.raises(ConfigurationError, match="no folder"):
        revisions.write(tmp_path / "nowhere", plan, {})
