"""Deliveries, endpoints, and what is to go wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from tenantry.emulator import errors
from tenantry.emulator.control.call import Call, Json
from tenantry.emulator.deliveries import Delivery, Endpoint
from tenantry.emulator.disorder import Disorder
from tenantry.emulator.errors import ClerkError


def list_deliveries(call: Call) -> Json:
    return {"data": [delivery.describe() for delivery in call.emulator.webhooks.deliveries()]}


def get_delivery(call: Call) -> Json:
    """With the `body` as it is sent."""
    delivery = find_delivery(call)
    return delivery.describe() | {"body": json.loads(delivery.message.body)}


def resend(call: Call) -> Json:
    return call.emulator.webhooks.resend(find_delivery(call).id).describe()


def pause(call: Call) -> Json:
    call.emulator.webhooks.pause()
    return {"paused": True}


def release(call: Call) -> Json:
    call.emulator.webhooks.release()
    return {"paused": False}


def show_disorder(call: Call) -> Json:
    return {"disorder": asdict(call.emulator.webhooks.disorder)}


def set_disorder(call: Call) -> Json:
    """What is not given is off."""
    names = [field.name for field in fields(Disorder)]
    call.body.only(*names)
    given = {name: call.body.number(name) for name in names}
    try:
        disorder = Disorder(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise ClerkError(422, "form_param_value_invalid", str(error)) from None
    call.emulator.webhooks.disorder = disorder
    return show_disorder(call)


def list_endpoints(call: Call) -> Json:
    return {"data": [_show_endpoint(endpoint) for endpoint in call.emulator.webhooks.endpoints.values()]}


def add_endpoint(call: Call) -> Json:
    """`url`; also `secret`, and `events`, the types it wants."""
    url, secret = call.body.need("url"), call.body.text("secret") or None
    try:
        endpoint = call.emulator.webhooks.add_endpoint(url, secret=secret, events=call.body.texts("events"))
    except ValueError as error:
        raise ClerkError(422, "form_param_value_invalid", str(error)) from None
    return _show_endpoint(endpoint)


def find_delivery(call: Call) -> Delivery:
    try:
        return call.emulator.webhooks.delivery(call.path["delivery_id"])
    except LookupError:
        raise errors.not_found("delivery", call.path["delivery_id"]) from None


def _show_endpoint(endpoint: Endpoint) -> Json:
    """With its secret: whoever adds an endpoint needs it to verify what arrives."""
    return asdict(endpoint)
