"""The role map: `tenantry.toml`, patterns and `can()`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry import roles
from tenantry.errors import ConfigurationError

VECTORS = json.loads((Path(__file__).parent / "vectors" / "can.json").read_text())

segment = st.text("abz09_.-", min_size=1, max_size=3)
permission = st.lists(segment, min_size=1, max_size=4).map(":".join)
pattern = st.lists(st.one_of(st.just("*"), st.sampled_from("ab")), min_size=1, max_size=4).map(":".join)


@pytest.mark.parametrize(("pattern", "permission", "expected"), VECTORS)
def test_a_pattern_covers_what_the_shared_vectors_say(pattern: str, permission: str, expected: bool) -> None:
    assert roles.matches(pattern, permission) is expected
    assert roles.can(["never:this", pattern], permission) is expected


def covers(wanted: list[str], given_segments: list[str]) -> bool:
    """The rule word by word, one segment at a time."""
    if not wanted or not given_segments:
        return not wanted and not given_segments
    if wanted == ["*"]:
        return True
    return wanted[0] in ("*", given_segments[0]) and covers(wanted[1:], given_segments[1:])


@given(pattern, st.lists(st.sampled_from("ab"), min_size=1, max_size=5).map(":".join))
def test_matching_agrees_with_the_rule_word_by_word(pattern: str, permission: str) -> None:
    assert roles.matches(pattern, permission) is covers(pattern.split(":"), permission.split(":"))


@given(permission)
def test_the_lone_star_covers_every_permission_and_a_permission_covers_itself(permission: str) -> None:
    assert roles.matches("*", permission)
    assert roles.matches(permission, permission)


@pytest.mark.parametrize(
    "name", ["", "Documents:read", "documents::read", ":", "documents:*", "a b", "é", "a\n", "x" * 201]
)
def test_what_is_no_permission_is_covered_by_nothing(name: str) -> None:
    assert not roles.is_permission(name)
    assert not roles.can(["*", "*:*", name], name)


@given(st.text(), st.text())
def test_matching_never_raises(pattern: str, permission: str) -> None:
    roles.matches(pattern, permission)


def test_a_role_has_its_own_and_all_inherited_permissions() -> None:
    role_map = roles.parse(
        """
        [roles."org:admin"]
        inherits = "org:editor"
        permissions = ["billing:*"]
        [roles.editor]
        inherits = ["org:member", "org:guest"]
        permissions = ["documents:*"]
        [roles."org:member"]
        inherits = ["guest"]
        permissions = ["documents:read"]
        [roles."org:guest"]
        """
    )
    assert role_map.permissions("org:admin") == {"billing:*", "documents:*", "documents:read"}
    assert role_map.permissions("admin") == role_map.permissions("org:admin")
    assert role_map.permissions("org:guest") == frozenset()
    assert role_map.roles == {"org:admin", "org:editor", "org:member", "org:guest"}
    assert role_map.rows() == [
        ("org:admin", "billing:*"),
        ("org:admin", "documents:*"),
        ("org:admin", "documents:read"),
        ("org:editor", "documents:*"),
        ("org:editor", "documents:read"),
        ("org:member", "documents:read"),
    ]


def test_a_role_the_map_does_not_know_has_nothing() -> None:
    assert roles.DEFAULT.permissions("org:stranger") == frozenset()
    assert not roles.can(roles.DEFAULT.permissions("org:stranger"), "documents:read")


def test_without_a_file_admins_may_everything_and_members_may_read() -> None:
    role_map = roles.load(None)
    assert roles.can(role_map.permissions("org:admin"), "documents:delete")
    for member in ("org:member", "basic_member"):
        assert roles.can(role_map.permissions(member), "documents:read")
        assert not roles.can(role_map.permissions(member), "documents:create")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'roles'"),
        ("roles = 3", "'roles'"),
        ("[roles]", "'roles'"),
        ("[role.x]", "'role'"),
        ("[roles.x", "not valid TOML"),
        ("roles.x = 3", "roles.x"),
        ("[roles.x]\npermission = []", "roles.x.permission"),
        ('[roles.x]\npermissions = "a"', "roles.x.permissions"),
        ("[roles.x]\npermissions = [1]", "roles.x.permissions"),
        ('[roles.x]\npermissions = ["Documents"]', "'Documents'"),
        ('[roles.x]\npermissions = ["doc*"]', "'doc*'"),
        ('[roles.x]\npermissions = [""]', "''"),
        ("[roles.x]\ninherits = 1", "roles.x.inherits"),
        ('[roles.x]\ninherits = ["y"]', "org:y"),
        ('[roles.x]\ninherits = ["x"]', "org:x inherits itself"),
        ('[roles.x]\ninherits = "y"\n[roles.y]\ninherits = "x"', "inherits itself"),
        ('[roles.z]\ninherits = "x"\n[roles.x]\ninherits = "y"\n[roles.y]\ninherits = "x"', "inherits itself"),
        ('[roles."org:Admin"]', "'org:Admin'"),
        ('[roles."org:"]', "'org:'"),
        ('[roles.x]\n[roles."org:x"]', "org:x a second time"),
        ("x = " + "[" * 5000, "the file"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place_and_a_fix(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        roles.parse(text, source="tenantry.toml")
    assert "tenantry.toml" in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint


def test_a_chain_of_parents_may_be_as_long_as_the_file() -> None:
    chain = "".join(f'[roles.r{i}]\ninherits = "r{i + 1}"\n' for i in range(3000))
    role_map = roles.parse(f'{chain}[roles.r3000]\npermissions = ["deep"]')
    assert role_map.permissions("r0") == {"deep"}


toml_value = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text().map(json.dumps), st.just("[]"), st.just("{}")).map(str),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        inner.map(lambda item: f"{{ permissions = {item}, inherits = {item} }}"),
    ),
    max_leaves=6,
)


@given(st.one_of(st.text(), toml_value.map("roles = {}".format), toml_value.map("roles.x = {}".format)))
@example("roles.x.permissions = ['a']\nroles.x = 1")
def test_any_text_is_a_role_map_or_one_clear_error(text: str) -> None:
    try:
        role_map = roles.parse(text)
    except ConfigurationError as error:
        assert error.hint
    else:
        assert all(role.startswith("org:") for role in role_map.roles)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[roles.x]\npermissions = ['\xe9']"])
def test_a_file_that_is_not_text_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tenantry.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="UTF-8"):
        roles.load(path)


@pytest.mark.parametrize("name", ["missing.toml", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        roles.load(str(tmp_path / name) if name != "" else tmp_path)


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "tenantry.toml"
    path.write_bytes(b"\xef\xbb\xbf[roles.x]\npermissions = ['a']")
    assert roles.load(path).rows() == [("org:x", "a")]
