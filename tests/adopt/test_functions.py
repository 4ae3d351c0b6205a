"""Functions of the app that a column more would break are found by the look of their source."""

from __future__ import annotations

import pytest

from adopt import worlds
from adopt.test_preflight import refused
from databases import APP, OWNER, Database
from sql.tenants import read, rows, run
from tenantry.adopt import move
from tenantry.adopt.functions import Function
from tenantry.adopt.plan import Decision
from tenantry.adopt.step import PHASES

ARTICLES = "public.articles"


def function(source: str, **changes: object) -> Function:
    told: dict[str, object] = {
        "name": "f",
        "language": "plpgsql",
        "source": source,
        "parsed": False,
        "definer": False,
        "rows_of": "",
        "columns": False,
        "triggers": (ARTICLES,),
        "named": (),
    }
    return Function(**(told | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source",
    [
        "begin insert into history select new.*; return new; end",
        "begin insert into history values (new.*); return new; end",
        "begin INSERT INTO history VALUES (OLD.*, now()); return old; end",
        "begin insert into history (id, title) select (old).*; return null; end",
        "begin insert into history select tg_op, now(), new.* where new.* is distinct from old.*; return new; end",
        "begin if tg_op = 'DELETE' then insert into history (select old.*); end if; return null; end",
        "begin insert into history values (1, 'a; b', /* ; */ new.*); return new; end -- the end",
        "begin insert into history select r.* from (select new.*) as r; return new; end",
    ],
)
def test_a_trigger_that_inserts_its_row_whole_is_certain_to_fail(source: str) -> None:
    assert (function(source).copies(ARTICLES) or ("", ""))[0] == "history"
    assert function(source).copies("public.comments") is None


@pytest.mark.parametrize(
    "source",
    [
        "begin insert into history (id, title) values (new.id, new.title); return new; end",
        "begin insert into history values (to_jsonb(new.*)); return new; end",
        "begin insert into history select row_to_json((select r from (select new.*) as r)); return new; end",
        "begin insert into history values (row(new.*)::text); return new; end",
        "begin insert into history select 1 where new.* is distinct from old.*; return new; end",
        "begin if new.* is distinct from old.* then insert into history values (1); end if; return new; end",
        "begin -- insert into history select new.*\n return new; end",
        "begin insert into history select 2 * new.words, count(*) from articles; return new; end",
        "begin raise notice 'insert into history select new.*'; return new; end",
        r"begin raise notice E'it\'s; insert into history select new.*'; return new; end",
        "begin if exists (select * from articles) then insert into history values (1); end if; return new; end",
    ],
)
def test_a_trigger_that_names_its_columns_or_makes_one_value_of_the_row_is_in_nobodys_way(source: str) -> None:
    assert function(source).copies(ARTICLES) is None
    assert function(source).looks_at(ARTICLES) == ""


def test_rows_of_a_statement_are_whole_rows_too() -> None:
    source = "begin insert into history select * from gone; return null; end"
    assert function(source, named=("gone",)).copies(ARTICLES) == ("history", "gone")
    assert function(source, named=("others",)).copies(ARTICLES) is None


@pytest.mark.parametrize("query", ["(select * from gone)", "select now(), g.* from gone as g join users on true"])
def test_rows_of_a_statement_may_be_called_otherwise(query: str) -> None:
    source = f"begin insert into history {query}; return null; end"
    assert function(source, named=("gone",)).copies(ARTICLES) == ("history", "gone")


@pytest.mark.parametrize(
    "query",
    [
        "(id) select id from (select * from gone except select * from came) as differing",
        "select count(*), g.words * 2 from gone as g",
        "select g.id, u.name from gone as g join (select * from users) as u on u.id = g.author_id",
        "select u.* from users as u join gone as g on g.author_id = u.id",
        "(what) select to_jsonb(g.*) from gone as g",
    ],
)
def test_who_takes_only_some_columns_of_the_rows_of_a_statement_is_in_nobodys_way(query: str) -> None:
    source = f"begin insert into history {query}; return null; end"
    assert function(source, named=("gone", "came")).copies(ARTICLES) is None


INSERTS = "inserts whole rows of it"
RETURNS = "returns whole rows of it as columns of its own"


@pytest.mark.parametrize(
    ("source", "changes", "doing"),
    [
        ("insert into archive select * from articles where id = $1", {"language": "sql"}, INSERTS),
        ("begin insert into archive select a.*, now() from public.articles a; end", {}, INSERTS),
        ("begin for r in select * from articles loop insert into archive select r.*; end loop; end", {}, INSERTS),
        ("begin execute 'insert into ' || target || ' select $1.*' using new; return new; end", {}, INSERTS),
        ("begin execute format('insert into %I select ($1).*', target) using new; return new; end", {}, INSERTS),
        ("begin execute 'insert into archive select * from articles'; end", {}, INSERTS),
        ("begin r := new; insert into history select r.*; return new; end", {}, INSERTS),
        ("declare r articles; begin r := new; insert into history values (r.*); return new; end", {}, INSERTS),
        ("declare r record; begin r := old; insert into history values (r.*); return new; end", {}, INSERTS),
        (
            "with gone as (delete from articles where id = $1 returning *) insert into archive select * from gone",
            {"language": "sql"},
            INSERTS,
        ),
        ("select * from articles", {"language": "sql", "columns": True}, RETURNS),
        ("begin return query select a.* from articles a; end", {"columns": True}, RETURNS),
        (
            "begin return query select id, author_id from articles; end",
            {"rows_of": ARTICLES},
            "returns rows of it with a list of columns",
        ),
        (
            "BEGIN ATOMIC SELECT articles.id FROM articles; END",
            {"language": "sql", "rows_of": ARTICLES, "parsed": True},
            "returns rows of it with a list of columns",
        ),
        (
            "begin for r in select * from articles union all select * from archive loop end loop; end",
            {},
            "joins whole rows of it with others, as by UNION",
        ),
        ("begin r := (1, 2, 'x')::articles; end", {}, "makes rows of it of a list of values"),
        ("begin perform 1 where (1, 2) in (select * from articles); end", {}, "compares with whole rows of it"),
        (
            "declare r log; begin r := new; insert into log (id, was) values (r.*); return new; end",
            {},
            "inserts whole rows of it",
        ),
        # and what goes on as before:
        (
            "declare r audit.log; begin r = row(1, tg_op); r.was = hstore(old.*) - hidden;"
            " insert into audit.log values (r.*); return null; end",
            {},
            "",
        ),
        ("declare r log%rowtype := null; begin r := new; insert into log select r.*; return new; end", {}, ""),
        ("select * from articles", {"language": "sql", "rows_of": ARTICLES}, ""),
        ("begin return query select * from articles; end", {"rows_of": ARTICLES}, ""),
        ("begin return next r; end", {"rows_of": ARTICLES}, ""),
        ("insert into articles select * from staging", {"language": "sql"}, ""),
        ("insert into articles (id) values (1) returning *", {"language": "sql", "rows_of": ARTICLES}, ""),
        ("select count(*) from articles", {"language": "sql", "columns": True}, ""),
        ("select * from articles_of_others", {"language": "sql", "columns": True}, ""),
        ("begin select * into r from articles limit 1; return r.title; end", {}, ""),
    ],
)
def test_what_a_function_does_with_whole_rows_is_seen(source: str, changes: dict[str, object], doing: str) -> None:
    assert function(source, **changes).looks_at(ARTICLES) == doing


HISTORY = (
    "create table history (like articles)",
    "create function keep() returns trigger language plpgsql as"
    " $$ begin insert into history select old.*; return null; end $$",
    "create trigger keep after update of title or delete on articles for each row execute function keep()",
)


def test_an_archive_of_whole_rows_is_refused_with_the_columns_to_name_and_then_kept_through_the_move(
    database: Database,
) -> None:
    world = worlds.publishing(database)
    shared = Decision("public.history", "shared", mode="none")
    with database.connect(OWNER) as owner:
        run(owner, *HISTORY, f"grant insert on history to {APP}")
        world = world.with_plan(shared)
        columns = "id, author_id, slug, title, body, words, created_at, updated_at, deleted_at"
        with refused(
            world, "public.articles: its trigger runs public.keep", f"insert into history ({columns}) select old.id"
        ):
            world.apply()
        run(
            owner,
            "create or replace function keep() returns trigger language plpgsql as $$ begin"
            f" insert into history ({columns}) select old.{columns.replace(', ', ', old.')}; return null; end $$",
        )
        (notice,) = move.list_notices(owner, world.plan)
        assert notice.startswith("public.articles: its trigger runs public.keep, which writes to public.history")
        run(owner, "alter function keep() security definer set search_path = public, pg_temp")
        assert move.list_notices(owner, world.plan) == []
    for phase in PHASES[:3]:
        world.apply(phase)
        with database.connect(APP) as app:
            run(app, "update articles set title = title || '!' where id = 1")
    world.apply("contract")
    with database.connect(APP) as app, app.transaction():
        tenant = worlds.personal_tenant(database, "user_2")
        app.execute("select tenantry.set_tenant_by_id_v1(%s, 'a test')", [tenant])
        run(app, "update articles set title = title || '!' where id = 1")
    with database.connect(OWNER) as owner:
        assert rows(owner, "select title from history order by length(title)") == [
            "Title 1" + "!" * n for n in range(4)
        ]


def test_functions_and_views_of_whole_rows_are_told_of_and_in_nobodys_way(database: Database) -> None:
    world = worlds.publishing(database)
    with database.connect(OWNER) as owner:
        run(
            owner,
            "create table archive (like articles)",
            "create function retire(bigint) returns void language sql as"
            " 'insert into archive select * from articles where id = $1'",
            "create function titles() returns table (id bigint) language sql as 'select id from articles'",
            "create function pure() returns setof articles language sql begin atomic select * from articles; end",
            "create view shown as select id, to_jsonb(a) as article, 'a.*' from articles as a",
            "create view plain as select *, 'a.*' as text from articles",
        )
        world = world.with_plan(Decision("public.archive", "shared", mode="none"))
        told = move.list_notices(owner, world.plan)
        assert [line.partition(", and ")[0].partition(", which")[0] for line in told] == [
            "public.articles: by its look the function public.pure returns rows of it with a list of columns",
            "public.articles: by its look the function public.retire inserts whole rows of it",
            "public.articles: the view public.shown shows or compares whole rows of it",
        ]
        world.apply("expand")
        for call in ("select retire(1)", "select * from pure()"):  # as foretold
            with pytest.raises(Exception, match=r"INSERT has more expressions|return type mismatch"):
                owner.execute(call.encode())
        assert "tenant_id" in str(read(owner, "select article from shown limit 1"))
        assert "tenant_id" not in str(owner.execute("select * from plain").description)
