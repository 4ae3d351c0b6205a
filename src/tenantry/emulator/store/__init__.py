"""The emulated instance's data and its rules: the only way to change anything, and what every change announces."""

from tenantry.emulator.store.core import Core, Event, HttpRequest, http_request
from tenantry.emulator.store.store import Store

__all__ = ["Core", "Event", "HttpRequest", "Store", "http_request"]
