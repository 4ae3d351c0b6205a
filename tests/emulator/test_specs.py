"""What the emulator says, held against Clerk's own specifications and sample events; both may be absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import pytest

from emulator.specs import backend_walk, frontend_walk, ledger, supported
from emulator.specs.apis import BACKEND, FILES, FRONTEND, Api, Name
from emulator.specs.findings import KINDS, Finding
from emulator.specs.frontend_walk import Browsers
from emulator.specs.recording import Recording, operations
from emulator.specs.specification import FOLDER, load
from emulator.world import Receiver, Running, serve
from tenantry.emulator.app import create_app
from tenantry.emulator.emulator import Emulator
from tenantry.emulator.seed import EMPTY
from tenantry.emulator.settings import Options

Json = dict[str, Any]


@dataclass(frozen=True)
class Walk:
    """What a walk heard: answers of the API, and the events that it provoked."""

    recording: Recording
    events: list[Json]


SAMPLES = FOLDER.parent / "facts" / "clerk-webhook-samples"
SAMPLE_TYPES = sorted(path.stem for path in SAMPLES.glob("*.json")) or ["absent"]
# Where a sample has something to say and our people and organizations have nothing.
MAY_BE_NULL = (
    *("name", "locale", "external_id", "url", "description"),
    *("affiliation_email_address", "attempts", "expire_at", "_at"),
)

needs_specifications = pytest.mark.skipif(
    not all((FOLDER / f"{file}.yml").exists() for file in FILES.values()),
    reason="Clerk's specifications are not beside this checkout",
)


@pytest.fixture(scope="module")
def backend() -> Walk:
    """The Backend API's walk, with slugs and without."""
    recording, receiver = Recording(BACKEND.routes, BACKEND.prefix), Receiver()
    for running in _runs(receiver, recording.hear):
        backend_walk.walk(running)
        running.drain()
    return Walk(recording, receiver.events)


@pytest.fixture(scope="module")
def frontend() -> Walk:
    """The Frontend API's walk, with slugs and without."""
    recording, receiver = Recording(FRONTEND.routes, FRONTEND.prefix), Receiver()
    for running in _runs(receiver):
        frontend_walk.walk(Browsers(running, recording))
        running.drain()
    return Walk(recording, receiver.events)


def _runs(receiver: Receiver, *hooks: Callable[[httpx.Response], None]) -> Iterator[Running]:
    """Emulators, empty at first, and clients of their Backend API; `hooks` are given what these hear."""
    for slugs in (True, False):
        with serve(receiver.app()) as place, _run(slugs, f"{place}/webhooks", hooks) as running:
            yield running


@contextmanager
def _run(slugs: bool, webhook_url: str, hooks: Sequence[Callable[[httpx.Response], None]]) -> Iterator[Running]:
    emulator = Emulator(
        seed_data=EMPTY,
        settings={"slugs": slugs},
        options=Options(rate_limits=False),
        webhook_urls=[webhook_url],
    )
    headers, listeners = {"authorization": f"Bearer {emulator.instance.secret_key}"}, {"response": [*hooks]}
    with (
        serve(create_app(emulator)) as url,
        httpx.Client(base_url=f"{url}/v1", headers=headers, event_hooks=listeners) as api,
    ):
        yield Running(emulator, url, api)


def test_every_operation_of_the_backend_api_succeeds_on_the_walk_or_is_known_to_refuse(backend: Walk) -> None:
    assert set(backend.recording.unheard()) ^ set(ledger.refused("backend")) == set()


def test_every_operation_of_the_frontend_api_succeeds_on_the_walk_or_is_known_to_refuse(frontend: Walk) -> None:
    assert set(frontend.recording.unheard()) ^ set(ledger.refused("frontend")) == set()


@needs_specifications
def test_the_backend_api_differs_from_its_specification_as_the_ledger_says(backend: Walk) -> None:
    expect_only_known("backend", _differences(BACKEND, backend.recording))


@needs_specifications
def test_the_frontend_api_differs_from_its_specification_as_the_ledger_says(frontend: Walk) -> None:
    expect_only_known("frontend", _differences(FRONTEND, frontend.recording))


@needs_specifications
def test_events_differ_from_their_specification_as_the_ledger_says(backend: Walk, frontend: Walk) -> None:
    specification = load(FILES["webhooks"])
    told = [*backend.events, *frontend.events]
    expect_only_known("webhooks", {found for event in told for found in specification.check_event(event)})


def expect_only_known(spec: Name, found: set[Finding]) -> None:
    known = ledger.known(spec)
    new, gone = ("\n".join(sorted(map(str, findings))) for findings in (found - known, known - found))
    assert not new, f"Not as specified, and the ledger does not say so:\n{new}"
    assert not gone, f"In the ledger, and not so:\n{gone}"


def _differences(api: Api, recording: Recording) -> set[Finding]:
    found = {Finding(operation, "", "refused") for operation in recording.unheard()}
    for method, route in operations(api.routes):
        if api.specification.operation(method, route) is None:
            found.add(Finding(f"{method} {route}", "", "route"))
    for answer in recording.answers:
        operation = api.specification.operation(answer.method, answer.route)
        if operation is not None:
            found |= api.specification.check(operation, answer.status, answer.body)
    return found


def test_every_entry_of_the_ledger_has_a_reason_and_stands_once() -> None:
    seen: list[tuple[Name, Finding]] = []
    for spec in get_args(Name):
        for gap in ledger.gaps(spec):
            assert gap.kind in KINDS
            assert gap.reason.endswith(".")
            seen += [(spec, finding) for finding in gap.findings]
    assert len(seen) == len(set(seen))


def test_every_type_of_event_can_be_provoked(backend: Walk) -> None:
    changes = ("created", "updated", "deleted")
    groups = ("user", "organization", "organizationMembership", "organizationDomain", "role", "permission")
    expected = {f"{group}.{change}" for group in groups for change in changes}
    expected |= {f"organizationInvitation.{change}" for change in ("created", "accepted", "revoked")}
    expected |= {f"session.{change}" for change in ("created", "pending", "revoked", "ended", "removed")}
    assert {event["type"] for event in backend.events} == expected


@pytest.mark.parametrize("type", SAMPLE_TYPES)
def test_an_event_has_all_that_a_sample_has(backend: Walk, type: str) -> None:
    path = SAMPLES / f"{type}.json"
    if not path.exists():
        pytest.skip("the sample events are not beside this checkout")
    sample = json.loads(path.read_text(encoding="utf-8"))
    told = [event for event in backend.events if event["type"] == type]
    assert min(([*_missing(sample, event, type)] for event in told), key=len) == []


def _missing(sample: Any, ours: Any, where: str) -> Iterator[str]:
    """The places where the sample has something that ours lacks, or something of another kind."""
    if sample is None or (ours is None and where.endswith(MAY_BE_NULL)):
        return
    if isinstance(sample, dict) and isinstance(ours, dict):
        if where.endswith("_metadata"):
            return
        for name, value in sample.items():
            if name not in ours:
                yield f"{where}.{name}"
            else:
                yield from _missing(value, ours[name], f"{where}.{name}")
    elif isinstance(sample, list) and isinstance(ours, list):
        if sample and ours:
            yield from _missing(sample[0], ours[0], f"{where}[]")
    elif type(sample) is not type(ours):
        yield f"{where}: {type(ours).__name__}, not {type(sample).__name__}"


@needs_specifications
def test_the_page_of_what_is_supported_is_as_the_generator_writes_it() -> None:
    assert supported.PAGE.read_text(encoding="utf-8") == supported.render(), "run `make supported`"
