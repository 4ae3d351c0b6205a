"""Webhooks over HTTP: signed so that the official verifier agrees, tried again, and in disorder only when asked."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from svix.webhooks import Webhook, WebhookVerificationError

from emulator.world import Receiver, Runner, Running, wait_until
from tenantry.emulator.deliveries import Attempt
from tenantry.emulator.disorder import Disorder
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.store.users import NewUser

FAST = 1_000_000  # a day of retries in a blink


def users(running: Running, count: int) -> None:
    """Makes users at once, whatever the rate limits."""
    running.emulator.webhooks.pause()
    for number in range(count):
        running.emulator.store.users.create(NewUser(email_addresses=(f"u{number}@example.test",)))
    running.emulator.webhooks.release()


def addresses(receiver: Receiver) -> list[str]:
    return [event["data"]["email_addresses"][0]["email_address"] for event in receiver.events]


def test_the_official_verifier_accepts_every_delivery_and_no_other_secret(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    running.user("ada", first_name="Zoë", public_metadata={"note": "<b>&</b> ☂"})
    running.drain()
    ((headers, body),) = receiver.requests
    Webhook(running.emulator.environment(running.url)["CLERK_WEBHOOK_SIGNING_SECRET"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(body, headers)
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("Svix-Webhooks/")
    assert receiver.events[0]["data"]["first_name"] == "Zoë"


def test_the_envelope_is_clerks(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    user = running.api.post(
        "/users", json={"email_address": ["ada@example.test"]}, headers={"user-agent": "test/1"}
    ).json()
    running.drain()
    (event,) = receiver.events
    assert list(event) == ["object", "type", "timestamp", "instance_id", "event_attributes", "data"]
    assert (event["object"], event["type"], event["data"]) == ("event", "user.created", user)
    assert event["instance_id"] == running.emulator.instance.id
    assert event["event_attributes"] == {"http_request": {"client_ip": "127.0.0.1", "user_agent": "test/1"}}
    assert 0 <= event["timestamp"] - user["created_at"] < 60_000


def test_a_failed_delivery_is_tried_again_with_the_same_id_and_body(run: Runner, receiver: Receiver) -> None:
    attempts: list[Attempt] = []
    running = run(webhook_urls=[receiver.url], speed=FAST, on_attempt=attempts.append)
    receiver.answer = lambda number: Response("down", 503 if number < 4 else 200)
    running.user("ada")
    running.drain()
    assert len(receiver.requests) == 4
    assert len(set(receiver.ids)) == len({body for _, body in receiver.requests}) == 1
    assert [(attempt.number, attempt.outcome, attempt.status) for attempt in attempts] == [
        (1, "failed", 503),
        (2, "failed", 503),
        (3, "failed", 503),
        (4, "delivered", 200),
    ]
    assert attempts[0].excerpt == "down"
    (delivery,) = running.emulator.webhooks.deliveries()
    assert (delivery.status, len(delivery.attempts)) == ("delivered", 4)


def test_after_eight_attempts_a_delivery_is_given_up_until_it_is_resent(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url], speed=FAST)
    receiver.answer = lambda number: Response(status_code=500)
    running.user("ada")
    running.drain()
    (delivery,) = running.emulator.webhooks.deliveries()
    assert (delivery.status, len(receiver.requests)) == ("failed", 8)
    resend = f"{running.url}/emulator/deliveries/{delivery.id}/resend"
    running.api.post(resend)
    running.drain()
    assert (delivery.status, len(receiver.requests)) == ("failed", 9)
    receiver.answer = lambda number: Response()
    running.api.post(resend)
    running.drain()
    assert (delivery.status, len(set(receiver.ids))) == ("delivered", 1)


@pytest.mark.parametrize("status", [301, 302, 400, 404, 410, 500])
def test_nothing_but_2xx_counts_as_received(run: Runner, receiver: Receiver, status: int) -> None:
    running = run(webhook_urls=[receiver.url], speed=FAST)
    receiver.answer = lambda number: Response(
        status_code=status if number == 1 else 204, headers={"location": "/webhooks"}
    )
    running.user("ada")
    running.drain()
    assert len(receiver.requests) == 2


def test_a_receiver_that_is_not_there_is_tried_again(run: Runner) -> None:
    attempts: list[Attempt] = []
    running = run(webhook_urls=["http://127.0.0.1:1/webhooks"], on_attempt=attempts.append)
    running.user("ada")
    wait_until(lambda: len(attempts) == 1)
    assert (attempts[0].status, attempts[0].outcome) == (None, "failed")
    assert attempts[0].error
    assert 4 <= (attempts[0].retry_in or 0) <= 6


def test_each_endpoint_gets_what_it_wants_under_its_own_secret(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    second = running.emulator.webhooks.add_endpoint(receiver.url, events=["user.created"])
    user = running.user("ada")
    running.patch(f"/users/{user['id']}", {"first_name": "Ada"})
    running.drain()
    assert sorted(event["type"] for event in receiver.events) == ["user.created", "user.created", "user.updated"]
    created = [number for number, event in enumerate(receiver.events) if event["type"] == "user.created"]
    assert len({receiver.ids[number] for number in created}) == 1
    accepted = 0
    for number, secret in itertools.product(created, (running.emulator.instance.webhook_secret, second.secret)):
        headers, body = receiver.requests[number]
        try:
            Webhook(secret).verify(body, headers)
            accepted += 1
        except WebhookVerificationError:
            pass
    assert accepted == 2


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/x", "http://", "127.0.0.1:8000/x"])
def test_what_is_no_url_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL"):
        Emulator(seed_data=EMPTY, webhook_urls=[url])


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_is_a_number_above_0(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Emulator(seed_data=EMPTY, speed=speed)


def test_deliveries_wait_while_paused(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    control = f"{running.url}/emulator/webhooks"
    running.api.post(f"{control}/pause")
    running.user("ada")
    assert running.emulator.webhooks.unfinished == 1
    assert receiver.requests == []
    running.api.post(f"{control}/release")
    running.drain()
    assert len(receiver.requests) == 1


def test_a_change_made_on_another_thread_is_delivered_at_once(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    for number in range(5):
        running.emulator.store.users.create(NewUser(email_addresses=(f"u{number}@example.test",)))
        wait_until(lambda wanted=number + 1: len(receiver.requests) == wanted, seconds=3)  # type: ignore[misc]


def deliver_in_disorder(run: Runner, receiver: Receiver, disorder: Disorder, count: int = 20) -> Running:
    running = run(webhook_urls=[receiver.url], disorder=disorder, speed=100)
    users(running, count)
    running.drain()
    return running


def test_lost_deliveries_never_arrive_but_are_on_record(run: Runner, receiver: Receiver) -> None:
    running = deliver_in_disorder(run, receiver, Disorder(lost=0.5))
    lost = [delivery for delivery in running.emulator.webhooks.deliveries() if delivery.status == "lost"]
    assert len(lost) + len(receiver.requests) == 20
    assert 4 <= len(lost) <= 16
    assert {delivery.message.id for delivery in lost}.isdisjoint(receiver.ids)
    assert [attempt.outcome for attempt in lost[0].attempts] == ["lost"]


def test_which_are_lost_depends_on_the_seed_alone(run: Runner, receiver: Receiver) -> None:
    arrived: list[set[str]] = []
    for seed in (1, 1, 2):
        receiver.requests.clear()
        running = run(seed=seed, webhook_urls=[receiver.url], disorder=Disorder(lost=0.5))
        users(running, 20)
        running.drain()
        arrived.append(set(addresses(receiver)))
    assert arrived[0] == arrived[1] != arrived[2]


def test_twice_is_the_same_message_again(run: Runner, receiver: Receiver) -> None:
    deliver_in_disorder(run, receiver, Disorder(twice=1), 5)
    assert len(receiver.requests) == 10
    assert len(set(receiver.ids)) == 5


def test_late_deliveries_wait_while_later_ones_arrive(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url], disorder=Disorder(late=0.3, late_seconds=3600))
    users(running, 20)
    late = {delivery.message.id for delivery in running.emulator.webhooks.deliveries() if delivery.fault == "late"}
    assert 0 < len(late) < 20
    wait_until(lambda: len(receiver.requests) == 20 - len(late))
    assert late.isdisjoint(receiver.ids)
    wait_until(lambda: running.emulator.webhooks.unfinished == len(late))


def test_a_slow_delivery_waits_and_holds_up_no_other(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url], disorder=Disorder(slow_seconds=3600))
    slow = running.user("slow")
    running.emulator.webhooks.disorder = Disorder()
    quick = running.user("quick")
    wait_until(lambda: running.emulator.webhooks.unfinished == 1)
    assert [event["data"]["id"] for event in receiver.events] == [quick["id"]] != [slow["id"]]


def test_late_deliveries_arrive_in_the_end(run: Runner, receiver: Receiver) -> None:
    deliver_in_disorder(run, receiver, Disorder(late=0.3, late_seconds=30))
    assert len(set(receiver.ids)) == len(receiver.ids) == 20


def test_swapped_deliveries_arrive_after_the_next_one(run: Runner, receiver: Receiver) -> None:
    running = deliver_in_disorder(run, receiver, Disorder(swapped=0.4))
    order = {id: place for place, id in enumerate(receiver.ids)}
    made = running.emulator.webhooks.deliveries()
    pairs = [
        (one.message.id, next_one.message.id)
        for one, next_one in itertools.pairwise(made)
        if one.fault == "swapped" and next_one.fault is None
    ]
    assert pairs
    assert all(order[first] > order[second] for first, second in pairs)
    assert len(receiver.ids) == 20


def test_a_swapped_delivery_without_a_next_one_arrives_all_the_same(run: Runner, receiver: Receiver) -> None:
    deliver_in_disorder(run, receiver, Disorder(swapped=1), 1)
    assert len(receiver.requests) == 1


def test_a_restart_delivers_what_was_not_delivered(run: Runner, receiver: Receiver, tmp_path: Path) -> None:
    first = Emulator(folder=tmp_path, seed_data=EMPTY, webhook_urls=[receiver.url])
    first.store.users.create(NewUser(email_addresses=("ada@example.test",)))
    (waiting,) = first.webhooks.deliveries()
    first.close()
    running = run(folder=tmp_path, webhook_urls=[receiver.url])
    running.drain()
    assert receiver.ids == [waiting.message.id]
    ((headers, body),) = receiver.requests
    Webhook(running.emulator.instance.webhook_secret).verify(body, headers)


def test_a_restart_repeats_nothing_that_was_delivered(run: Runner, receiver: Receiver, tmp_path: Path) -> None:
    running = run(folder=tmp_path, webhook_urls=[receiver.url])
    running.user("ada")
    running.drain()
    running.emulator.close()
    run(folder=tmp_path, webhook_urls=[receiver.url]).drain()
    assert len(receiver.requests) == 1


def test_many_deliveries_are_under_way_at_once(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    users(running, 200)
    running.drain()
    assert sorted(addresses(receiver)) == sorted(f"u{number}@example.test" for number in range(200))


def test_no_secret_is_in_what_is_shown(run: Runner, receiver: Receiver) -> None:
    running = run(webhook_urls=[receiver.url])
    running.user("ada")
    running.drain()
    shown: Any = [delivery.describe() for delivery in running.emulator.webhooks.deliveries()]
    assert running.emulator.instance.webhook_secret not in str(shown) + repr(running.emulator.webhooks.deliveries())
