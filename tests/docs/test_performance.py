"""The remedies of docs/performance.md, run as they stand; and a place in it for every question of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import QUESTIONS
from benchmarks.harness import page
from databases import Database
from snippets import ROOT, blocks

NAME = "docs/performance.md"


def test_the_remedies_find_what_like_and_text_search_would(database: Database) -> None:
    like, range_query, search, words_query = blocks(NAME, "sql")
    with database.connect(database.superuser) as connection:
        connection.execute("insert into tenantry.tenants (id, clerk_org_id) values (gen_random_uuid(), 'org_a')")
        connection.execute("insert into tenantry.tenants (id, clerk_org_id) values (gen_random_uuid(), 'org_b')")
        tenants = connection.execute("select id from tenantry.tenants order by clerk_org_id").fetchall()
    with database.connect(database.owner) as connection:
        connection.execute(like.encode())
        connection.execute(search.encode())
    titles = ["harbor pine", "Harbor", "harb", "harbors of pines", "pine", "hard", "harbó"]
    for (tenant,) in tenants:
        with database.connect() as connection, connection.transaction():
            connection.execute("select tenantry.set_tenant_by_id_v1(%s, 'test')", [tenant])
            for title in titles:
                connection.execute("insert into pages (title) values (%s)", [title])
            connection.execute("update pages set title = 'a pine at the harbor' where title = 'pine'")
            connection.execute("delete from pages where title = 'hard'")
            like_ids = connection.execute("select id from pages where title like 'harb%'").fetchall()
            found = connection.execute(range_query.encode()).fetchall()
            assert sorted(number for number, _ in found) == sorted(number for (number,) in like_ids)
            assert len(found) == 4
            searched = connection.execute(
                "select id from pages where to_tsvector('english', title) @@ to_tsquery('english', 'harbors & pine')"
            ).fetchall()
            assert sorted(connection.execute(words_query.encode()).fetchall()) == sorted(searched)
            assert len(searched) == 3


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_page_has_a_place_for_each_answer(question: str, tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text((ROOT / NAME).read_text(encoding="utf-8"), encoding="utf-8")
    page.write(question, "| first |", copy)
    page.write(question, "| second |", copy)
    written = copy.read_text(encoding="utf-8")
    assert "| second |" in written
    assert "| first |" not in written
    with pytest.raises(LookupError, match="has no place for nothing"):
        page.write("nothing", "", copy)
