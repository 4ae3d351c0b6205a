"""Carries a tenant and its user through a job queue: a signed envelope that expires, opened where the job runs.

    queue.enqueue(count_words, seal(), document_id)          # in the request

    def count_words(envelope, document_id):
        with job_context(envelope, reason="word count"):     # in the worker
            ...                                              # every transaction checks the membership again

An envelope says for whom a job runs, and since when; not what it does, and not that the user is a member still: that is
the database's to say when the job begins a transaction. It is text for a URL or JSON: `tyj1.<facts>.<HMAC-SHA256>`.
"""

from __future__ import annotations

import binascii
import hmac
import json
import logging
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType
from uuid import UUID

from tenantry.context import Scope, current_scope, current_tenant, tenant_context
from tenantry.errors import (
    AccessDenied,
    BadEnvelope,
    ConfigurationError,
    EnvelopeExpired,
    InvalidArgument,
    JobRefused,
    UnknownTenant,
)
from tenantry.settings import SHORTEST_JOB_SECRET, job_secrets

log = logging.getLogger("tenantry")

DAY = timedelta(days=1)
_LONGEST = timedelta(days=366)
_VERSION = "tyj1"
_PURPOSE = b"tenantry job envelope 1"  # a key of its own, whatever else the secret is used for
_MOST_CHARACTERS = 2048
_SKEW_SECONDS = 60  # between the clocks of who seals and who opens


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What an envelope says; times are Unix seconds. Without a user the app itself acts."""

    tenant_id: UUID
    user_id: str | None
    instance_id: str | None
    issued_at: int
    expires_at: int


def seal(*, ttl: timedelta = DAY, secrets: Sequence[str] | None = None) -> str:
    """The current tenant and user as an envelope that is good for `ttl`: what to put into the queue.

    `secrets`: the first one signs; by default those of TENANTRY_JOB_SECRET. Raises NoTenant where no tenant has been
    entered yet, ConfigurationError without a secret.
    """
    if not timedelta(seconds=1) <= ttl <= _LONGEST:
        raise InvalidArgument(f"An envelope cannot be good for {ttl}.", hint="Give a ttl from a second to 366 days.")
    tenant, now = current_tenant(), int(time.time())
    facts = {
        "tenant": str(tenant.id),
        "user": tenant.user_id,
        "instance": current_scope().instance_id,
        "issued": now,
        "expires": now + int(ttl.total_seconds()),
    }
    signed = f"{_VERSION}.{_encode(json.dumps(facts, separators=(',', ':')).encode())}"
    return f"{signed}.{_sign(_known(secrets)[0], signed)}"


def open_envelope(envelope: str, *, secrets: Sequence[str] | None = None) -> Envelope:
    """What an envelope says, once it is known to be ours. Raises BadEnvelope, EnvelopeExpired, ConfigurationError."""
    known = _known(secrets)
    opened = _read(envelope, known)
    now = time.time()
    if opened.issued_at > now + _SKEW_SECONDS:
        raise BadEnvelope(
            f"The job's envelope was sealed {opened.issued_at - now:.0f} s in the future.",
            hint="Set the clocks of both machines.",
        )
    if opened.expires_at + _SKEW_SECONDS < now:
        raise EnvelopeExpired(f"The job's envelope expired {now - opened.expires_at:.0f} s ago.")
    return opened


@contextmanager
def job_context(envelope: str, *, reason: str, secrets: Sequence[str] | None = None) -> Iterator[Scope]:
    """Work for the tenant and user of an envelope: `tenant_context` with what `seal` put in.

    Every transaction begun inside checks that the organization exists and the user is a member still, and raises
    NotAMember or another AccessDenied where not; refused jobs are logged. `reason` goes to the database's log.
    """
    try:
        opened = open_envelope(envelope, secrets=secrets)
    except JobRefused as error:
        log.warning("%s: the job %r was refused", error.code, reason)
        raise
    with tenant_context(
        opened.tenant_id, reason=reason, user_id=opened.user_id, instance_id=opened.instance_id
    ) as scope:
        try:
            yield scope
        except (AccessDenied, UnknownTenant) as error:
            log.warning(
                "%s: the job %r was denied (%s in tenant %s, sealed %.0f s ago)",
                *(error.code, reason, opened.user_id or "the app itself", opened.tenant_id),
                time.time() - opened.issued_at,
            )
            raise
        if not scope.entered:
            log.warning("the job %r began no transaction: nobody checked the membership of its user", reason)


def _known(secrets: Sequence[str] | None) -> Sequence[str]:
    known = job_secrets() if secrets is None else secrets
    if not known or any(len(secret) < SHORTEST_JOB_SECRET for secret in known):
        raise ConfigurationError(
            "No secret is set to seal jobs with, or a short one.",
            hint="Set TENANTRY_JOB_SECRET, in the app and its workers alike: `openssl rand -hex 32` makes one.",
        )
    return known


def _read(envelope: object, secrets: Sequence[str]) -> Envelope:
    if not isinstance(envelope, str) or len(envelope) > _MOST_CHARACTERS or not envelope.isascii():
        raise BadEnvelope
    signed, _, signature = envelope.rpartition(".")
    version, _, facts = signed.partition(".")
    # Every secret is tried, whichever fits: the time tells nothing.
    if sum(hmac.compare_digest(_sign(secret, signed), signature) for secret in secrets) == 0 or version != _VERSION:
        raise BadEnvelope
    try:
        told = json.loads(urlsafe_b64decode(facts + "=" * (-len(facts) % 4)))
        opened = Envelope(
            tenant_id=UUID(told["tenant"]),
            user_id=told["user"],
            instance_id=told["instance"],
            issued_at=told["issued"],
            expires_at=told["expires"],
        )
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):  # signed, and yet by no `seal`
        raise BadEnvelope from None
    texts, times = (opened.user_id, opened.instance_id), (opened.issued_at, opened.expires_at)
    if any(type(time) is not int for time in times) or any(type(text) not in (str, NoneType) for text in texts):
        raise BadEnvelope
    return opened


def _sign(secret: str, text: str) -> str:
    key = hmac.digest(secret.encode(), _PURPOSE, "sha256")
    return _encode(hmac.digest(key, text.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
