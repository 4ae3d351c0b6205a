"""The hierarchy of errors: one class a code, the same codes as the database, drawn as it is."""

from __future__ import annotations

import re
from importlib import resources

from tenantry import errors
from tenantry.errors import NotAMember, TenantryError, from_sqlstate


def classes(parent: type[TenantryError] = TenantryError) -> list[type[TenantryError]]:
    return [parent, *(found for child in parent.__subclasses__() for found in classes(child))]


def test_every_code_the_database_raises_has_its_class() -> None:
    source = resources.files("tenantry").joinpath("sql", "functions", "raise_error.sql").read_text()
    raised = set(re.findall(r"^\s+\('(TY\d{3})'", source, re.MULTILINE))
    mapped = {cls.sqlstate for cls in classes() if cls.sqlstate}
    assert raised == mapped


def test_every_error_stands_in_the_drawing() -> None:
    drawing = errors.__doc__ or ""
    for cls in classes():
        assert re.search(rf"\b{cls.__name__}\b", drawing), f"{cls.__name__} is not drawn"
        if cls.sqlstate:
            assert cls.sqlstate in drawing


def test_no_two_errors_share_a_code() -> None:
    codes = [cls.code for cls in classes()]
    assert len(codes) == len(set(codes))


def test_an_error_of_the_database_is_told_by_its_code_and_not_its_text() -> None:
    error = from_sqlstate("TY012", "another sentence", detail="user user_1", hint=None)
    assert isinstance(error, NotAMember)
    assert str(error) == "another sentence\nuser user_1"
    assert from_sqlstate("42501", "not ours") is None
    assert from_sqlstate(None, "none") is None
