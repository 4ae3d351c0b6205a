"""What the instance allows and offers."""

from __future__ import annotations

from tenantry.emulator.frontend_api.call import Call, Json
from tenantry.emulator.frontend_api.render.environment import environment


def get(call: Call) -> Json:
    return environment(call.store.state, call.emulator.instance.id, call.origin or "http://localhost")


def check_health(call: Call) -> Json:
    return {"status": "healthy"}
