"""Lists of the Frontend API: the newest first, paged by `limit` and `offset`, with the total beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tenantry.emulator import errors
from tenantry.emulator.frontend_api.call import Call

T = TypeVar("T")
Json = dict[str, Any]


def page(call: Call, records: Sequence[T], shown: Callable[[T], Json]) -> Json:
    """`records` in the order of creation, as `{data, total_count}`."""
    return {"data": [shown(record) for record in call.query.page(records[::-1])], "total_count": len(records)}


def statuses(call: Call, allowed: Sequence[str]) -> set[str]:
    """Those asked for; all, when none is."""
    wanted = set(call.query.texts("status"))
    if not wanted <= set(allowed):
        raise errors.invalid("status", f"must be one of {', '.join(allowed)}")
    return wanted or set(allowed)
