"""A client with its sessions and the people signed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenantry.emulator.records import Client

if TYPE_CHECKING:
    from tenantry.emulator.emulator import Emulator

Json = dict[str, Any]


def client(emulator: Emulator, record: Client, origin: str) -> Json:
    """`origin` is the page's: the tokens inside are made for it."""
    raise NotImplementedError
