"""Users: their addresses, bans and metadata."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field, replace
from typing import Any

from tenantry.emulator import errors
from tenantry.emulator.identifiers import digest
from tenantry.emulator.records import EmailAddress, Metadata, User
from tenantry.emulator.store import metadata
from tenantry.emulator.store.core import Core
from tenantry.emulator.store.memberships import Memberships
from tenantry.emulator.store.sessions import Sessions

_EMAIL = re.compile(r"[^@\s<>]{1,64}@[^@\s<>]{1,190}\.[^@\s<>.]{2,63}")
_DAY = 86_400_000
PASSWORD_MIN, PASSWORD_MAX = 8, 72  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """What a user can be created with. `fields` are further fields of the record, taken as they are."""

    email_addresses: tuple[str, ...] = ()
    reserved: tuple[bool, ...] = ()  # by address: reserved rather than verified
    username: str | None = None
    password: str | None = None
    external_id: str | None = None
    created_at: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)


class Users:
    def __init__(self, core: Core, memberships: Memberships, sessions: Sessions) -> None:
        self._core = core
        self._memberships = memberships
        self._sessions = sessions

    def get(self, id: str) -> User:
        user = self._core.state.users.get(id)
        if user is None:
            raise errors.not_found("user", id)
        return user

    def find(self, name: str) -> User:
        """By id, e-mail address or username."""
        state = self._core.state
        id = state.user_by_email.get(name.lower()) or state.user_by_username.get(name.lower()) or name
        return self.get(id)

    def create(self, new: NewUser) -> User:
        if not new.email_addresses and not new.username:
            raise errors.missing("email_address")
        created = new.created_at or self._core.clock()
        emails = tuple(
            self._new_email(address, created, reserved=reserved)
            for address, reserved in zip(new.email_addresses, self._reserved(new), strict=True)
        )
        for param in ("public_metadata", "private_metadata", "unsafe_metadata"):
            metadata.check(param, new.fields.get(param, {}))
        record = User(
            id=self._core.identifiers.new("user"),
            created_at=created,
            updated_at=created,
            email_addresses=emails,
            primary_email_address_id=emails[0].id if emails else None,
            username=self._free_username(new.username),
            external_id=self._free_external_id(new.external_id),
            last_active_at=_day(created),
            **new.fields,
        )
        return self._core.create(replace(record, **self._password(record.id, new.password)))

    def update(self, id: str, changes: dict[str, Any]) -> User:
        """`changes` by field of the record; `password` is the password itself."""
        user = self.get(id)
        changes = dict(changes)
        if "username" in changes and changes["username"] != user.username:
            changes["username"] = self._free_username(changes["username"] or None)
        if "external_id" in changes and changes["external_id"] != user.external_id:
            changes["external_id"] = self._free_external_id(changes["external_id"])
        if changes.get("primary_email_address_id"):
            self._check_primary(user, changes["primary_email_address_id"])
        if "password" in changes:
            changes |= self._password(id, changes.pop("password"))
        return self._core.update(user, **changes)

    def remove_password(self, id: str) -> User:
        return self._core.update(self.get(id), password=None, password_updated_at=self._core.clock())

    def delete(self, id: str) -> User:
        """Memberships and sessions go with the user."""
        user = self.get(id)
        self._sessions.end_all(user.id, "removed")
        self._memberships.end_all(self._core.state.memberships_of_user(user.id))
        self._sessions.forget(user.id)
        self._core.delete(user)
        return user

    def ban(self, id: str) -> User:
        """All sessions are revoked; memberships stay."""
        user = self._core.update(self.get(id), banned=True)
        self._sessions.end_all(id, "revoked")
        return user

    def unban(self, id: str) -> User:
        return self._core.update(self.get(id), banned=False)

    def lock(self, id: str, *, locked: bool) -> User:
        return self._core.update(self.get(id), locked=locked)

    def merge_metadata(self, id: str, new: dict[str, Metadata]) -> User:
        user = self.get(id)
        old = {param: getattr(user, param) for param in new}
        return self._core.update(user, **metadata.merged(old, new))

    def replace_metadata(self, id: str, new: dict[str, Metadata]) -> User:
        return self._core.update(self.get(id), **metadata.replaced(new))

    def get_email(self, email_id: str) -> tuple[User, EmailAddress]:
        for user in self._core.state.users.values():
            for email in user.email_addresses:
                if email.id == email_id:
                    return user, email
        raise errors.not_found("email address", email_id)

    def add_email(self, id: str, address: str, *, verified: bool, primary: bool) -> EmailAddress:
        user = self.get(id)
        if any(each.email_address == address.lower() for each in user.email_addresses):
            raise errors.taken("email_address")
        email = self._new_email(address, self._core.clock(), verified=verified)
        becomes_primary = primary or not user.email_addresses
        changes: dict[str, Any] = {"primary_email_address_id": email.id} if becomes_primary else {}
        self._core.update(user, email_addresses=(*user.email_addresses, email), **changes)
        return email

    def update_email(self, email_id: str, *, verified: bool | None, primary: bool | None) -> EmailAddress:
        user, email = self.get_email(email_id)
        if verified and self._core.state.user_by_email.get(email.email_address, user.id) != user.id:
            raise errors.taken("email_address")
        if verified is not None:
            email = replace(email, verified=verified, updated_at=self._core.clock())
        emails = tuple(email if each.id == email_id else each for each in user.email_addresses)
        changes: dict[str, Any] = {"primary_email_address_id": email_id} if primary else {}
        self._core.update(user, email_addresses=emails, **changes)
        return email

    def delete_email(self, email_id: str) -> EmailAddress:
        user, email = self.get_email(email_id)
        rest = tuple(each for each in user.email_addresses if each.id != email_id)
        was_primary = user.primary_email_address_id == email_id
        primary = (rest[0].id if rest else None) if was_primary else user.primary_email_address_id
        self._core.update(user, email_addresses=rest, primary_email_address_id=primary)
        return email

    def _new_email(self, address: str, now: int, *, verified: bool = True, reserved: bool = False) -> EmailAddress:
        address = checked_email("email_address", address)
        if address in self._core.state.user_by_email:
            raise errors.taken("email_address")
        return EmailAddress(
            id=self._core.identifiers.new("idn"),
            email_address=address,
            verified=verified and not reserved,
            reserved=reserved,
            created_at=now,
            updated_at=now,
        )

    def _reserved(self, new: NewUser) -> tuple[bool, ...]:
        if len(set(map(str.lower, new.email_addresses))) != len(new.email_addresses):
            raise errors.taken("email_address")
        return new.reserved or (False,) * len(new.email_addresses)

    def _free_username(self, username: str | None) -> str | None:
        if username is None:
            return None
        if not re.fullmatch(r"[a-z0-9_-]{4,64}", username.lower()):
            raise errors.malformed("username", "4 to 64 letters, digits, - or _")
        if username.lower() in self._core.state.user_by_username:
            raise errors.taken("username")
        return username.lower()

    def _free_external_id(self, external_id: str | None) -> str | None:
        if external_id and external_id in self._core.state.user_by_external_id:
            raise errors.taken("external_id")
        return external_id or None

    def _check_primary(self, user: User, email_id: str) -> None:
        if not any(email.id == email_id and email.verified for email in user.email_addresses):
            raise errors.invalid("primary_email_address_id", "must be a verified address of this user")

    def _password(self, user_id: str, password: str | None) -> dict[str, Any]:
        if password is None:
            return {}
        return {"password": hash_password(user_id, password), "password_updated_at": self._core.clock()}


def checked_email(param: str, address: str) -> str:
    """In lower case; ClerkError when it is none."""
    if not _EMAIL.fullmatch(address):
        raise errors.malformed(param, "a valid email address")
    return address.lower()


def hash_password(salt: str, password: str, *, param: str = "password") -> str:
    """Salt and digest. Good enough for people who do not exist; light, since a seed may hold thousands.

    ClerkError when the password is too short or too long.
    """
    if len(password) < PASSWORD_MIN:
        message = f"Passwords must be {PASSWORD_MIN} characters or more."
        raise errors.ClerkError(422, "form_password_length_too_short", message, param=param)
    if len(password) > PASSWORD_MAX:
        message = f"Passwords must be less than {PASSWORD_MAX} characters."
        raise errors.ClerkError(422, "form_password_length_too_long", message, param=param)
    return f"{salt}:{_digest_password(salt, password)}"


def is_password(kept: str | None, password: str) -> bool:
    """Whether this is the password whose salt and digest are kept."""
    salt, _, kept_digest = (kept or "").partition(":")
    return bool(kept_digest) and hmac.compare_digest(kept_digest, _digest_password(salt, password))


def _digest_password(salt: str, password: str) -> str:
    return hashlib.scrypt(password.encode(), salt=digest("password", salt), n=1024, r=8, p=1).hex()


def _day(moment: int) -> int:
    """`last_active_at` has the precision of a day."""
    return moment - moment % _DAY
