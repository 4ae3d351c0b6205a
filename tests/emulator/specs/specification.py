"""Clerk's OpenAPI files, read as JSON Schemas that are closed: a field they do not name is a finding, not an extra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from emulator.specs.findings import Finding, find

Json = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "clerk-openapi"
METHODS = ("get", "post", "put", "patch", "delete")
_DEFINITIONS = "#/$defs/"
_KEPT = (
    *("type", "enum", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "minItems", "maxItems", "required"),
)


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answers` holds by status the schema of the JSON body, or None where none is declared."""

    method: str
    path: str
    tag: str
    answers: dict[str, Json | None]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Specification:
    """What one OpenAPI 3.0 file says of its operations, webhooks and the objects they share."""

    def __init__(self, document: Json) -> None:
        self._components: Json = document["components"]
        self._definitions = {name: self._close(schema) for name, schema in self._components["schemas"].items()}
        self._validator = Draft202012Validator({"$defs": self._definitions})
        operations = [
            self._operation(method.upper(), path, described)
            for path, methods in document.get("paths", {}).items()
            for method, described in methods.items()
            if method in METHODS
        ]
        self.operations = {same_for_any_name(operation.name): operation for operation in operations}
        self._events = {
            name: self._close(described["post"]["requestBody"]["content"]["application/json"]["schema"])
            for name, described in document.get("x-webhooks", {}).items()
        }

    def operation(self, method: str, path: str) -> Operation | None:
        """The operation at this path, whatever its parameters are called."""
        return self.operations.get(same_for_any_name(f"{method} {path}"))

    def check(self, operation: Operation, status: int, body: Any) -> set[Finding]:
        """What is wrong with an answer; an error whose status is not declared still has an error's shape."""
        schema = operation.answers.get(str(status))
        found = set() if str(status) in operation.answers else {Finding(operation.name, str(status), "status")}
        if schema is None and status >= 400:
            schema = {"$ref": f"{_DEFINITIONS}ClerkErrors"}
        if schema is None:
            return found | ({Finding(operation.name, "", "unknown")} if body is not None else set())
        return found | find(self._validator, schema, body, operation.name)

    def check_event(self, event: Json) -> set[Finding]:
        """What is wrong with a webhook's payload."""
        name = event["type"]
        schema = self._events.get(name)
        return {Finding(name, "", "unknown")} if schema is None else find(self._validator, schema, event, name)

    def _operation(self, method: str, path: str, described: Json) -> Operation:
        answers = {}
        for status, answer in described["responses"].items():
            schema = _json_of(self._resolve(answer))
            answers[status] = None if schema is None else self._close(schema)
        return Operation(method, path, described.get("tags", ["Other"])[0], answers)

    def _close(self, schema: Json) -> Json:
        if schema.get("nullable"):
            return {"if": {"type": "null"}, "else": self._close(schema | {"nullable": False})}
        if "$ref" in schema:
            return {"$ref": _DEFINITIONS + schema["$ref"].rpartition("/")[2]}
        if "allOf" in schema:
            return self._close(self._merge(schema["allOf"], schema))
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return {"anyOf": [self._close(self._merge([branch], schema)) for branch in schema[choice]]}
        return self._close_plain(schema)

    def _close_plain(self, schema: Json) -> Json:
        closed: Json = {keyword: schema[keyword] for keyword in _KEPT if keyword in schema}
        if "items" in schema:
            closed["items"] = self._close(schema["items"])
        further = schema.get("additionalProperties", "properties" not in schema)
        closed["additionalProperties"] = self._close(further) if isinstance(further, dict) else further
        # What is required is allowed, even where it is not described.
        described = {name: {} for name in schema.get("required", [])} | schema.get("properties", {})
        closed["properties"] = {name: self._close(of) for name, of in described.items()}
        return closed

    def _merge(self, parts: list[Json], around: Json) -> Json:
        """One schema that says what all parts, and the fields beside them, say; a lone part stays as it is."""
        beside: Json = {keyword: around[keyword] for keyword in ("properties", "required") if keyword in around}
        parts = [*parts, beside] if beside else parts
        if len(parts) == 1:
            return parts[0]
        merged: Json = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            whole = self._resolve(part)
            if "allOf" in whole:
                whole = self._resolve(self._merge(whole["allOf"], whole))
            merged["properties"] |= whole.get("properties", {})
            merged["required"] += whole.get("required", [])
        return merged

    def _resolve(self, described: Json) -> Json:
        while "$ref" in described:
            _, kind, name = described["$ref"].removeprefix("#/").split("/")
            described = self._components[kind][name]
        return described


@cache
def same_for_any_name(path: str) -> str:
    """The path with its parameters' names taken out: `/users/{}`."""
    return re.sub(r"{[^}]*}", "{}", path)


@cache
def load(name: str) -> Specification:
    with (FOLDER / f"{name}.yml").open("rb") as file:
        return Specification(yaml.load(file, Loader=yaml.CSafeLoader))


def _json_of(described: Json) -> Json | None:
    found: Json | None = described.get("content", {}).get("application/json", {}).get("schema")
    return found
