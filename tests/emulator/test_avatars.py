"""The pictures of whoever uploaded none."""

from __future__ import annotations

from urllib.parse import unquote
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tenantry.emulator.avatars import draw


def text_of(picture: str) -> str:
    root = ElementTree.fromstring(unquote(picture.removeprefix("data:image/svg+xml,")))
    assert [each.tag.rpartition("}")[2] for each in root] == ["rect", "text"]
    return root[1].text or ""


def test_a_picture_has_the_initials_of_the_first_two_words() -> None:
    assert text_of(draw("Ada King Lovelace")) == "AK"
    assert text_of(draw("acme")) == "A"
    assert text_of(draw("<script>alert(1)</script>")) == "SA"
    assert text_of(draw("...")) == ""


@given(name=st.text())
def test_whatever_the_name_the_picture_is_two_letters_on_a_colour(name: str) -> None:
    assert len(text_of(draw(name))) <= 6  # a letter may have a capital of three
    assert draw(name) == draw(name)
