"""The instance in numbers, its settings, and where the app under development is."""

from __future__ import annotations

import types
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tenantry.emulator import errors
from tenantry.emulator.control import webhooks
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.params import Body
from tenantry.emulator.settings import Settings
from tenantry.emulator.state import State
from tenantry.emulator.store.domains import ENROLLMENT_MODES

Kind = Literal["flag", "integer", "text", "texts", "choice", "choices"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings`, as it can be changed; `choices` are the values it may have, where those are few."""

    name: str
    kind: Kind
    value: Any
    choices: tuple[str, ...] = ()


def show_state(call: Call) -> Json:
    state, deliveries = call.state, call.emulator.webhooks
    return {
        "instance_id": call.emulator.instance.id,
        "publishable_key": call.emulator.instance.publishable_key,
        "app_url": call.controls.app_url,
        "users": len(state.users),
        "organizations": len(state.organizations),
        "memberships": len(state.memberships),
        "settings": asdict(state.settings),
        "webhooks": {"paused": deliveries.paused, "unfinished": deliveries.unfinished} | webhooks.show_disorder(call),
    }


def show_settings(call: Call) -> Json:
    return asdict(call.state.settings)


def change_settings(call: Call) -> Json:
    """What is not given stays."""
    known = settings_of(call.state)
    call.body.only(*(setting.name for setting in known))
    given = {setting.name: _read(call.body, setting) for setting in known if call.body.has(setting.name)}
    changes = {name: value for name, value in given.items() if value is not None}
    call.state.put_settings(replace(call.state.settings, **changes))
    return show_settings(call)


def set_app_url(call: Call) -> Json:
    call.controls.app_url = call.body.need("app_url")
    return {"app_url": call.controls.app_url}


def settings_of(state: State) -> list[Setting]:
    """Every field of `Settings`: what it is follows from its type, so that a new one needs nothing here."""
    hints = get_type_hints(Settings)
    return [_setting(field.name, hints[field.name], state) for field in fields(Settings)]


def _setting(name: str, hint: Any, state: State) -> Setting:
    value = getattr(state.settings, name)
    if get_origin(hint) in (Union, types.UnionType):
        [inner] = [each for each in get_args(hint) if each is not type(None)]
        return _setting(name, inner, state)
    if get_origin(hint) is Literal:
        return Setting(name, "choice", value, get_args(hint))
    if get_origin(hint) is tuple:
        choices = _choices(name, state)
        return Setting(name, "choices" if choices else "texts", value, choices)
    if hint is bool:
        return Setting(name, "flag", value)
    if hint is int:
        return Setting(name, "integer", value)
    return Setting(name, "choice" if (choices := _choices(name, state)) else "text", value, choices)


def _choices(name: str, state: State) -> tuple[str, ...]:
    if name.endswith("_role"):
        return tuple(state.role_by_key)
    return ENROLLMENT_MODES if name.endswith("enrollment_modes") else ()


def _read(body: Body, setting: Setting) -> Any:
    match setting.kind:
        case "flag":
            return body.flag(setting.name)
        case "integer":
            return body.integer(setting.name, 0)
        case "choices" | "texts":
            values = body.texts(setting.name)
            return None if values is None else tuple(_checked(setting, each) for each in values)
        case "choice":
            text = body.text(setting.name)
            return None if text is None else _checked(setting, text)
        case "text":
            return body.text(setting.name)


def _checked(setting: Setting, value: str) -> str:
    if setting.choices and value not in setting.choices:
        raise errors.invalid(setting.name, f"must be one of {', '.join(setting.choices)}")
    return value
