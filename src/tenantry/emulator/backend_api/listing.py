"""Lists: ordered, paged by `limit` and `offset`, with the total beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from tenantry.emulator.backend_api.call import Call

T = TypeVar("T")
Keys = dict[str, Callable[[T], Any]]  # by name in order_by: what to order by


def ordered(call: Call, records: Iterable[T], keys: Keys[T], default: str = "-created_at") -> list[T]:
    """Those created in the same millisecond keep the order of creation, or its reverse."""
    name, descending = call.query.order(keys, default)
    return sorted(reversed([*records]) if descending else records, key=keys[name], reverse=descending)


def page(call: Call, records: Sequence[T], shown: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """`{data, total_count}`, as the organization family's lists are given."""
    return {"data": [shown(record) for record in call.query.page(records)], "total_count": len(records)}
