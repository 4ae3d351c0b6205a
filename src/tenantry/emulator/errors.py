"""Clerk's errors: status, code and body as its APIs give them."""

from __future__ import annotations

from typing import Any


class ClerkError(Exception):
    """One error of a response. `param` names the parameter at fault; `retry_after` is in seconds.

    `meta` is what else an SDK needs to know in order to go on.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.meta = meta or {}

    def body(self, trace_id: str) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "long_message": self.message, "code": self.code}
        meta = self.meta | ({"param_name": self.param} if self.param else {})
        if meta:
            error["meta"] = meta
        return {"errors": [error], "clerk_trace_id": trace_id}


def not_found(what: str, id: str) -> ClerkError:
    return ClerkError(404, "resource_not_found", f"No {what} was found with id {_shown(id)}.")


def missing(param: str) -> ClerkError:
    return ClerkError(422, "form_param_missing", f"{param} must be included.", param=param)


def unknown(param: str) -> ClerkError:
    message = f"{_shown(param)} is not a valid parameter for this request."
    return ClerkError(422, "form_param_unknown", message, param=_shown(param))


def malformed(param: str, expected: str) -> ClerkError:
    return ClerkError(422, "form_param_format_invalid", f"{param} must be {expected}.", param=param)


def invalid(param: str, why: str) -> ClerkError:
    return ClerkError(422, "form_param_value_invalid", f"{param} {why}.", param=param)


def taken(param: str) -> ClerkError:
    return ClerkError(422, "form_identifier_exists", f"That {param} is taken. Please try another.", param=param)


def refused(code: str, message: str, *, status: int = 403) -> ClerkError:
    return ClerkError(status, code, message)


def _shown(value: str) -> str:
    """What a caller sent, shortened: an error is read by people."""
    return value if len(value) <= 60 else value[:57] + "..."
