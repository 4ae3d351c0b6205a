"""Deliveries that wait together share a call, and none takes another down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.errors import DatabaseUnavailable, TenantryError
from tenantry.inbox import Inbox
from tenantry.mirror import Outcome
from tenantry.webhooks import Delivery


def delivery(name: str) -> Delivery:
    return Delivery(message_id=name, sent_at=0, type="user.created", body="{}", event={})


class Recorder:
    """Records into a list, when it is let; refuses groups that hold a delivery named `poison…`."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.open = asyncio.Event()
        self.outage: Exception | None = None

    @property
    def recorded(self) -> list[str]:
        return [name for call in self.calls for name in call if not any("poison" in other for other in call)]

    async def __call__(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        names = [delivery.message_id for delivery in deliveries]
        self.calls.append(names)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
            if self.outage is not None:
                raise self.outage
            if any("poison" in name for name in names):
                raise TenantryError("it is poison")
            return [Outcome(name, "applied") for name in names]
        finally:
            self.at_once -= 1


async def submit_all(inbox: Inbox, names: Sequence[str]) -> list[asyncio.Task[Outcome]]:
    """Submitted in order, and waiting."""
    tasks = [asyncio.create_task(inbox.submit(delivery(name))) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_a_delivery_that_comes_alone_goes_at_once() -> None:
    recorder = Recorder()
    recorder.open.set()
    assert await Inbox(recorder).submit(delivery("msg_1")) == Outcome("msg_1", "applied")
    assert recorder.calls == [["msg_1"]]


async def test_deliveries_that_wait_share_calls_and_each_gets_its_own_outcome() -> None:
    recorder = Recorder()
    names = [f"msg_{n}" for n in range(50)]
    tasks = await submit_all(Inbox(recorder, largest_group=20, most_calls=2), names)
    recorder.open.set()
    assert [outcome.message_id for outcome in await asyncio.gather(*tasks)] == names
    assert len(recorder.calls) < 6
    assert recorder.most_at_once <= 2
    assert max(map(len, recorder.calls)) <= 20
    assert sorted(recorder.recorded) == sorted(names)


@pytest.mark.attack(97)
async def test_a_poisoned_delivery_fails_alone() -> None:
    recorder = Recorder()
    tasks = await submit_all(Inbox(recorder, most_calls=1), ["first", "second", "poison", "third"])
    recorder.open.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, Outcome) for one in told] == [True, True, False, True]
    with pytest.raises(TenantryError, match="it is poison"):
        await tasks[2]
    assert sorted(recorder.recorded) == ["first", "second", "third"]


async def test_an_outage_fails_the_group_without_a_call_for_each() -> None:
    recorder = Recorder()
    recorder.outage = DatabaseUnavailable()
    tasks = await submit_all(Inbox(recorder, most_calls=1), ["first", "second", "third"])
    recorder.open.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, DatabaseUnavailable) for one in told)
    assert recorder.calls == [["first", "second", "third"]]


async def test_after_an_outage_deliveries_are_recorded_again() -> None:
    recorder = Recorder()
    recorder.open.set()
    recorder.outage = DatabaseUnavailable()
    inbox = Inbox(recorder)
    with pytest.raises(DatabaseUnavailable):
        await inbox.submit(delivery("msg_1"))
    recorder.outage = None
    assert (await inbox.submit(delivery("msg_1"))).outcome == "applied"


async def test_a_caller_that_goes_away_does_not_take_its_delivery_back() -> None:
    recorder = Recorder()
    inbox = Inbox(recorder, most_calls=1)
    tasks = await submit_all(inbox, ["first", "gone", "third"])
    tasks[1].cancel()
    recorder.open.set()
    assert [(await tasks[n]).message_id for n in (0, 2)] == ["first", "third"]
    assert sorted(recorder.recorded) == ["first", "gone", "third"]


async def test_a_failure_nobody_waits_for_any_more_is_no_complaint() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    recorder = Recorder()
    recorder.outage = DatabaseUnavailable()
    inbox = Inbox(recorder)
    (task,) = await submit_all(inbox, ["gone"])
    task.cancel()
    recorder.open.set()
    await inbox.drain()
    await asyncio.gather(task, return_exceptions=True)
    del task
    assert complaints == []


async def test_drain_waits_until_everything_is_recorded() -> None:
    recorder = Recorder()
    inbox = Inbox(recorder, largest_group=1, most_calls=1)
    await submit_all(inbox, ["first", "second", "third"])
    draining = asyncio.create_task(inbox.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    recorder.open.set()
    await draining
    assert recorder.recorded == ["first", "second", "third"]


async def test_a_delivery_that_comes_as_the_last_call_ends_is_not_forgotten() -> None:
    """The step of the loop in which a call ends and the next delivery comes: for every distance between the two."""
    for steps in range(12):
        recorder = Recorder()
        recorder.open.set()
        inbox = Inbox(recorder, most_calls=1)
        first = asyncio.create_task(inbox.submit(delivery("first")))
        for _ in range(steps):
            await asyncio.sleep(0)
        second = asyncio.create_task(inbox.submit(delivery("second")))
        await asyncio.wait_for(asyncio.gather(first, second), 5)


async def test_memory_is_bounded_while_the_database_is_slow() -> None:
    recorder = Recorder()
    inbox = Inbox(recorder, largest_group=1, most_calls=1, most_waiting=2)
    tasks = await submit_all(inbox, ["first"]) + await submit_all(inbox, ["second", "third"])
    with pytest.raises(DatabaseUnavailable, match="2 webhook deliveries wait"):
        await inbox.submit(delivery("fourth"))
    recorder.open.set()
    assert [(await task).message_id for task in tasks] == ["first", "second", "third"]


@given(
    st.lists(st.sampled_from(["good", "poison", "yield"]), max_size=30),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_every_delivery_is_answered_whatever_comes_in_whatever_order(
    script: list[str], largest_group: int, most_calls: int
) -> None:
    async def play() -> None:
        recorder = Recorder()
        recorder.open.set()
        inbox = Inbox(recorder, largest_group=largest_group, most_calls=most_calls)
        tasks = {}
        for n, act in enumerate(script):
            if act == "yield":
                await asyncio.sleep(0)
            else:
                tasks[f"{act}_{n}"] = asyncio.create_task(inbox.submit(delivery(f"{act}_{n}")))
        await asyncio.wait_for(asyncio.gather(*tasks.values(), return_exceptions=True), 5)
        for name, task in tasks.items():
            assert (task.exception() is None) is name.startswith("good")
        assert recorder.most_at_once <= most_calls

    asyncio.run(play())
