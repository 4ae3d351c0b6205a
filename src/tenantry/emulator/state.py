"""All records of an instance, found by id and by what refers to them; written through to the journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

from tenantry.emulator.journal import Journal
from tenantry.emulator.records import (
    TYPES,
    Client,
    Domain,
    Invitation,
    Membership,
    Organization,
    Permission,
    Record,
    Role,
    Session,
    SignInToken,
    User,
    dump,
    load,
)
from tenantry.emulator.settings import Settings

Ids = defaultdict[str, dict[str, str]]


class State:
    """Tables keep the order of creation. Only `put`, `drop` and `put_settings` change anything."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.users: dict[str, User] = {}
        self.organizations: dict[str, Organization] = {}
        self.memberships: dict[str, Membership] = {}
        self.invitations: dict[str, Invitation] = {}
        self.domains: dict[str, Domain] = {}
        self.roles: dict[str, Role] = {}
        self.permissions: dict[str, Permission] = {}
        self.sessions: dict[str, Session] = {}
        self.clients: dict[str, Client] = {}
        self.sign_in_tokens: dict[str, SignInToken] = {}
        self.user_by_email: dict[str, str] = {}
        self.user_by_username: dict[str, str] = {}
        self.organization_by_slug: dict[str, str] = {}
        self.role_by_key: dict[str, str] = {}
        self.permission_by_key: dict[str, str] = {}
        self.members: Ids = defaultdict(dict)  # organization -> user -> membership
        self.joined: Ids = defaultdict(dict)  # user -> organization -> membership
        self.role_holders: defaultdict[str, Counter[str]] = defaultdict(Counter)  # organization -> role -> members
        self.children: Ids = defaultdict(dict)  # organization -> its invitations and domains
        self.sessions_of: Ids = defaultdict(dict)  # user -> sessions
        self.sessions_of_client: Ids = defaultdict(dict)  # client -> sessions
        self.client_by_secret: dict[str, str] = {}
        self.created_by: Counter[str] = Counter()  # user -> organizations created
        self.user_by_external_id: dict[str, str] = {}
        self._tables: dict[str, dict[str, Any]] = {
            "user": self.users, "organization": self.organizations, "membership": self.memberships,
            "invitation": self.invitations, "domain": self.domains, "role": self.roles,
            "permission": self.permissions, "session": self.sessions, "client": self.clients,
            "sign_in_token": self.sign_in_tokens,
        }  # fmt: skip
        self._journal = journal
        contents = journal.contents if journal else {}
        self.meta: dict[str, Any] = contents.get("meta", {})
        self.settings = Settings()
        if "settings" in self.meta:
            kept = self.meta["settings"]
            self.settings = Settings(**{**kept, "domains_enrollment_modes": tuple(kept["domains_enrollment_modes"])})
        for record_type in TYPES:
            for values in contents.get(record_type.kind, {}).values():
                self._store(_load(record_type, values))

    def put(self, record: Record) -> None:
        """Adds the record, or replaces the one with its id."""
        self._store(record)
        if self._journal:
            self._journal.append(record.kind, record.id, dump(record))

    def drop(self, record: Record) -> None:
        self._unindex(self._tables[record.kind].pop(record.id))
        if self._journal:
            self._journal.append(record.kind, record.id, None)

    def put_settings(self, settings: Settings) -> None:
        self.settings = settings
        self.put_meta("settings", asdict(settings))

    def put_meta(self, key: str, value: Any) -> None:
        """Small facts about the state itself: JSON, by key."""
        self.meta[key] = value
        if self._journal:
            self._journal.append("meta", key, value)

    def membership(self, organization_id: str, user_id: str) -> Membership | None:
        id = self.members[organization_id].get(user_id) if organization_id in self.members else None
        return self.memberships[id] if id else None

    def memberships_of(self, organization_id: str) -> list[Membership]:
        return [self.memberships[id] for id in self.members.get(organization_id, {}).values()]

    def memberships_of_user(self, user_id: str) -> list[Membership]:
        return [self.memberships[id] for id in self.joined.get(user_id, {}).values()]

    def invitations_of(self, organization_id: str) -> list[Invitation]:
        ids = self.children.get(organization_id, {})
        return [self.invitations[id] for id, kind in ids.items() if kind == "invitation"]

    def domains_of(self, organization_id: str) -> list[Domain]:
        return [self.domains[id] for id, kind in self.children.get(organization_id, {}).items() if kind == "domain"]

    def live_sessions_of(self, user_id: str) -> list[Session]:
        sessions = [self.sessions[id] for id in self.sessions_of.get(user_id, {})]
        return [session for session in sessions if session.is_alive]

    def permissions_of(self, role: Role) -> list[Permission]:
        return [self.permissions[id] for id in role.permission_ids]

    def _store(self, record: Record) -> None:
        table = self._tables[record.kind]
        if record.id in table:
            self._unindex(table[record.id])
        table[record.id] = record
        self._index(record)

    def _index(self, record: Record) -> None:
        match record:
            case User():
                self.user_by_email.update({email.email_address: record.id for email in record.email_addresses})
                if record.username:
                    self.user_by_username[record.username] = record.id
                if record.external_id:
                    self.user_by_external_id[record.external_id] = record.id
            case Organization():
                if record.slug:
                    self.organization_by_slug[record.slug] = record.id
                if record.created_by:
                    self.created_by[record.created_by] += 1
            case Role():
                self.role_by_key[record.key] = record.id
            case Permission():
                self.permission_by_key[record.key] = record.id
            case Membership():
                self.members[record.organization_id][record.user_id] = record.id
                self.joined[record.user_id][record.organization_id] = record.id
                self.role_holders[record.organization_id][record.role_id] += 1
            case Invitation() | Domain():
                self.children[record.organization_id][record.id] = record.kind
            case Session():
                self.sessions_of[record.user_id][record.id] = record.id
                self.sessions_of_client[record.client_id][record.id] = record.id
            case Client():
                self.client_by_secret[record.secret] = record.id

    def _unindex(self, record: Record) -> None:
        match record:
            case User():
                for email in record.email_addresses:
                    self.user_by_email.pop(email.email_address, None)
                self.user_by_username.pop(record.username or "", None)
                self.user_by_external_id.pop(record.external_id or "", None)
            case Organization():
                self.organization_by_slug.pop(record.slug or "", None)
                if record.created_by:
                    self.created_by[record.created_by] -= 1
            case Role():
                self.role_by_key.pop(record.key, None)
            case Permission():
                self.permission_by_key.pop(record.key, None)
            case Membership():
                self.members[record.organization_id].pop(record.user_id, None)
                self.joined[record.user_id].pop(record.organization_id, None)
                self.role_holders[record.organization_id][record.role_id] -= 1
            case Invitation() | Domain():
                self.children[record.organization_id].pop(record.id, None)
            case Session():
                self.sessions_of[record.user_id].pop(record.id, None)
                self.sessions_of_client[record.client_id].pop(record.id, None)
            case Client():
                self.client_by_secret.pop(record.secret, None)


def _load(record_type: type[Record], values: dict[str, Any]) -> Record:
    try:
        return load(record_type, values)
    except (KeyError, TypeError):
        message = f"The kept state holds a {record_type.kind} that this release does not know. Delete it to begin anew."
        raise ValueError(message) from None
