"""One-time codes: nothing is ever sent, and the one code of Clerk's test addresses is right everywhere."""

from __future__ import annotations

from tenantry.emulator.errors import ClerkError

CODE = "424242"
LIFE = 10 * 60_000  # milliseconds


def check_code(code: str, sent_at: int | None, now: int) -> None:
    """ClerkError when none was asked for, when it came too late, or when it is another."""
    if sent_at is None:
        message = "We were unable to complete the verification for this Client. Ask for a code first."
        raise ClerkError(400, "client_state_invalid", message)
    if now >= sent_at + LIFE:
        message = "This verification has expired. You must create a new one."
        raise ClerkError(400, "verification_expired", message)
    if code != CODE:
        raise ClerkError(422, "form_code_incorrect", "Incorrect code", param="code")
