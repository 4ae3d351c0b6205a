"""`tenantry adopt`: what it writes and prints, and what its exit codes say."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from adopt import worlds
from adopt.comparing import state
from databases import APP, OWNER, Database, Server
from instance import fresh_database
from sql.tenants import run


@dataclass(frozen=True)
class Place:
    """A folder, and the database of the publishing app."""

    database: Database
    folder: Path

    def adopt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        return subprocess.run(
            [sys.executable, "-m", "tenantry", "adopt", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            env=environment | {"DATABASE_URL": self.database.dsn(OWNER), "COLUMNS": "200"},
        )

    @property
    def plan(self) -> Path:
        return self.folder / "adopt.toml"

    def decide(self) -> None:
        """What a person would."""
        text = self.plan.read_text(encoding="utf-8")
        for table, decided in {
            "comments": 'tenant = "reference"\ncolumn = "article_id"',
            "follows": 'tenant = "owner"\ncolumn = "follower_id"',
        }.items():
            header = f'[tables."public.{table}"]\n'
            text = text.replace(f'{header}tenant = "undecided"', f"{header}{decided}")
        self.plan.write_text(text, encoding="utf-8")


@pytest.fixture
def place(servers: Callable[[int], Server], tmp_path: Path) -> Iterator[Place]:
    with fresh_database(servers) as database:
        worlds.publishing(database)
        yield Place(database, tmp_path)


def test_a_plan_is_written_once_with_reasons_and_then_compared(place: Place) -> None:
    first = place.adopt("plan")
    assert first.returncode == 1, first.stderr
    assert "public.articles  owner author_id\n  certain: author_id names its user" in first.stdout
    assert "2 to decide. Next: edit adopt.toml." in first.stdout
    written = place.plan.read_text(encoding="utf-8")
    assert "# question: several columns could say whose its rows are: article_id or author_id" in written
    assert tomllib.loads(written)["users"] == {"table": "public.users", "key": "id", "clerk_id": "clerk_id"}
    place.decide()
    decided = place.plan.read_text(encoding="utf-8")
    again = place.adopt("plan")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "ACCESS EXCLUSIVE: nobody reads or writes, for milliseconds" in again.stdout
    assert again.stdout.endswith("Next: tenantry adopt apply --sql\n")
    with place.database.connect(OWNER) as owner:
        run(owner, "create table likes (id integer primary key, user_id bigint references users)", "drop table drafts")
    changed = place.adopt("plan")
    assert changed.returncode == 1
    assert "public.drafts is in the plan, and not (any more) open in the database." in changed.stdout
    assert '[tables."public.likes"]\ntenant = "owner"\ncolumn = "user_id"' in changed.stdout
    assert place.plan.read_text(encoding="utf-8") == decided  # what a person wrote stays as it is


def test_the_plan_is_shown_as_a_picture_and_as_json(place: Place) -> None:
    place.adopt("plan")
    picture = place.adopt("plan", "--graph").stdout
    assert picture.startswith("graph LR\n")
    assert '-- "author_id" -->' in picture
    told = json.loads(place.adopt("plan", "--json").stdout)
    assert told["proposals"]["public.comments"]["confidence"] == "question"


def test_the_plan_is_drawn_into_a_file(place: Place) -> None:
    drawn = place.adopt("plan", "--svg", "owners.svg")
    assert (drawn.returncode, drawn.stdout) == (0, "Wrote owners.svg.\n"), drawn.stderr
    root = ElementTree.fromstring((place.folder / "owners.svg").read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "articles" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    both = place.adopt("plan", "--graph", "--svg", "owners.svg")
    assert both.stdout.startswith("graph LR\n")
    assert "nowhere/owners.svg cannot be written." in place.adopt("plan", "--svg", "nowhere/owners.svg").stderr


MODELS = """\
import sqlalchemy as sa

print("the app starts")
metadata = sa.MetaData()
sa.Table("users", metadata, sa.Column("id", sa.BigInteger, primary_key=True))
sa.Table("articles", metadata, sa.Column("id", sa.BigInteger, primary_key=True),
         sa.Column("author_id", sa.BigInteger, sa.ForeignKey("users.id")))
