"""Whom to tell that webhooks have stopped: the app's handlers of silence, one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tenantry.errors import ConfigurationError
from tenantry.handlers import HandlerThread, parameters, waits

if TYPE_CHECKING:
    from tenantry.silence import Silence

log = logging.getLogger("tenantry")

HANDLER_SECONDS = 60


class Alarm:
    """Tells handlers of a silence, each within a minute; one that fails harms no other."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[Silence], Any]] = []

    def add(self, handler: Callable[[Silence], Any]) -> None:
        """Raises ConfigurationError for what cannot be called with a silence."""
        try:
            taken = parameters(handler)
        except (TypeError, ValueError):
            raise ConfigurationError(f"A handler of silence cannot be called: it is {handler!r:.200}.") from None
        if len(taken) != 1 or taken[0].kind is taken[0].KEYWORD_ONLY:
            raise ConfigurationError(
                f"A handler of silence takes {', '.join(one.name for one in taken) or 'nothing'}.",
                hint="It takes the silence alone.",
            )
        self._handlers.append(handler)

    async def tell(self, silence: Silence) -> None:
        for handler in self._handlers:
            try:
                async with asyncio.timeout(HANDLER_SECONDS):
                    await (handler(silence) if waits(handler) else HandlerThread(handler, silence).run())
            except Exception:
                log.exception("a handler of silence failed")
