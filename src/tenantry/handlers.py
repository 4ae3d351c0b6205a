"""What the app gives to be called: whether it is awaited, what it takes, and a thread for what is not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any


def waits(handler: Callable[..., Any]) -> bool:
    """Whether the handler is a coroutine function; one that is not runs in a thread."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004  an object with an async __call__
    )


def parameters(handler: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those that must be given."""
    taken = inspect.signature(handler).parameters.values()
    return [one for one in taken if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


class HandlerThread:
    """One call in a thread of its own: one that hangs holds up no other, nor the end of the process."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments
        self._thread: Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the call is under way: it may be long after nobody waits for it any more."""
        return self._thread is not None and self._thread.is_alive()

    async def run(self) -> None:
        """Calls, and waits until it has ended. Raises what the function raised."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()
        context = copy_context()

        def settle(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def work() -> None:
            error = None
            try:
                context.run(self._function, *self._arguments)
            except BaseException as raised:  # noqa: BLE001  whoever waits raises it
                error = raised
            with suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(settle, error)

        self._thread = Thread(target=work, name="tenantry-handler", daemon=True)
        self._thread.start()
        error = await ended
        if error is not None:
            raise error
