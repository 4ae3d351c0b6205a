"""What is wrong with a JSON body, said as: which object of the specification, which field, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args

from jsonschema import Draft202012Validator, ValidationError

Json = dict[str, Any]
Kind = Literal["missing", "unknown", "type", "value", "status", "route", "refused"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, order=True)
class Finding:
    """`where` is the specification's name of the object, or an operation or event; `field` a path within it.

    `kind`: a field is `missing` or `unknown`, has another `type` or a `value` that is not allowed; a `status` that the
    operation does not declare; a `route` that the specification does not have; an operation that is `refused` always.
    """

    where: str
    field: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind}: {self.where} {self.field}"


def find(validator: Draft202012Validator, schema: Json, body: Any, where: str) -> set[Finding]:
    """`validator` holds the `$defs` that `schema` refers to; `where` names what no definition contains."""
    definitions: Json = validator.schema["$defs"]
    errors = _leaves(validator.evolve(schema=schema).iter_errors(body))
    return {finding for error in errors for finding in _describe(error, schema, definitions, where)}


def _leaves(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """The errors themselves; of alternatives those of the one that fits best."""
    for error in errors:
        if error.validator != "anyOf":
            yield error
            continue
        branches = groupby(error.context or (), key=lambda each: each.relative_schema_path[0])
        yield from min(([*_leaves(branch)] for _, branch in branches), key=_misfit)


def _misfit(errors: list[ValidationError]) -> tuple[bool, int]:
    """An object is nearer to another object, however many fields they differ in, than to an array."""
    return any(error.validator == "type" and not error.relative_path for error in errors), len(errors)


def _describe(error: ValidationError, schema: Json, definitions: Json, where: str) -> Iterator[Finding]:
    owner, fields = _place(error, schema, definitions, where)
    path = ".".join(fields).replace(".[]", "[]")
    within = f"{path}." if path else ""
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            yield from (Finding(owner, within + name, "missing") for name in missing)
        case "additionalProperties":
            unknown = error.instance.keys() - error.schema["properties"].keys()
            yield from (Finding(owner, within + name, "unknown") for name in unknown)
        case "type":
            # A whole body of another type tells of the operation, not of what it should have been.
            yield Finding(owner if error.absolute_path else where, path, "type")
        case _:
            yield Finding(owner, path, "value")


def _place(error: ValidationError, schema: Json, definitions: Json, where: str) -> tuple[str, list[str]]:
    """The innermost definition the error lies in, and the fields from there."""
    fields: list[str] = []
    steps = iter(error.absolute_schema_path)
    while True:
        while "$ref" in schema:
            where, fields = schema["$ref"].rpartition("/")[2], []
            schema = definitions[where]
        match next(steps, None):
            case "properties":
                fields.append(str(next(steps)))
                schema = schema["properties"][fields[-1]]
            case "items":
                fields.append("[]")
                schema = schema["items"]
            case "anyOf":
                schema = schema["anyOf"][next(steps)]
            case "else":
                schema = schema["else"]
            case _:
                return where, fields
