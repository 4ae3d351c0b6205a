"""What is delivered where: endpoints, messages, deliveries and their attempts, and when a failed one is tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tenantry.emulator.disorder import Fault
from tenantry.emulator.identifiers import digest

# Seconds before each further attempt, within a fifth more or less.
RETRY_SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
TIMEOUT = 15  # seconds in which a receiver must answer 2xx
_JITTER = 0.2
_BUSY_DELAY = 60  # at least this many seconds after a 429 or a timeout

Status = Literal["waiting", "delivered", "failed", "lost"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. `events` are the types it wants, None for all."""

    id: str
    url: str
    secret: str = field(repr=False)
    events: tuple[str, ...] | None = None

    def wants(self, event_type: str) -> bool:
        return self.events is None or event_type in self.events


@dataclass(frozen=True, slots=True)
class Message:
    """One event as it is sent: the same id and bytes at each attempt and each endpoint."""

    id: str
    type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said to one attempt; without a status it said nothing, and `error` says why."""

    status: int | None = None
    excerpt: str = ""
    error: str | None = None
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_busy(self) -> bool:
        return self.status == 429 or self.error == "timeout"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, or the news that a delivery was lost. `at` in milliseconds, `retry_in` in seconds of the clock."""

    delivery_id: str
    message_id: str
    event_type: str
    url: str
    number: int
    at: int
    outcome: Literal["delivered", "failed", "given up", "lost"]
    status: int | None = None
    error: str | None = None
    excerpt: str = ""
    milliseconds: int = 0
    retry_in: float | None = None
    fault: Fault | None = None


@dataclass(slots=True)
class Delivery:
    """One message on its way to one endpoint. `number` counts all deliveries and decides over chance."""

    id: str
    number: int
    message: Message
    endpoint: Endpoint
    fault: Fault | None = None
    status: Status = "waiting"
    tries: int = 0
    retries: bool = True  # not after a resend by hand
    attempts: list[Attempt] = field(default_factory=list)
    entry: int = 0  # which place in the queue counts
    then: Delivery | None = None  # held back until this one has been tried

    def describe(self) -> dict[str, Any]:
        """As a list shows it: no body, no secret."""
        shown = ("number", "at", "outcome", "status", "error", "excerpt", "milliseconds", "retry_in")
        return {
            "id": self.id,
            "message_id": self.message.id,
            "type": self.message.type,
            "url": self.endpoint.url,
            "status": self.status,
            "fault": self.fault,
            "attempts": [{name: getattr(attempt, name) for name in shown} for attempt in self.attempts],
        }


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The `svix-signature` of one attempt; `timestamp` in seconds. ValueError when the secret is none."""
    mac = hmac.new(decode_secret(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def decode_secret(secret: str) -> bytes:
    """ValueError when it is not `whsec_` and base64."""
    prefix, _, encoded = secret.partition("_")
    if prefix != "whsec" or not encoded:
        raise ValueError("A webhook signing secret is whsec_ followed by base64.")
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError("A webhook signing secret is whsec_ followed by base64; this one is not base64.") from None


def retry_delay(seed: int, number: int, tries: int, answer: Answer) -> float | None:
    """Seconds until the next attempt after `tries` of them; None when there is none.

    A receiver's Retry-After counts between the schedule's delay and twice that.
    """
    if tries > len(RETRY_SCHEDULE):
        return None
    chance = random.Random(digest(seed, "retry", number, tries))
    delay = RETRY_SCHEDULE[tries - 1] * chance.uniform(1 - _JITTER, 1 + _JITTER)
    if answer.is_busy:
        delay = max(delay, _BUSY_DELAY)
    if answer.retry_after is not None:
        delay = min(max(answer.retry_after, delay), 2 * delay)
    return delay
