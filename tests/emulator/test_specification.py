"""The reading of OpenAPI schemas, on a small specification of our own that has every form Clerk's have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.specs.findings import Finding, Kind
from emulator.specs.specification import Specification

Json = dict[str, Any]


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


def answer(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


TEXT: Json = {"type": "string"}
PETS = {"type": "array", "items": {"oneOf": [ref("Cat"), ref("Dog")]}}
ADDRESS = {"oneOf": [TEXT, record(["street", "town"], street=TEXT, town=TEXT)]}
SCHEMAS = {
    "ClerkErrors": record(["errors"], errors={"type": "array", "items": record(["code"], code=TEXT)}),
    "Owner": record(["id"], id=TEXT, nick=TEXT | {"nullable": True}, notes={"type": "object"})
    | {"additionalProperties": False},
    "Cat": record(["kind", "lives"], kind={"type": "string", "enum": ["cat"]}, lives={"type": "integer"}),
    "Dog": record(["kind"], kind={"type": "string", "enum": ["dog"]}, tricks={"type": "array", "items": TEXT}),
    # `Owner` is closed and yet takes more fields here: what allOf holds is read as one object.
    "Household": {
        "allOf": [
            ref("Owner"),
            record(["pets"], pets=PETS, partner={"nullable": True, "allOf": [ref("Owner")]}, address=ADDRESS),
        ]
    },
}
HOUSEHOLDS = "GET /households/{household_id}"


@pytest.fixture(scope="module")
def specification() -> Specification:
    responses = {"200": {"$ref": "#/components/responses/Household"}, "204": {"description": "nothing"}}
    return Specification(
        {
            "components": {"schemas": SCHEMAS, "responses": {"Household": answer(ref("Household"))}},
            "paths": {"/households/{household_id}": {"get": {"tags": ["Households"], "responses": responses}}},
            "x-webhooks": {
                "cat.created": {"post": {"requestBody": answer(record(["type"], type=TEXT, data=ref("Cat")))}}
            },
        }
    )


def household(**more: Any) -> Json:
    return {"id": "h1", "nick": None, "notes": {"any": ["thing"]}, "partner": None, "pets": []} | more


@pytest.mark.parametrize(
    "body",
    [
        household(),
        household(nick="The Does", partner={"id": "o2"}),
        household(pets=[{"kind": "cat", "lives": 9}, {"kind": "dog"}, {"kind": "dog", "tricks": ["roll"]}]),
    ],
)
def test_what_is_as_specified_gives_no_findings(specification: Specification, body: Json) -> None:
    assert found(specification, body) == set()


@pytest.mark.parametrize(
    ("body", "where", "field", "kind"),
    [
        ({"pets": []}, "Household", "id", "missing"),
        ({"id": "h1"}, "Household", "pets", "missing"),
        (household(roof="red"), "Household", "roof", "unknown"),
        (household(id=1), "Household", "id", "type"),
        (household(id=None), "Household", "id", "type"),
        (household(notes=[]), "Household", "notes", "type"),
        (household(partner={"id": "o2", "age": 40}), "Owner", "age", "unknown"),
        (household(partner={"nick": "Jo"}), "Owner", "id", "missing"),
        (household(pets=[{"kind": "cat"}]), "Cat", "lives", "missing"),
        (household(pets=[{"kind": "dog", "tricks": [7]}]), "Dog", "tricks[]", "type"),
        (household(pets=[{"kind": "dog", "tricks": [], "lives": 1}]), "Dog", "lives", "unknown"),
        (household(pets=[{"kind": "fish"}]), "Dog", "kind", "value"),
        (household(address={"street": 1, "town": "Here"}), "Household", "address.street", "type"),
        ([], HOUSEHOLDS, "", "type"),
    ],
)
def test_each_difference_is_found_where_it_is(
    specification: Specification, body: Any, where: str, field: str, kind: Kind
) -> None:
    assert found(specification, body) == {Finding(where, field, kind)}


@given(
    lost=st.sets(st.sampled_from(["id", "pets"])),
    gained=st.sets(st.text().filter(lambda name: name not in household())),
)
def test_no_missing_and_no_unknown_field_goes_unseen(
    specification: Specification, lost: set[str], gained: set[str]
) -> None:
    body = {name: value for name, value in household().items() if name not in lost} | dict.fromkeys(gained)
    expected = {Finding("Household", name, "missing") for name in lost}
    assert found(specification, body) == expected | {Finding("Household", name, "unknown") for name in gained}


def test_an_operation_is_found_whatever_its_parameters_are_called(specification: Specification) -> None:
    operation = specification.operation("GET", "/households/{id}")
    assert operation is not None
    assert operation.name == HOUSEHOLDS
    assert specification.operation("PUT", "/households/{id}") is None


def test_an_error_must_look_like_one_even_when_its_status_is_not_declared(specification: Specification) -> None:
    undeclared = Finding(HOUSEHOLDS, "404", "status")
    assert found(specification, {"errors": [{"code": "resource_not_found"}]}, 404) == {undeclared}
    assert found(specification, {"errors": [{}]}, 404) == {
        undeclared,
        Finding("ClerkErrors", "errors[].code", "missing"),
    }


def test_an_answer_without_a_body_must_have_none(specification: Specification) -> None:
    assert found(specification, None, 204) == set()
    assert found(specification, {}, 204) == {Finding(HOUSEHOLDS, "", "unknown")}


def test_an_event_is_held_to_the_schema_of_its_type(specification: Specification) -> None:
    assert specification.check_event({"type": "cat.created", "data": {"kind": "cat", "lives": 9}}) == set()
    assert specification.check_event({"type": "cat.created", "by": 1}) == {Finding("cat.created", "by", "unknown")}
    assert specification.check_event({"type": "cat.lost"}) == {Finding("cat.lost", "", "unknown")}


def found(specification: Specification, body: Any, status: int = 200) -> set[Finding]:
    operation = specification.operation("GET", "/households/{}")
    assert operation is not None
    return specification.check(operation, status, body)
