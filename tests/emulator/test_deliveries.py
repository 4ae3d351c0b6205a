"""Signatures as Svix checks them, and Svix's schedule of retries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from svix.webhooks import Webhook, WebhookVerificationError

from tenantry.emulator.deliveries import RETRY_SCHEDULE, Answer, decode_secret, retry_delay, sign
from tenantry.emulator.instance import derive_instance

SECRET = derive_instance(1).webhook_secret
FAILED = Answer(status=500)


@given(body=st.text(alphabet=st.characters(codec="utf-8")), id=st.from_regex(r"msg_[0-9A-Za-z]{1,27}", fullmatch=True))
def test_our_signature_is_the_official_ones(body: str, id: str) -> None:
    now = datetime.now(UTC)
    assert sign(SECRET, id, int(now.timestamp()), body.encode()) == Webhook(SECRET).sign(id, now, body)


def test_a_changed_body_is_refused_by_the_official_verifier() -> None:
    now = int(datetime.now(UTC).timestamp())
    headers = {"svix-id": "msg_1", "svix-timestamp": str(now), "svix-signature": sign(SECRET, "msg_1", now, b"{}")}
    Webhook(SECRET).verify(b"{}", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b"{ }", headers)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", "sk_test_abc", "whsec_abc"])
def test_what_is_no_secret_is_refused_without_repeating_it(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ followed by base64"):
        decode_secret(secret)


def test_eight_attempts_within_a_fifth_of_the_schedule() -> None:
    for number in range(50):
        delays = [retry_delay(1, number, tries, FAILED) for tries in range(1, 9)]
        assert delays[-1] is None
        for delay, scheduled in zip(delays, RETRY_SCHEDULE, strict=False):
            assert delay is not None
            assert 0.8 * scheduled <= delay <= 1.2 * scheduled


def test_the_schedule_is_the_same_for_the_same_seed_and_differs_between_deliveries() -> None:
    assert retry_delay(1, 7, 3, FAILED) == retry_delay(1, 7, 3, FAILED) != retry_delay(1, 8, 3, FAILED)


@pytest.mark.parametrize("answer", [Answer(status=429), Answer(error="timeout")])
def test_a_busy_receiver_is_left_alone_for_a_minute(answer: Answer) -> None:
    assert retry_delay(1, 1, 1, answer) == 60


@pytest.mark.parametrize(("asked", "factor"), [(0, 1), (10**9, 2)])
def test_retry_after_counts_between_the_schedule_and_twice_that(asked: float, factor: int) -> None:
    plain = retry_delay(1, 1, 2, FAILED)
    assert plain is not None
    assert retry_delay(1, 1, 2, Answer(status=503, retry_after=asked)) == pytest.approx(plain * factor)


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (299, True), (199, False), (301, False), (410, False)]
)
def test_only_2xx_is_success(status: int, ok: bool) -> None:
    assert Answer(status=status).ok is ok
