"""`adopt.toml`: what is written is read again, and a mistake in it is a sentence with its line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.adopt import config
from tenantry.adopt.names import format_target, quote
from tenantry.adopt.ownership import Proposal
from tenantry.adopt.plan import KINDS, PLACES, Decision, Plan, Rows, Source, restore
from tenantry.errors import ConfigurationError

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
tables = st.builds(lambda space, name: f"{quote(space)}.{quote(name)}", words, words)
organizations = st.from_regex(r"org_[a-z0-9]{1,6}", fullmatch=True)
decisions = st.builds(
    Decision,
    table=words,
    tenant=st.sampled_from(KINDS),
    column=st.lists(words, max_size=2).map(tuple),
    mode=st.sampled_from(["", "read", "write", "none"]),
    keep=st.lists(words, max_size=2).map(tuple),
    triggers=st.sampled_from(["", "fire"]),
    refers_to=st.just("") | st.builds(format_target, tables, st.tuples(words.map(quote))),
)
sources = st.builds(Source, table=words, key=words, clerk_id=st.just("") | words, csv=st.just("") | words)
rows = st.builds(
    Rows,
    to=st.sampled_from(PLACES),
    organization=organizations,
    column=st.just("") | words,
    by=st.sampled_from(["", "domain"]),
    organizations=st.dictionaries(words, organizations, max_size=3),
    csv=st.just("") | words,
    rest=st.just("") | organizations,
)
plans = st.builds(
    lambda decisions, **rest: Plan(decisions=tuple(sorted(decisions, key=lambda d: d.table)), **rest),
    decisions=st.lists(decisions, max_size=4, unique_by=lambda d: d.table),
    rows=rows,
    users=st.none() | sources,
    organizations=st.none() | sources,
)


@given(plans)
@example(Plan(Rows(), (Decision('"\x7f"', "shared", mode="read"),)))
def test_a_plan_that_is_written_is_read_as_it_was(plan: Plan) -> None:
    why = {d.table: Proposal(d, "because", "certain", (d,)) for d in plan.decisions}
    assert config.parse(config.write(plan, why)) == plan


@given(plans)
def test_a_plan_that_is_recorded_is_restored_as_it_was(plan: Plan) -> None:
    assert restore(json.loads(json.dumps(asdict(plan)))) == plan


@given(st.text(max_size=200))
def test_any_text_is_a_plan_or_a_mistake(text: str) -> None:
    try:
        config.parse(text)
    except ConfigurationError as error:
        assert str(error)


PLAN = """\
[rows]
to = "personal"

[users]
table = "public.users"
key = "id"

# the articles
[tables."public.articles"]
tenant = "owner"
column = "author_id"
"""


@pytest.mark.parametrize(
    ("was", "becomes", "line", "sentence"),
    [
        ('to = "personal"', 'to = "moon"', 2, 'to is one of personal, organization, column, csv, not "moon".'),
        ('to = "personal"', 'rest = "nobody"', 2, "rest is Clerk's id of an organization"),
        ('key = "id"', "key = 7", 6, "key is a text."),
        ('key = "id"', 'kye = "id"', 6, '"kye" is not known here'),
        ('tenant = "owner"', 'tenant = "owned"', 10, "tenant is one of owner, reference"),
        ('tenant = "owner"', "", 9, "tenant is missing"),
        ('column = "author_id"', "column = [1]", 11, "column is a text, or a list of texts."),
        ('column = "author_id"', 'colum = "author_id"', 11, '"colum" is not known here'),
        ('tenant = "owner"', 'refers_to = "users"\ntenant = "owner"', 10, "refers_to is a table and its key: "),
        ("[users]", "[user]", 4, '"user" is not known here'),
    ],
)
def test_a_mistake_is_told_with_its_line(was: str, becomes: str, line: int, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.parse(PLAN.replace(was, becomes))
    assert f"adopt.toml:{line}: {sentence}" in (caught.value.detail or "")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match="2 mistakes") as caught:
        config.parse(PLAN.replace('"personal"', '"moon"').replace('"owner"', '"owned"'))
    assert len((caught.value.detail or "").splitlines()) == 2


def test_what_is_no_toml_is_told_with_its_line() -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        config.parse("[rows]\nto = personal")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("1,org_a\n1,org_b\n", "2: 1 is org_a in one line and org_b here."),
        ("1,org_a\n2\n", "2: a line is a key"),
        ("1,org_a\n2,acme\n", "2: a line is a key"),
    ],
)
def test_a_mistake_in_a_list_of_owners_is_told_with_its_line(tmp_path: Path, lines: str, sentence: str) -> None:
    file = tmp_path / "owners.csv"
    file.write_text(lines)
    with pytest.raises(ConfigurationError) as caught:
        config.read_pairs(str(file))
    assert sentence in caught.value.message


def test_a_list_of_owners_may_have_a_head_and_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "owners.csv"
    file.write_text("user,organization\n1,org_a\n\n2, org_b\n")
    assert config.read_pairs(str(file)) == {"1": "org_a", "2": "org_b"}
