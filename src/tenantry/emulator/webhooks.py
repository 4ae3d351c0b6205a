"""Delivers events as Svix does for Clerk: signed, in parallel, tried again on a schedule, and in disorder on request.

Theory of operation. An event becomes one message, and one delivery for each endpoint that wants it. Deliveries wait in
a heap ordered by when they are due. `run` takes those that are due and tries up to eight at a time, so nothing promises
an order. A failed one goes back into the heap, later. A place in the heap counts only while the delivery's `entry`
names it: that is how a delivery is moved without searching the heap. Times in the heap are the event loop's seconds,
after the speed-up. What is not delivered yet is kept in the journal, so that a restart loses nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import httpx

from tenantry.emulator.deliveries import TIMEOUT, Answer, Attempt, Delivery, Endpoint, Message, retry_delay, sign
from tenantry.emulator.disorder import Disorder, decide
from tenantry.emulator.identifiers import Identifiers
from tenantry.emulator.instance import Instance, derive_webhook_secret
from tenantry.emulator.journal import Journal
from tenantry.emulator.store import Event

_PARALLEL = 8
_REMEMBERED = 1000  # finished deliveries
_SWAP_WAIT = 2.0  # seconds a swapped delivery waits for a next one
_EXCERPT = 400  # characters of an answer
_USER_AGENT = "Svix-Webhooks/1.84"

Listener = Callable[[Attempt], None]


class Webhooks:
    """`speed` divides every delay; `clock` is in milliseconds and dates the signatures."""

    def __init__(
        self,
        instance: Instance,
        identifiers: Identifiers,
        clock: Callable[[], int],
        *,
        journal: Journal | None = None,
        disorder: Disorder | None = None,
        speed: float = 1.0,
        on_attempt: Listener | None = None,
    ) -> None:
        if not 0 < speed < math.inf:
            raise ValueError(f"The speed is {speed}, but it must be a number above 0.")
        self.disorder = disorder or Disorder()
        self.endpoints: dict[str, Endpoint] = {}
        self.speed = speed
        self._instance = instance
        self._identifiers = identifiers
        self._clock = clock
        self._journal = journal
        self._listeners = [on_attempt] if on_attempt else []
        self._deliveries: dict[str, Delivery] = {}
        self._finished: deque[str] = deque()
        self._heap: list[tuple[float, int, Delivery]] = []
        self._entries = itertools.count(1)
        self._numbers = itertools.count(1)
        self._held: dict[str, Delivery] = {}  # by endpoint: a swapped delivery that waits for the next
        self._unfinished = 0
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._released = asyncio.Event()
        self._released.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def subscribe(self, listener: Listener) -> None:
        """`listener` hears of every attempt, and of every delivery that was lost."""
        self._listeners.append(listener)

    def add_endpoint(self, url: str, *, secret: str | None = None, events: Iterable[str] | None = None) -> Endpoint:
        """The first gets the instance's own secret unless another is given. ValueError when URL or secret is none.

        Endpoints are not kept: what an earlier run had not delivered goes to the endpoint with the same number.
        """
        _check_url(url)
        number = len(self.endpoints)
        endpoint = Endpoint(
            id=f"ep_{number + 1}",
            url=url,
            secret=secret or self._secret(number),
            events=tuple(events) if events is not None else None,
        )
        sign(endpoint.secret, "msg_check", 0, b"")
        self.endpoints[endpoint.id] = endpoint
        self._restore(endpoint)
        return endpoint

    def accept(self, event: Event) -> None:
        """Queues the event for each endpoint that wants it."""
        endpoints = [endpoint for endpoint in self.endpoints.values() if endpoint.wants(event.type)]
        if endpoints:
            message = Message(self._identifiers.new("msg"), event.type, self._encode(event))
            for endpoint in endpoints:
                self._enqueue(message, endpoint)

    async def run(self) -> None:
        """Delivers until cancelled."""
        limits = httpx.Limits(max_connections=_PARALLEL)
        slots = asyncio.Semaphore(_PARALLEL)
        client = httpx.AsyncClient(limits=limits, timeout=TIMEOUT, trust_env=False)
        self._loop = asyncio.get_running_loop()
        try:
            async with client, asyncio.TaskGroup() as group:
                while True:
                    delivery = await self._next_due()
                    await slots.acquire()
                    task = group.create_task(self._try(client, delivery))
                    task.add_done_callback(lambda _: slots.release())
        finally:
            self._loop = None

    def pause(self) -> None:
        """Nothing is sent until `release`; events are still queued."""
        self._released.clear()

    def release(self) -> None:
        """May be called from another thread than the one that delivers, as `pause` may."""
        self._set(self._released)

    @property
    def paused(self) -> bool:
        return not self._released.is_set()

    @property
    def unfinished(self) -> int:
        """Deliveries that wait, or are being tried, or will be tried again."""
        return self._unfinished

    async def drained(self) -> None:
        """Returns when nothing is left to deliver."""
        await self._idle.wait()

    def deliveries(self) -> list[Delivery]:
        """The unfinished and the last finished ones, oldest first."""
        return list(self._deliveries.values())

    def delivery(self, delivery_id: str) -> Delivery:
        """LookupError without it."""
        delivery = self._deliveries.get(delivery_id)
        if delivery is None:
            raise LookupError(f"There is no delivery {delivery_id}; the last {_REMEMBERED} are remembered.")
        return delivery

    def resend(self, delivery_id: str) -> Delivery:
        """Tries once more, now, lost ones too; if that fails it is not tried again. LookupError without it."""
        delivery = self.delivery(delivery_id)
        if delivery.status != "waiting":
            delivery.status, delivery.retries = "waiting", False
            self._finished.remove(delivery.id)
            self._began()
        self._schedule(delivery, 0)
        return delivery

    def _secret(self, number: int) -> str:
        return self._instance.webhook_secret if number == 0 else derive_webhook_secret(self._instance.seed, number)

    def _encode(self, event: Event) -> bytes:
        request = {"client_ip": event.request.client_ip, "user_agent": event.request.user_agent}
        envelope = {
            "object": "event",
            "type": event.type,
            "timestamp": event.timestamp,
            "instance_id": self._instance.id,
            "event_attributes": {"http_request": request},
            "data": event.data,
        }
        return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()

    def _enqueue(self, message: Message, endpoint: Endpoint) -> None:
        delivery = self._new_delivery(message, endpoint)
        fate = decide(self.disorder, self._instance.seed, delivery.number)
        slow = self.disorder.slow_seconds
        delivery.fault = fate.fault
        held = self._held.get(endpoint.id)
        if fate.fault == "lost":
            self._lose(delivery)
        elif fate.fault == "late":
            self._schedule(delivery, slow + fate.delay)
        elif fate.fault == "swapped" and held is None:
            self._held[endpoint.id] = delivery
            self._schedule(delivery, slow + _SWAP_WAIT)
        else:
            delivery.fault = None if fate.fault == "swapped" else fate.fault  # the earlier of the two is
            self._take_before(delivery, held)
            self._schedule(delivery, slow)
        if fate.fault == "twice":
            again = self._new_delivery(message, endpoint)
            again.fault = "twice"
            self._schedule(again, slow + fate.delay)

    def _take_before(self, delivery: Delivery, held: Delivery | None) -> None:
        """A swapped delivery goes out right after this one has been tried."""
        if held is not None:
            del self._held[held.endpoint.id]
            held.entry = 0
            delivery.then = held

    def _new_delivery(self, message: Message, endpoint: Endpoint) -> Delivery:
        delivery = Delivery(self._identifiers.new("dlv"), next(self._numbers), message, endpoint)
        self._deliveries[delivery.id] = delivery
        self._keep(delivery)
        self._began()
        return delivery

    def _schedule(self, delivery: Delivery, seconds: float) -> None:
        delivery.entry = next(self._entries)
        heapq.heappush(self._heap, (time.monotonic() + seconds / self.speed, delivery.entry, delivery))
        self._set(self._changed)

    def _set(self, event: asyncio.Event) -> None:
        """From whatever thread: an event set from another one would not wake the loop."""
        if self._loop is None:
            event.set()
        else:
            self._loop.call_soon_threadsafe(event.set)

    async def _next_due(self) -> Delivery:
        while True:
            await self._released.wait()
            self._changed.clear()
            while self._heap and self._heap[0][2].entry != self._heap[0][1]:
                heapq.heappop(self._heap)  # moved since
            wait = self._heap[0][0] - time.monotonic() if self._heap else None
            if wait is not None and wait <= 0:
                return self._take()
            with suppress(TimeoutError):  # the first one is due
                await asyncio.wait_for(self._changed.wait(), wait)

    def _take(self) -> Delivery:
        delivery = heapq.heappop(self._heap)[2]
        delivery.entry = 0
        if self._held.get(delivery.endpoint.id) is delivery:
            del self._held[delivery.endpoint.id]
        return delivery

    async def _try(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        started, at = time.monotonic(), self._clock()
        answer = await self._post(client, delivery, at // 1000)
        delivery.tries += 1
        delay = None
        if not answer.ok and delivery.retries:
            delay = retry_delay(self._instance.seed, delivery.number, delivery.tries, answer)
        self._settle(delivery, answer, delay)
        self._tell(delivery, answer, delay, at, round((time.monotonic() - started) * 1000))
        if delivery.then is not None:
            self._schedule(delivery.then, 0)
            delivery.then = None

    def _settle(self, delivery: Delivery, answer: Answer, delay: float | None) -> None:
        if delay is not None:
            self._keep(delivery)
            self._schedule(delivery, delay)
        else:
            self._finish(delivery, "delivered" if answer.ok else "failed")

    def _tell(self, delivery: Delivery, answer: Answer, delay: float | None, at: int, milliseconds: int) -> None:
        attempt = Attempt(
            delivery_id=delivery.id,
            message_id=delivery.message.id,
            event_type=delivery.message.type,
            url=delivery.endpoint.url,
            number=delivery.tries,
            at=at,
            outcome="delivered" if answer.ok else "given up" if delay is None else "failed",
            status=answer.status,
            error=answer.error,
            excerpt=answer.excerpt,
            milliseconds=milliseconds,
            retry_in=None if delay is None else delay / self.speed,
            fault=delivery.fault,
        )
        self._publish(delivery, attempt)

    async def _post(self, client: httpx.AsyncClient, delivery: Delivery, timestamp: int) -> Answer:
        message, endpoint = delivery.message, delivery.endpoint
        headers = {
            "content-type": "application/json",
            "user-agent": _USER_AGENT,
            "svix-id": message.id,
            "svix-timestamp": str(timestamp),
            "svix-signature": sign(endpoint.secret, message.id, timestamp, message.body),
        }
        try:
            async with asyncio.timeout(TIMEOUT):
                async with client.stream("POST", endpoint.url, content=message.body, headers=headers) as response:
                    return Answer(
                        status=response.status_code,
                        excerpt=await _read_excerpt(response),
                        retry_after=_seconds(response.headers.get("retry-after")),
                    )
        except (TimeoutError, httpx.TimeoutException):
            return Answer(error="timeout")
        except httpx.HTTPError as error:
            return Answer(error=str(error) or type(error).__name__)

    def _lose(self, delivery: Delivery) -> None:
        self._finish(delivery, "lost")
        at = self._clock()
        lost = Attempt(
            delivery.id, delivery.message.id, delivery.message.type, delivery.endpoint.url, 0, at, "lost", fault="lost"
        )
        self._publish(delivery, lost)

    def _publish(self, delivery: Delivery, attempt: Attempt) -> None:
        delivery.attempts.append(attempt)
        for listener in self._listeners:
            listener(attempt)

    def _began(self) -> None:
        self._unfinished += 1
        self._idle.clear()

    def _finish(self, delivery: Delivery, status: str) -> None:
        delivery.status = "lost" if status == "lost" else "delivered" if status == "delivered" else "failed"
        self._forget(delivery)
        self._finished.append(delivery.id)
        if len(self._finished) > _REMEMBERED:
            del self._deliveries[self._finished.popleft()]
        self._unfinished -= 1
        if self._unfinished == 0:
            self._idle.set()

    def _keep(self, delivery: Delivery) -> None:
        if self._journal:
            message = delivery.message
            kept = {
                "endpoint": delivery.endpoint.id,
                "message": message.id,
                "type": message.type,
                "body": message.body.decode(),
                "tries": delivery.tries,
            }
            self._journal.append("delivery", delivery.id, kept)

    def _forget(self, delivery: Delivery) -> None:
        if self._journal:
            self._journal.append("delivery", delivery.id, None)

    def _restore(self, endpoint: Endpoint) -> None:
        """What an earlier run had not delivered to this endpoint is tried again at once."""
        kept = self._journal.contents.get("delivery", {}) if self._journal else {}
        for id, values in [*kept.items()]:
            if values["endpoint"] == endpoint.id:
                message = Message(values["message"], values["type"], values["body"].encode())
                delivery = Delivery(id, next(self._numbers), message, endpoint, tries=values["tries"])
                self._deliveries[id] = delivery
                self._began()
                self._schedule(delivery, 0)
                del kept[id]


async def _read_excerpt(response: httpx.Response) -> str:
    read = b""
    async for chunk in response.aiter_bytes():
        read += chunk
        if len(read) > 4 * _EXCERPT:
            break
    return read.decode(errors="replace")[:_EXCERPT]


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        example = "http://127.0.0.1:8000/webhooks/clerk"
        raise ValueError(f"{url[:100]!r} is no URL to deliver webhooks to; write something like {example}.")
