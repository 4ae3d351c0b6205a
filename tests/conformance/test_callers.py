"""Every caller lives every case of the case file, with the same rows, contexts and errors as every other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from conformance.callers import CALLERS, Outcome, opened
from conformance.cases import Case, Life, make_tables, read_cases
from databases import Database, Server
from sql.tenants import Connection

CASES = read_cases()


@pytest.fixture(scope="module")
def database(server: Server, template: str) -> Iterator[Database]:
    made = server.create(template)
    make_tables(made)
    yield made
    server.drop(made)


@pytest.fixture(scope="module")
def app(database: Database) -> Iterator[Connection]:
    """What the mirror is told through."""
    with database.connect() as connection:
        yield connection


@pytest.mark.attack(1, 2, 3)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_every_caller_agrees_that(case: Case, database: Database, app: Connection) -> None:
    first: list[Outcome] = []
    for name in CALLERS:
        async with opened(name, database) as caller:
            outcomes = await Life(app).live(case, caller)
        check(name, case, outcomes)
        first = first or outcomes
        assert [alike(one) for one in outcomes] == [alike(one) for one in first], f"{name} differs from {CALLERS[0]}"


def alike(outcome: Outcome) -> Outcome:
    """No rows and none asked for are the same to calls that always answer with rows."""
    return replace(outcome, rows=outcome.rows or None)


def check(name: str, case: Case, outcomes: list[Outcome]) -> None:
    for number, (wanted, outcome) in enumerate(zip(case.transactions, outcomes, strict=True), 1):
        where = f"{name}, transaction {number}: {outcome}"
        assert (outcome.problem.code if outcome.problem else None) == wanted.get("error"), where
        if "rows" in wanted:
            assert outcome.rows == wanted["rows"], where
        for field, value in wanted.get("context", {}).items():
            assert outcome.context[field] == value, where  # type: ignore[index]  # the plain words of a life


def test_the_case_file_says_something_of_every_transaction() -> None:
    known = {"as", "told", "run", "read_only", "end", "rows", "error", "context", "same_scope"}
    for case in CASES:
        assert any({"rows", "error", "context"} & set(one) for one in case.transactions), case.name
        for transaction in case.transactions:
            assert set(transaction) <= known, case.name
