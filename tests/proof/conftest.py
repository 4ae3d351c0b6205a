"""How much the proof tries: a bounded share, or more by hand with `pytest tests/proof --hypothesis-profile=long`."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from proof.lives import LONG

settings.register_profile(LONG, deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))


@pytest.fixture
def thorough() -> bool:
    return settings.get_current_profile_name() == LONG
