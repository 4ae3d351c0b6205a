"""Whatever people do and whatever goes wrong, the mirror ends as what Clerk has, and each handler ran once a change."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from databases import Server
from proof.lives import Life
from tenantry import changes

SHORT = settings(
    max_examples=4,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),  # a smaller life is sought by the long profile alone: each takes a second
    database=None,
)


def test_after_any_life_the_mirror_is_what_clerk_has(
    server: Server, template: str, thorough: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(changes, "_OUTAGE_SECONDS", 0.1)
    given = request.config.getoption("--hypothesis-seed")
    number = int(given) if given not in (None, "random") else random.randrange(2**32)

    @seed(number)
    def life() -> Life:
        return Life(server, template)

    print(f"To replay: pytest tests/proof/test_lives.py --pg={server.version} --hypothesis-seed={number}")
    run_state_machine_as_test(life, settings=settings.default if thorough else SHORT)  # type: ignore[arg-type]
