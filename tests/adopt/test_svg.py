"""The picture of a plan: what every table's box says, where it is, and that any name can be drawn."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from adopt.schemas import schemas
from tenantry.adopt import graph, ownership, svg
from tenantry.adopt.catalog import Column, Index, Reference, Schema, Table
from tenantry.adopt.plan import KINDS, PLACES, Decision, Plan, Rows, Source, To

Box = tuple[float, float, float, float]
SPACE = "{http://www.w3.org/2000/svg}"


def boxes(picture: str) -> dict[str, Box]:
    """Where each table is, by the name in its tooltip."""
    found = {}
    for group in ElementTree.fromstring(picture).iter(f"{SPACE}g"):
        title, rect = group.find(f"{SPACE}title"), group.find(f"{SPACE}rect")
        assert title is not None
        assert rect is not None
        name = title.text or ""
        assert name not in found
        x, y, width, height = (float(rect.attrib[each]) for each in ("x", "y", "width", "height"))
        found[name] = (x, y, x + width, y + height)
    return found


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check(picture: str, names: list[str]) -> dict[str, Box]:
    """Every table once, inside the picture, and none over another."""
    found = boxes(picture)
    assert sorted(found) == sorted(names)
    root = ElementTree.fromstring(picture)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for left, top, right, bottom in found.values():
        assert 0 < left < right < width
        assert 0 < top < bottom < height
    assert [pair for pair in combinations(sorted(found.values()), 2) if overlap(*pair)] == []
    return found


@given(schemas(), st.sampled_from(PLACES))
def test_any_plan_is_drawn_with_every_table_in_a_place_of_its_own(schema: Schema, to: To) -> None:
    plan, _ = ownership.propose(schema, Rows(to=to, organization="org_1", column="id", csv="x.csv"))
    check(svg.draw(plan, schema), list(schema.tables))


names = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=60)
wild = st.builds(
    Decision,
    table=names,
    tenant=st.sampled_from(KINDS),
    column=st.lists(names, max_size=2).map(tuple),
    mode=st.sampled_from(["", "read", "write", "none"]),
)


@given(st.lists(wild, max_size=20, unique_by=lambda decision: decision.table), st.none() | names)
def test_any_name_can_be_drawn_even_of_tables_that_are_not_there(decisions: list[Decision], users: str | None) -> None:
    picture = svg.draw(Plan(Rows(), tuple(decisions), Source(users, "id") if users else None), Schema({}))
    root = ElementTree.fromstring(picture.encode())
    assert len(list(root.iter(f"{SPACE}g"))) == len(decisions)


def table(name: str, **refers: str) -> Table:
    columns = [Column("id", "bigint", True), *(Column(column, "bigint", True) for column in refers)]
    keys = (Index("pkey", ("id",), unique=True, primary=True),)
    references = tuple(Reference(f"{c}_fkey", (c,), target, ("id",)) for c, target in refers.items())
    return Table(name, "owner", tuple(columns), keys, references, rows=1234)


def drawn(*tables: Table) -> tuple[str, dict[str, Box]]:
    schema = Schema({each.name: each for each in tables})
    plan, _ = ownership.propose(schema, Rows())
    picture = svg.draw(plan, schema)
    return picture, check(picture, list(schema.tables))


def test_a_table_is_right_of_the_one_it_gets_its_tenant_from() -> None:
    picture, found = drawn(
        table("public.users"),
        table("public.articles", author_id="public.users"),
        table("public.comments", article_id="public.articles"),
        table("public.log"),
    )
    users, articles, comments, log = (found[f"public.{name}"] for name in ("users", "articles", "comments", "log"))
    assert users[2] < articles[0] < articles[2] < comments[0]
    assert log[1] > max(users[3], comments[3])
    texts = [text.text for text in ElementTree.fromstring(picture).iter(f"{SPACE}text")]
    assert {"author_id", "article_id", "personal", "articles", "To be decided", "1,234 rows"} <= set(texts)
    assert "4 tables: 2 with a tenant, 1 shared, 1 to be decided" in texts


def test_two_hundred_tables_fit_on_a_sheet() -> None:
    tables = [table(f"public.table_{n}", owner_id="public.users") for n in range(200)]
    tables += [table(f"public.part_{n}", table_id=f"public.table_{n // 3}") for n in range(30)]
    picture, _ = drawn(table("public.users"), *tables)
    root = ElementTree.fromstring(picture)
    assert float(root.attrib["width"]) < 4000
    assert float(root.attrib["height"]) < 3000


def test_the_picture_stands_by_itself() -> None:
    picture, _ = drawn(table("public.users"))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|href|@import|url\(", picture)
    assert "prefers-color-scheme: dark" in picture


def test_a_reference_that_no_foreign_key_enforces_is_dashed() -> None:
    schema = Schema({each.name: each for each in (table("public.users"), table("public.notes"))})
    notes = Decision("public.notes", "owner", ("user_id",), refers_to="public.users (id)")
    plan = Plan(Rows(), (notes, Decision("public.users", "shared", mode="write")), Source("public.users", "id"))
    assert 'class="line dashed"' in svg.draw(plan, schema)
    assert '-. "user_id" .-> t1' in graph.mermaid(plan, schema)
