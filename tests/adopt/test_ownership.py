"""Whose the rows of a table are: proposed with a reason where it is clear, asked where it is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adopt.schemas import schemas
from tenantry.adopt import graph, ownership, steps
from tenantry.adopt.catalog import Column, Index, Reference, Schema, Table
from tenantry.adopt.ownership import Proposal
from tenantry.adopt.plan import PLACES, Decision, Plan, Rows, To, check, sort
from tenantry.adopt.step import PHASES, Known


def table(name: str, *columns: str, refers: dict[str, str] | None = None, rows: int = 10_000, **holds: str) -> Table:
    """`refers`: column -> table; a column that ends in `?` may be null."""
    refers = refers or {}
    made = [Column("id", "bigint", not_null=True)]
    for column in (*columns, *refers):
        plain = column.rstrip("?")
        kind = "bigint" if column in refers else "text"
        made.append(Column(plain, kind, not_null=not column.endswith("?"), holds=holds.get(plain, "")))
    keys = [Index("pkey", ("id",), unique=True, primary=True, generated=True)]
    keys += [Index(f"{c}_key", (c,), unique=True) for c in columns if "clerk" in c]
    references = [Reference(f"{c}_fkey", (c.rstrip("?"),), f"public.{t}", ("id",)) for c, t in refers.items()]
    return Table(f"public.{name}", "owner", tuple(made), tuple(keys), tuple(references), rows=rows)


def proposed(*tables: Table, rows: Rows | None = None) -> dict[str, Proposal]:
    schema = Schema({each.name: each for each in tables}, login="owner")
    _, found = ownership.propose(schema, rows or Rows())
    return {name.removeprefix("public."): proposal for name, proposal in found.items()}


def told(proposal: Proposal) -> tuple[str, str, str]:
    return proposal.decision.tenant, ", ".join(proposal.decision.column), proposal.confidence


USERS = table("users", "clerk_id", clerk_id="user")


def test_a_row_that_names_its_user_belongs_to_that_user() -> None:
    found = proposed(USERS, table("articles", refers={"author_id": "users"}))
    assert told(found["articles"]) == ("owner", "author_id", "certain")


def test_a_user_that_may_be_missing_makes_it_likely_only() -> None:
    found = proposed(USERS, table("articles", refers={"author_id?": "users"}))
    assert told(found["articles"]) == ("owner", "author_id", "likely")


def test_what_hangs_on_an_owned_row_belongs_to_its_owner_at_any_depth() -> None:
    found = proposed(
        USERS,
        table("articles", refers={"author_id": "users"}),
        table("comments", refers={"article_id": "articles"}),
        table("votes", refers={"comment_id": "comments"}),
    )
    assert told(found["votes"]) == ("reference", "comment_id", "certain")


def test_two_ways_to_an_owner_are_a_question_with_both_as_choices() -> None:
    found = proposed(
        USERS,
        table("articles", refers={"author_id": "users"}),
        table("comments", refers={"article_id": "articles", "author_id": "users"}),
    )
    assert told(found["comments"]) == ("undecided", "", "question")
    assert [choice.column for choice in found["comments"].choices] == [("article_id",), ("author_id",)]


def test_a_column_whose_name_leads_elsewhere_makes_it_a_question() -> None:
    """With a foreign key in its place there would be two ways, too."""
    articles = table("articles", refers={"author_id": "users"})
    comments = table("comments", refers={"author_id": "users"})
    comments = replace(comments, columns=(*comments.columns, Column("article_id", "bigint")))
    found = proposed(USERS, articles, comments)
    assert told(found["articles"]) == ("owner", "author_id", "certain")
    assert (
        found["comments"].reason
        == "author_id names its user; by name and type so could article_id of public.articles (id)"
    )
    assert [choice.column for choice in found["comments"].choices] == [("author_id",), ("article_id",)]
    votes = table("votes", refers={"article_id": "articles"})
    votes = replace(votes, columns=(*votes.columns, Column("user_id", "bigint")))
    assert told(proposed(USERS, articles, votes)["votes"])[2] == "question"


def test_a_table_called_as_a_column_is_comes_before_the_users() -> None:
    notes = table("notes", refers={"account_id": "accounts", "created_by": "users"})
    found = proposed(USERS, table("accounts"), replace(notes, references=()))
    ways = [(way.tenant, way.refers_to) for way in found["notes"].choices if way.refers_to]
    assert ways == [("reference", "public.accounts (id)"), ("owner", "public.users (id)")]


def test_a_column_whose_name_leads_to_a_short_list_or_another_type_is_no_doubt() -> None:
    articles = table("articles", refers={"author_id": "users", "country_id": "countries"})
    comments = table("comments", "article_id", refers={"author_id": "users"})
    comments = replace(comments, columns=(*comments.columns, Column("country_id", "integer")))
    found = proposed(USERS, table("countries", rows=200), articles, comments)
    assert told(found["comments"]) == ("owner", "author_id", "certain")


def test_what_depends_on_a_question_is_one() -> None:
    found = proposed(
        USERS,
        table("follows", refers={"follower_id": "users", "followed_id": "users"}),
        table("notes", refers={"follow_id": "follows"}),
    )
    assert told(found["notes"]) == ("undecided", "", "question")
    assert "public.follows" in found["notes"].reason


def test_a_short_list_that_others_refer_to_is_shared() -> None:
    found = proposed(
        USERS,
        table("countries", rows=200),
        table("articles", refers={"author_id": "users", "country_id": "countries"}),
    )
    assert (found["countries"].decision.mode, found["countries"].confidence) == ("read", "likely")
    assert told(found["articles"]) == ("owner", "author_id", "certain")


def test_a_table_that_refers_to_itself_has_no_owner_by_that() -> None:
    found = proposed(USERS, table("folders", refers={"parent_id?": "folders", "owner_id": "users"}))
    assert told(found["folders"]) == ("owner", "owner_id", "certain")


def test_a_circle_without_a_user_is_a_question() -> None:
    found = proposed(USERS, table("hens", refers={"egg_id": "eggs"}), table("eggs", refers={"hen_id": "hens"}))
    assert {told(found[name])[2] for name in ("hens", "eggs")} == {"question"}


def test_a_polymorphic_column_is_a_question() -> None:
    found = proposed(USERS, table("attachments", "owner_type", "owner_id"))
    assert told(found["attachments"])[2] == "question"
    assert "owner_id refers to one of several tables" in found["attachments"].reason


def test_clerks_organization_in_a_column_is_taken_as_it_is() -> None:
    found = proposed(USERS, table("documents", "org_id", refers={"author_id": "users"}, org_id="organization"))
    assert told(found["documents"]) == ("column", "org_id", "certain")


def test_the_apps_own_organizations_come_before_its_users() -> None:
    organizations = table("organizations", "clerk_org_id", clerk_org_id="organization")
    found = proposed(
        USERS, organizations, table("invoices", refers={"organization_id": "organizations", "by_id": "users"})
    )
    assert told(found["invoices"]) == ("reference", "organization_id", "certain")


def test_the_apps_own_organizations_are_seen_by_the_column_that_names_them_and_not_moved() -> None:
    found = proposed(table("organizations", "clerk_org_id", clerk_org_id="organization"))
    assert told(found["organizations"]) == ("column", "clerk_org_id", "certain")


def test_organizations_whose_clerk_ids_are_no_text_get_a_tenant() -> None:
    organizations = table("organizations", "clerk_id")
    column = replace(organizations.columns[1], type="citext")
    found = proposed(replace(organizations, columns=(organizations.columns[0], column)))
    assert told(found["organizations"]) == ("owner", "id", "certain")


def test_clerks_user_ids_do_without_a_table_of_users() -> None:
    found = proposed(table("notes", "user_id", user_id="user"))
    assert told(found["notes"]) == ("owner", "user_id", "certain")


def test_with_one_organization_for_all_there_is_nothing_to_choose_between() -> None:
    rows = Rows(to="organization", organization="org_1")
    found = proposed(
        USERS,
        table("articles", refers={"author_id": "users"}),
        table("comments", refers={"article_id": "articles", "author_id": "users"}),
        rows=rows,
    )
    assert told(found["comments"]) == ("organization", "", "likely")


@given(schemas(), st.sampled_from(PLACES))
def test_every_table_gets_one_proposal_and_those_decided_make_a_plan(schema: Schema, to: To) -> None:
    rows = Rows(to=to, organization="org_1", column="id", csv="x.csv")
    plan, found = ownership.propose(schema, rows)
    assert sorted(found) == sorted(schema.tables)
    assert [decision.table for decision in plan.decisions] == sorted(schema.tables)
    for proposal in found.values():
        assert proposal.reason
        assert (proposal.decision.tenant == "undecided") == (proposal.confidence == "question")
    decided = Plan(rows, tuple(_settled(d) for d in plan.decisions), plan.users, plan.organizations)
    assert graph.mermaid(decided, schema).startswith("graph LR")
    problems = [p for p in check(decided, schema) if "tenant_id" not in p]
    order = [decision.table for decision in sort(decided, schema)]
    assert sorted(order) == sorted(decision.table for decision in decided.owned)
    if not problems:
        built = steps.build(decided, schema, Known({"org_1": "00000000-0000-0000-0000-000000000001"}))
        names = [step.name for step in built]
        assert [name for name in names if names.count(name) > 1] == []
        phases = [PHASES.index(step.phase) for step in built]
        assert phases == sorted(phases)


def _settled(decision: Decision) -> Decision:
    """A person who decides nothing shares it with nobody."""
    return Decision(decision.table, "shared", mode="none") if decision.tenant == "undecided" else decision


def test_a_circle_of_owners_in_a_plan_is_refused() -> None:
    hens, eggs = table("hens", refers={"egg_id": "eggs"}), table("eggs", refers={"hen_id": "hens"})
    schema = Schema({each.name: each for each in (hens, eggs)})
    decisions = (
        Decision("public.hens", "reference", ("egg_id",)),
        Decision("public.eggs", "reference", ("hen_id",)),
    )
    with pytest.raises(Exception, match="from each other"):
        sort(Plan(Rows(), decisions), schema)
