"""A template's markers delete what a variant is without; one that is unbalanced or names no switch is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.scaffold.templates import TemplateError, render

SWITCHES = {"api": True, "proxy": False}


def test_a_block_stays_where_its_switch_is_on_and_goes_where_it_is_off() -> None:
    text = "a\n// tenantry:if api\nb\n// tenantry:end\n  // tenantry:if proxy\nc\n  // tenantry:end\nd\n"
    assert render(text, SWITCHES) == "a\nb\nd\n"


def test_a_negated_block_stays_where_its_switch_is_off() -> None:
    text = "// tenantry:if !api\na\n// tenantry:end\n// tenantry:if !proxy\nb\n// tenantry:end\n"
    assert render(text, SWITCHES) == "b\n"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("// tenantry:if proxy", "// tenantry:end"),
        ("{/* tenantry:if proxy */}", "{/* tenantry:end */}"),
        ("/* tenantry:if proxy */", "/* tenantry:end */"),
        ("-- tenantry:if proxy", "-- tenantry:end"),
        ("# tenantry:if proxy", "# tenantry:end"),
    ],
)
def test_markers_are_comments_of_each_language(opening: str, closing: str) -> None:
    assert render(f"{opening}\nx\n{closing}\ny\n", SWITCHES) == "y\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("// tenantry:if api\n", "Line 1: an if without its end."),
        ("x\n// tenantry:end\n", "Line 2: an end without its if."),
        ("// tenantry:if api\n// tenantry:if proxy\n", "Line 2: an if within that of line 1."),
        ("// tenantry:if drizzle\n// tenantry:end\n", "Line 1: there is no switch 'drizzle'; there are api, proxy."),
        ("// tenantry:if\n// tenantry:end\n", "Line 1: there is no marker 'if' of this form."),
        ("// tenantry:unless api\n", "Line 1: there is no marker 'unless' of this form."),
        ("// tenantry:end api\n", "Line 1: there is no marker 'end' of this form."),
        ("call(); // tenantry:if api\n", "Line 1: a marker stands in a comment of its own, alone on its line."),
    ],
)
def test_a_wrong_marker_is_refused_and_its_line_named(text: str, says: str) -> None:
    with pytest.raises(TemplateError) as refused:
        render(text, SWITCHES)
    assert str(refused.value) == says


@given(st.text())
def test_a_text_without_markers_is_left_as_it_is(text: str) -> None:
    if "tenantry:" not in text:
        assert render(text, {}) == text
