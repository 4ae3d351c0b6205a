"""What a machine lacks skips the tests that need it; where everything is required it fails them."""

from __future__ import annotations

import pytest

import conftest

REASON = "frobnicate is not installed on this machine"


def test_a_lack_skips_the_test_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANTRY_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=REASON):
        conftest.lack(REASON)


def test_a_lack_fails_the_test_where_everything_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match=f"{REASON}, and TENANTRY_REQUIRE_ALL=1 is set"):
        conftest.lack(REASON)


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_test_that_names_a_missing_tool_lacks_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, required: str, outcome: type[Exception]
) -> None:
    monkeypatch.setenv("TENANTRY_REQUIRE_ALL", required)
    monkeypatch.setitem(conftest.TOOLS, "frobnicate", lambda: False)
    request.node.add_marker(pytest.mark.requires("frobnicate"))
    with pytest.raises(outcome, match=REASON):
        conftest.pytest_runtest_setup(request.node)


def test_a_tool_that_is_there_is_no_lack(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conftest.TOOLS, "frobnicate", lambda: True)
    request.node.add_marker(pytest.mark.requires("frobnicate"))
    conftest.pytest_runtest_setup(request.node)
