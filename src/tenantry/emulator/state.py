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
    MembershipRequest,
    Organization,
    Permission,
    Record,
    Role,
    Session,
    SignIn,
    SignInToken,
    SignUp,
    Suggestion,
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
        self.suggestions: dict[str, Suggestion] = {}
        self.membership_requests: dict[str, MembershipRequest] = {}
        self.roles: dict[str, Role] = {}
        self.permissions: dict[str, Permission] = {}
        self.sessions: dict[str, Session] = {}
        self.clients: dict[str, Client] = {}
        self.sign_ins: dict[str, SignIn] = {}
        self.sign_ups: dict[str, SignUp] = {}
        self.sign_in_tokens: dict[str, SignInToken] = {}
        self.user_by_email: dict[str, str] = {}  # owned addresses: any other may be claimed by anybody
        self.user_by_username: dict[str, str] = {}
        self.organization_by_slug: dict[str, str] = {}
        self.role_by_key: dict[str, str] = {}
        self.permission_by_key: dict[str, str] = {}
        self.members: Ids = defaultdict(dict)  # organization -> user -> membership
        self.joined: Ids = defaultdict(dict)  # user -> organization -> membership
        self.role_holders: defaultdict[str, Counter[str]] = defaultdict(Counter)  # organization -> role -> members
        self.children: Ids = defaultdict(dict)  # organization -> its invitations, domains, suggestions and requests
        self.asked: Ids = defaultdict(dict)  # user -> suggestions made to them, and their membership requests
        self.invited: Ids = defaultdict(dict)  # e-mail address -> invitations
        self.invitation_by_ticket: dict[str, str] = {}
        self.domain_by_name: dict[str, str] = {}
        self.sessions_of: Ids = defaultdict(dict)  # user -> sessions
        self.sessions_of_client: Ids = defaultdict(dict)  # client -> sessions
        self.client_by_secret: dict[str, str] = {}
        self.client_by_dev_browser: dict[str, str] = {}
        self.created_by: Counter[str] = Counter()  # user -> organizations created
        self.user_by_external_id: dict[str, str] = {}
        self._tables: dict[str, dict[str, Any]] = {
            "user": self.users, "organization": self.organizations, "membership": self.memberships,
            "invitation": self.invitations, "domain": self.domains, "role": self.roles,
            "permission": self.permissions, "session": self.sessions, "client": self.clients,
            "sign_in_token": self.sign_in_tokens, "sign_in": self.sign_ins, "sign_up": self.sign_ups,
            "suggestion": self.suggestions, "membership_request": self.membership_requests,
        }  # fmt: skip
        self._journal = journal
        contents = journal.contents if journal else {}
        self.meta: dict[str, Any] = contents.get("meta", {})
        self.settings = Settings()
        if "settings" in self.meta:
            kept: dict[str, Any] = self.meta["settings"]
            tuples = {name: tuple(value) for name, value in kept.items() if isinstance(value, list)}
            try:
                self.settings = Settings(**kept | tuples)
            except TypeError:
                raise _unknown("settings") from None
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

    def suggestions_of(self, organization_id: str) -> list[Suggestion]:
        ids = self.children.get(organization_id, {})
        return [self.suggestions[id] for id, kind in ids.items() if kind == "suggestion"]

    def membership_requests_of(self, organization_id: str) -> list[MembershipRequest]:
        ids = self.children.get(organization_id, {})
        return [self.membership_requests[id] for id, kind in ids.items() if kind == "membership_request"]

    def invitations_to(self, user: User) -> list[Invitation]:
        """Those to the addresses that are verified as the user's."""
        addresses = [email.email_address for email in user.email_addresses if email.verified]
        return [self.invitations[id] for address in addresses for id in self.invited.get(address, {})]

    def suggestions_to(self, user_id: str) -> list[Suggestion]:
        return [self.suggestions[id] for id, kind in self.asked.get(user_id, {}).items() if kind == "suggestion"]

    def membership_requests_from(self, user_id: str) -> list[MembershipRequest]:
        ids = self.asked.get(user_id, {})
        return [self.membership_requests[id] for id, kind in ids.items() if kind == "membership_request"]

    def live_sessions_of(self, user_id: str) -> list[Session]:
        sessions = [self.sessions[id] for id in self.sessions_of.get(user_id, {})]
        return [session for session in sessions if session.is_alive]

    def permissions_of(self, role: Role) -> list[Permission]:
        return [self.permissions[id] for id in role.permission_ids]

    def holds(self, membership: Membership, permission: str) -> bool:
        held = self.permissions_of(self.roles[membership.role_id])
        return any(each.key == permission for each in held)

    def _store(self, record: Record) -> None:
        table = self._tables[record.kind]
        if record.id in table:
            self._unindex(table[record.id])
        table[record.id] = record
        self._index(record)

    def _index(self, record: Record) -> None:
        match record:
            case User():
                for email in record.email_addresses:
                    if email.owned:
                        self.user_by_email[email.email_address] = record.id
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
            case Invitation():
                self.children[record.organization_id][record.id] = record.kind
                self.invited[record.email_address][record.id] = record.id
                if record.ticket:
                    self.invitation_by_ticket[record.ticket] = record.id
            case Domain():
                self.children[record.organization_id][record.id] = record.kind
                self.domain_by_name[record.name] = record.id
            case Suggestion() | MembershipRequest():
                self.children[record.organization_id][record.id] = record.kind
                self.asked[record.user_id][record.id] = record.kind
            case Session():
                self.sessions_of[record.user_id][record.id] = record.id
                self.sessions_of_client[record.client_id][record.id] = record.id
            case Client():
                self.client_by_secret[record.secret] = record.id
                self.client_by_dev_browser[record.dev_browser] = record.id

    def _unindex(self, record: Record) -> None:
        match record:
            case User():
                for email in record.email_addresses:
                    if email.owned:
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
            case Invitation():
                self.children[record.organization_id].pop(record.id, None)
                self.invited[record.email_address].pop(record.id, None)
                self.invitation_by_ticket.pop(record.ticket or "", None)
            case Domain():
                self.children[record.organization_id].pop(record.id, None)
                self.domain_by_name.pop(record.name, None)
            case Suggestion() | MembershipRequest():
                self.children[record.organization_id].pop(record.id, None)
                self.asked[record.user_id].pop(record.id, None)
            case Session():
                self.sessions_of[record.user_id].pop(record.id, None)
                self.sessions_of_client[record.client_id].pop(record.id, None)
            case Client():
                self.client_by_secret.pop(record.secret, None)
                self.client_by_dev_browser.pop(record.dev_browser, None)


def _load(record_type: type[Record], values: dict[str, Any]) -> Record:
    try:
        return load(record_type, values)
    except (KeyError, TypeError):
        raise _unknown(f"a {record_type.kind}") from None


def _unknown(what: str) -> ValueError:
    return ValueError(f"The kept state holds {what} that this release does not know. Delete it to begin anew.")