sa.Table("likes", metadata, sa.Column("article_id", sa.BigInteger, sa.ForeignKey("articles.id")))
"""


def test_the_models_say_what_the_database_does_not(place: Place) -> None:
    (place.folder / "shop").mkdir()
    (place.folder / "shop" / "models.py").write_text(MODELS)
    with place.database.connect(OWNER) as owner:
        run(
            owner,
            "alter table articles drop constraint articles_author_id_fkey",
            "drop table comments, follows, drafts",
        )
    planned = place.adopt("plan", "--metadata", "models:metadata", "--app-dir", "shop")
    assert (
        "public.articles  owner author_id -> public.users (id)\n  likely: author_id names its user: the models say so"
        in (planned.stdout)
    )
    assert "The models have likes, and the database does not." in planned.stdout
    assert "The database has public.tags, and the models do not." in planned.stdout
    tables = tomllib.loads(place.plan.read_text(encoding="utf-8"))["tables"]
    assert tables["public.articles"] == {"tenant": "owner", "column": "author_id", "refers_to": "public.users (id)"}
    told = json.loads(place.adopt("plan", "--metadata", "models:metadata", "--app-dir", "shop", "--json").stdout)
    assert "The models have likes, and the database does not." in told["models"]
    assert place.adopt("apply").returncode == 0
    assert place.adopt("verify").returncode == 0


@pytest.mark.parametrize(
    ("module", "name", "sentence"),
    [
        ("x = 1", "models:x", "'models:x' is a int, and has no MetaData."),
        ("import os\nx = os.environ['NO_SUCH']", "models:x", "models.py, line 2: x = os.environ['NO_SUCH']"),
    ],
)
def test_models_that_cannot_be_read_are_a_sentence(place: Place, module: str, name: str, sentence: str) -> None:
    (place.folder / "models.py").write_text(module)
    planned = place.adopt("plan", "--metadata", name)
    assert planned.returncode == 2
    assert "Traceback" not in planned.stderr
    assert not place.plan.exists()
    assert sentence in planned.stderr


def test_without_sqlalchemy_nothing_but_models_is_missing(place: Place) -> None:
    (place.folder / "sqlalchemy.py").write_text("raise ModuleNotFoundError('gone', name='sqlalchemy')")
    (place.folder / "models.py").write_text("metadata = 1")
    planned = place.adopt("plan", "--metadata", "models:metadata")
    assert (
        "'--metadata' needs the package 'sqlalchemy'.\nHint: Run: pip install 'tenantry[sqlalchemy]'" in planned.stderr
    )
    assert "public.articles  owner author_id" in place.adopt("plan").stdout


def test_a_plan_by_a_column_names_its_values_for_a_person_to_fill_in(place: Place) -> None:
    with place.database.connect(OWNER) as owner:
        run(owner, "update users set email = username || case when id < 3 then '@acme.test' else '@Harbor.test' end")
    first = place.adopt("plan", "--to", "column", "--column", "email", "--by", "domain")
    assert first.returncode == 1, first.stderr
    rows = tomllib.loads(place.plan.read_text(encoding="utf-8"))["rows"]
    assert rows["organizations"] == {"acme.test": "", "harbor.test": ""}
    place.decide()
    again = place.adopt("plan")
    assert again.returncode == 1
    assert "acme.test, harbor.test are not in [rows.organizations]." in again.stderr
    place.plan.unlink()
    place.adopt("plan", "--to", "column", "--column", "email", "--by", "domain", "--csv", "owners.csv")
    place.decide()
    assert "There is no owners.csv." in place.adopt("plan").stderr


def test_what_is_in_the_way_is_told_after_the_plan_is_written(place: Place) -> None:
    with place.database.connect(OWNER) as owner:
        run(owner, "drop table comments, follows", "update users set clerk_id = 'user_stranger' where id = 1")
    planned = place.adopt("plan")
    assert planned.returncode == 1
    assert "public.articles  owner author_id" in planned.stdout
    assert "user_stranger is not in the mirror. Run `tenantry reconcile`" in planned.stderr
    assert place.plan.exists()
    told = json.loads(place.adopt("plan", "--json").stdout)
    assert "user_stranger is not in the mirror." in told["problem"]


def test_a_database_without_tables_is_told(place: Place) -> None:
    place.plan.write_text("", encoding="utf-8")
    assert "The plan names no table of this database." in place.adopt("apply").stderr


def test_what_each_step_will_take_is_a_table(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    printed = place.adopt("plan", "--steps")
    assert printed.returncode == 0, printed.stderr
    assert re.search(r"^ +3 +give public.articles its tenant_id +ACCESS EXCLUSIVE", printed.stdout, re.MULTILINE)
    assert re.search(r" fill tenant_id of public.comments +180 +0.0 s +ROW EXCLUSIVE", printed.stdout)


def test_all_sql_is_printed_and_nothing_done(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    before = state(place.database)
    printed = place.adopt("apply", "--sql")
    assert printed.returncode == 0, printed.stderr
    assert "create schema if not exists tenantry_adopt;" in printed.stdout
    assert "\nalter table public.articles add column if not exists tenant_id uuid\n" in printed.stdout
    assert "-- undo: alter table public.articles drop column if exists tenant_id;" in printed.stdout
    assert "create unique index concurrently if not exists" in printed.stdout
    assert "\nselect tenantry.isolate_table_v1('public.articles'" in printed.stdout
    assert "\\set to constrain\n" in printed.stdout  # as without --sql
    assert "\nselect tenantry.isolate_table_v1" not in place.adopt("apply", "--sql", "--to", "constrain").stdout
    assert "nothing to undo" in place.adopt("undo", "--sql").stderr
    assert state(place.database) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("plan", "--file", "nowhere/adopt.toml"), "nowhere/adopt.toml cannot be written."),
        (("plan", "--to", "column"), "--to column takes --column."),
        (("plan", "--to", "csv"), "--to csv takes --csv."),
        (("plan", "--organization", "Harbor"), "--organization is Clerk's id of one, org_..., not 'Harbor'."),
        (("plan", "--column", "email", "--by", "host"), "--by is domain, or left out, not 'host'."),
        (("apply", "--after", "4f2a9c"), "--after goes with --alembic."),
    ],
)
def test_an_option_that_does_not_fit_is_a_sentence_and_nothing_is_written(
    place: Place, arguments: tuple[str, ...], told: str
) -> None:
    refused = place.adopt(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"Error: {told}\n")
    assert "Traceback" not in refused.stderr
    assert list(place.folder.iterdir()) == []


def test_what_a_plan_that_is_there_does_not_say_is_not_taken_from_options(place: Place) -> None:
    place.adopt("plan", "--to", "column", "--column", "email")
    written = place.plan.read_text(encoding="utf-8")
    for option, value in (("--to", "personal"), ("--column", "username"), ("--by", "domain")):
        refused = place.adopt("plan", option, value, *(("--column", "email") if option == "--by" else ()))
        assert refused.returncode == 2
        assert f"adopt.toml is there, and {option} is for a new one." in refused.stderr
    assert place.plan.read_text(encoding="utf-8") == written
    assert "2 to decide." in place.adopt("plan", "--to", "column", "--column", "email").stdout


def test_what_is_next_is_what_the_move_has_come_to(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    assert (
        "Done up to expand. Next: tenantry adopt apply --to backfill\n" in place.adopt("apply", "--to", "expand").stdout
    )
    assert "Next: tenantry adopt apply --to backfill\n" in place.adopt("plan").stdout
    told = "Done up to contract. Next: tenantry adopt verify; tenantry db check\n"
    for arguments in (("apply", "--to", "contract"), ("apply",), ("plan",)):
        assert place.adopt(*arguments).stdout.endswith(told)


def test_a_move_is_told_to_machines_as_lines_of_json(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    applied = [json.loads(line) for line in place.adopt("apply", "--json").stdout.splitlines()]
    assert [step["position"] for step in applied] == list(range(1, len(applied) + 1))
    filled = next(step for step in applied if step["name"] == "fill tenant_id of public.comments")
    assert (filled["phase"], filled["state"], filled["rows"], filled["undone"]) == ("backfill", "done", 180, False)
    assert all(step["seconds"] >= 0 for step in applied)
    script = place.adopt("undo", "--sql", "--before", "constrain").stdout
    assert "drop constraint" in script
    undone = [json.loads(line) for line in place.adopt("undo", "--json").stdout.splitlines()]
    assert [step["position"] for step in undone] == list(range(len(applied), 0, -1))
    assert {(step["state"], step["undone"]) for step in undone} == {("pending", True)}


def test_on_a_terminal_sql_is_wrapped_within_its_indent(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = os.environ | {"DATABASE_URL": place.database.dsn(OWNER), "TERM": "xterm-256color"}
    for name in ("COLUMNS", "NO_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "tenantry", "adopt", "apply", "--to", "expand"]
    process = subprocess.Popen(command, stdin=writer, stdout=writer, stderr=writer, cwd=place.folder, env=environment)
    os.close(writer)
    printed = b""
    while select.select([reader], [], [], 60)[0]:
        try:
            printed += os.read(reader, 65_536)
        except OSError:  # whoever wrote is gone
            break
    os.close(reader)
    assert process.wait(timeout=10) == 0
    assert b"\x1b[2malter table public.articles" in printed  # dim
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.decode()).splitlines()
    begins = next(number for number, line in enumerate(lines) if "give public.articles its tenant_id" in line)
    ends = next(number for number, line in enumerate(lines) if number > begins and line.startswith("["))
    assert ends > begins + 5
    assert all(line.startswith("    ") and len(line) <= 80 for line in lines[begins + 1 : ends])


def test_a_move_is_applied_verified_and_undone(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    before = state(place.database)
    nothing = place.adopt("status")
    assert (nothing.returncode, nothing.stdout) == (1, "No move has begun here. Next: tenantry adopt plan\n")
    applied = place.adopt("apply")
    assert applied.returncode == 0, applied.stderr
    status = place.adopt("status")
    assert status.returncode == 1
    assert "contract   0 of " in status.stdout
    assert "Next: fill what is left of public.articles" in status.stdout
    told = json.loads(place.adopt("status", "--json").stdout)
    assert {step["state"] for step in told["steps"]} == {"done", "pending"}
    assert (told["at_work"], told["news"], told["waiting"]) == (False, [], [])
    step = applied.stdout.index("expand: give public.articles its tenant_id")
    assert "alter table public.articles add column" in applied.stdout[step : step + 200]  # each step with its SQL
    assert re.search(r"^    done, 180 rows, [0-9.]+ s", applied.stdout, re.MULTILINE)
    assert re.search(r"^\d+ steps, [0-9,]+ rows, [0-9.]+ s; the longest lock \d+ ms, to ", applied.stdout, re.MULTILINE)
    assert "deploy the app that sets a tenant" in applied.stdout
    verified = place.adopt("verify", "--still", "--json")
    assert verified.returncode == 0, verified.stdout
    told = json.loads(verified.stdout)
    assert (told["phase"], told["clean"]) == ("constrain", True)
    assert {count["same"] for count in told["counts"]} == {True}
    with place.database.connect(OWNER) as owner:
        run(owner, "delete from comments where id = 1")
    lost = place.adopt("verify", "--still")
    assert lost.returncode == 1
    assert "lost  public.comments  It had 180 rows, and has 179." in lost.stdout
    assert place.adopt("verify").returncode == 0  # an app that goes on may delete
    undone = place.adopt("undo")
    assert undone.returncode == 0, undone.stderr
    after = state(place.database)
    assert {k: v for k, v in after.items() if k != "rows of comments"} == {
        k: v for k, v in before.items() if k != "rows of comments"
    }


def test_a_company_that_comes_meanwhile_is_told_of_and_taken_up_once_it_is_named(place: Place) -> None:
    worlds.mirror_organizations(place.database, ["org_acme", "org_late"])
    with place.database.connect(OWNER) as owner:
        run(owner, "update users set email = username || '@acme.test'")
    place.adopt("plan", "--to", "column", "--column", "email", "--by", "domain")
    place.decide()
    _replace(place, '"acme.test" = ""', '"acme.test" = "org_acme"')
    assert place.adopt("apply").returncode == 0
    with place.database.connect(OWNER) as owner:
        run(
            owner,
            "insert into users (clerk_id, email, username) values ('user_9', 'a@late.test', 'late')",
            "insert into articles (author_id, slug, title) select id, 'late', 'L' from users where username = 'late'",
        )
    told = "public.users: No organization is named for email late.test: name it in [rows.organizations]"
    assert told in place.adopt("plan").stdout
    for command in ("status", "apply"):
        assert told in place.adopt(command).stderr
    assert told in json.loads(place.adopt("status", "--json").stdout)["waiting"][0]
    verified = place.adopt("verify")
    assert verified.returncode == 1
    assert "null  public.articles  1 rows have no tenant." in verified.stdout
    assert "unnamed  public.users  No organization is named for email late.test" in verified.stdout
    _replace(place, '"acme.test"', '"late.test" = "org_late"\n"acme.test"')
    planned = place.adopt("plan").stdout
    assert "New in the plan: late.test (org_late). `tenantry adopt apply` takes it up." in planned
    assert told not in planned
    script = place.adopt("apply", "--sql")
    assert "New in the plan: late.test (org_late)." in script.stderr
    assert "what is new in the plan" in script.stdout
    assert place.adopt("apply").returncode == 0
    assert place.adopt("verify").returncode == 0
    _replace(place, "org_acme", "org_late")
    for refused in (place.adopt("plan"), place.adopt("apply")):
        assert "acme.test was org_acme when the move began, and is org_late. Put it back." in refused.stderr
        assert refused.returncode == 1


def _replace(place: Place, was: str, becomes: str) -> None:
    text = place.plan.read_text(encoding="utf-8")
    assert was in text
    place.plan.write_text(text.replace(was, becomes), encoding="utf-8")


def test_what_is_new_in_the_database_is_told_once_a_move_has_begun(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    assert place.adopt("apply", "--to", "expand", "--no-checksums").returncode == 0
    assert place.adopt("plan").returncode == 0
    verified = place.adopt("verify")
    assert "The move began with --no-checksums" in verified.stdout
    with place.database.connect(OWNER) as owner:
        run(owner, "create table likes (article_id bigint primary key references articles)")
    told = "public.likes is new. If its rows are nobody's"
    planned = place.adopt("plan")
    assert planned.returncode == 1
    assert told in planned.stdout
    assert told in json.loads(place.adopt("plan", "--json").stdout)["differences"][0]
    assert told in place.adopt("status").stderr
    assert told in json.loads(place.adopt("status", "--json").stdout)["news"][0]
    assert told in place.adopt("apply").stderr
    stopped = place.adopt("apply", "--to", "isolate")
    assert stopped.returncode == 1
    assert "The plan does not know what came after it:" in stopped.stderr


def test_who_may_not_is_told_who_may(place: Place) -> None:
    place.adopt("plan")
    place.decide()
    place.adopt("apply", "--to", "expand")
    for command in (["status"], ["undo"], ["verify"], ["apply"], ["plan"]):
        refused = place.adopt(*command, "--database-url", place.database.dsn(APP))
        assert refused.returncode == 1, command
        assert f"{OWNER}, and this login is {APP}." in refused.stderr.replace("\n", " ")
        assert f"Log in as {OWNER}." in refused.stderr


def test_mistakes_are_sentences(place: Place) -> None:
    assert "There is no adopt.toml." in place.adopt("apply").stderr
    place.adopt("plan")
    undecided = place.adopt("apply")
    assert undecided.returncode == 1
    assert "public.comments is undecided: say whose its rows are." in undecided.stderr
    place.plan.write_text('[rows]\nto = "moon"\n', encoding="utf-8")
    mistake = place.adopt("apply")
    assert mistake.returncode == 2
    assert "adopt.toml:2: to is one of personal" in mistake.stderr
    assert "is no phase" in place.adopt("apply", "--to", "moon").stderr
    assert "Traceback" not in undecided.stderr + mistake.stderr
