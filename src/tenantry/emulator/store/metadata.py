"""Metadata: merged deeply or replaced, at most 8 KB a field."""

from __future__ import annotations

import json
from typing import Any

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.records import Metadata

_LIMIT = 8 * 1024  # bytes of JSON


def check(param: str, value: Metadata) -> Metadata:
    """The same value; ClerkError when it is too large."""
    if len(json.dumps(value, separators=(",", ":")).encode()) > _LIMIT:
        message = f"{param} exceeds the maximum allowed size of {_LIMIT} bytes."
        raise ClerkError(422, "form_param_exceeds_allowed_size", message, param=param)
    return value


def merge(old: Metadata, new: Metadata) -> Metadata:
    """Objects are merged at every level; a null removes its key."""
    merged = {key: value for key, value in old.items() if key not in new}
    for key, value in new.items():
        if isinstance(value, dict):
            before = old.get(key)
            merged[key] = merge(before if isinstance(before, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def merged(old: dict[str, Metadata], new: dict[str, Metadata]) -> dict[str, Any]:
    """The fields of `new` (`public_metadata`, ...) merged into those of `old`."""
    return {param: check(param, merge(old[param], value)) for param, value in new.items()}


def replaced(new: dict[str, Metadata]) -> dict[str, Any]:
    return {param: check(param, value) for param, value in new.items()}
