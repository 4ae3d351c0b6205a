"""The database functions as typed calls: the only Python that names them.

A `Call` is a function and its arguments, as text or lists of text; each adapter runs it with its own driver. JSON
crosses as text both ways, so that no driver's JSON codec matters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tenantry.errors import TenantryError, from_sqlstate

if TYPE_CHECKING:
    from tenantry.webhooks import Delivery

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
decode = json.JSONDecoder().decode


@dataclass(frozen=True)
class Call:
    """One call of a database function: `types` are the SQL types its arguments are read as."""

    function: str
    types: tuple[str, ...]
    arguments: tuple[Any, ...]  # str, list[str] or None, as `types` say

    @cached_property
    def percent(self) -> str:
        """The statement with `%s` placeholders, as psycopg takes it."""
        return _statement(self.function, [f"%s::{_cast(kind)}" for kind in self.types])

    @cached_property
    def dollar(self) -> str:
        """The statement with `$1` placeholders, as asyncpg takes it."""
        return _statement(self.function, [f"${n}::{_cast(kind)}" for n, kind in enumerate(self.types, 1)])


def _cast(kind: str) -> str:
    return kind if kind.endswith("[]") else f"text::{kind}"


def _statement(function: str, arguments: Iterable[str]) -> str:
    return f"select tenantry.{function}({', '.join(arguments)})::text"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one delivery: `applied`, `stale`, `ignored`, `duplicate`, `failed` or `refused`."""

    message_id: str
    outcome: str
    type: str | None = None
    code: str | None = None
    error: str | None = None


def set_tenant(facts: str) -> Call:
    """Enters the tenant of verified token facts (`Identity.to_json()`)."""
    return Call("set_tenant_v1", ("jsonb",), (facts,))


def provision(facts: str) -> Call:
    """Makes the tenant and user of verified token facts known, in a transaction of its own."""
    return Call("provision_v1", ("jsonb",), (facts,))


def set_tenant_by_id(tenant_id: UUID, reason: str, user_id: str | None, instance_id: str | None = None) -> Call:
    """Enters a tenant without a token; with a user the membership is checked, with an instance the database's."""
    options = {"user_id": user_id} | ({"instance_id": instance_id} if instance_id else {})
    return Call("set_tenant_by_id_v1", ("uuid", "text", "jsonb"), (str(tenant_id), reason, encode(options)))


def probe_endings(nonce: str) -> Call:
    """Sends a nonce to whoever listens for ended access."""
    return Call("probe_endings_v1", ("text",), (nonce,))


def no_tenant() -> Call:
    """Enters no tenant: raises NoTenant."""
    return Call("current_tenant_id", (), ())


def announce_changes() -> Call:
    """Has committed changes placed in the feed, and their readers told."""
    return Call("announce_changes_v1", (), ())


def sequence_changes() -> Call:
    """The same, whoever reads."""
    return Call("sequence_changes_v1", (), ())


def add_consumer(name: str, kinds: Sequence[str], start: str) -> Call:
    """Makes a reader of the feed, unless it is there; `start`: now or beginning."""
    return Call("add_consumer_v1", ("text", "jsonb"), (name, encode({"kinds": list(kinds), "from": start})))


def read_consumer(name: str, kinds: Sequence[str], limit: int) -> Call:
    """What a reader of the feed is to be told next, or why nothing."""
    return Call("read_consumer_v1", ("text", "jsonb"), (name, encode({"kinds": list(kinds), "limit": limit})))


def advance_consumer(name: str, pos: int, after: int) -> Call:
    """Moves a reader of the feed on, with the transaction this is called in."""
    return Call("advance_consumer_v1", ("text", "bigint", "jsonb"), (name, str(pos), encode({"after": after})))


def enter_change(name: str, pos: int, after: int, *, seconds: float) -> Call:
    """The same, and enters the tenant that the change concerns. The server ends what does nothing for so long."""
    options = {"after": after, "timeout": max(1, round(seconds * 1000))}
    return Call("enter_change_v1", ("text", "bigint", "jsonb"), (name, str(pos), encode(options)))


def fail_consumer(name: str, pos: int, error: str, *, attempts: int, backoff: float) -> Call:
    """Notes that a reader's handler failed at a change; at the last of so many attempts it is parked."""
    options = {"error": error, "attempts": attempts, "backoff": backoff}
    return Call("fail_consumer_v1", ("text", "bigint", "jsonb"), (name, str(pos), encode(options)))


def resume_consumer(name: str, *, skip: bool = False) -> Call:
    """Has a reader that failed go on: at the change it failed at, or after it."""
    return Call("resume_consumer_v1", ("text", "jsonb"), (name, encode({"skip": skip})))


def remove_consumer(name: str) -> Call:
    """Forgets a reader of the feed."""
    return Call("remove_consumer_v1", ("text",), (name,))


def list_consumers() -> Call:
    """Every reader of the feed, how far it is and what holds it up."""
    return Call("list_consumers_v1", (), ())


def read_changes(after: int, limit: int) -> Call:
    """The changes after a position."""
    return Call("read_changes_v1", ("jsonb",), (encode({"after": after, "limit": limit}),))


def record_events(deliveries: Iterable[Delivery], *, keep_private_metadata: bool = False) -> Call:
    """Records verified deliveries and merges what they tell; `read_outcomes` reads the answer."""
    group = list(deliveries)
    batch = [
        {"message_id": one.message_id, "sent_at": one.sent_at, "keep_private_metadata": keep_private_metadata}
        for one in group
    ]
    return Call("record_events_v1", ("jsonb", "text[]"), (encode(batch), [one.body for one in group]))


def list_events(options: Mapping[str, Any]) -> Call:
    """Deliveries in the inbox: see `sql/functions/list_events_v1.sql`."""
    return Call("list_events_v1", ("jsonb",), (encode(options),))


def read_event(message_id: str) -> Call:
    """One delivery, whole, with what it changed."""
    return Call("read_event_v1", ("text",), (message_id,))


def replay_events(ids: Iterable[str], *, keep_private_metadata: bool = False) -> Call:
    """Merges deliveries of the inbox again: see `sql/functions/replay_events_v1.sql`."""
    options = {"keep_private_metadata": keep_private_metadata}
    return Call("replay_events_v1", ("text[]", "jsonb"), (list(ids), encode(options)))


def forget_events(before: str, *, limit: int | None = None, dry_run: bool = False) -> Call:
    """Deletes deliveries received before a time that were no dead letters; answers {"forgotten", "busy"?}."""
    options = {"limit": limit, "dry_run": dry_run} if limit else {"dry_run": dry_run}
    return Call("forget_events_v1", ("timestamptz", "jsonb"), (before, encode(options)))


def discard_letters(ids: Iterable[str]) -> Call:
    """Deletes dead letters and refused deliveries; answers {"discarded": [message ids]}."""
    return Call("discard_letters_v1", ("text[]",), (list(ids),))


def list_tenants(options: Mapping[str, Any]) -> Call:
    """Tenants, a thousand at a time: see `sql/functions/list_tenants_v1.sql`."""
    return Call("list_tenants_v1", ("jsonb",), (encode(options),))


def list_isolated() -> Call:
    """The isolated tables and the foreign keys that lead to them."""
    return Call("list_isolated_v1", (), ())


def bypass_tenant(reason: str) -> Call:
    """Opens every tenant to the transaction it is called in."""
    return Call("bypass_tenant_v1", ("text",), (reason,))


def end_tenant(tenant: str, *, dry_run: bool = False) -> Call:
    """Makes the end of a deleted tenant final."""
    return Call("end_tenant_v1", ("text", "jsonb"), (tenant, encode({"dry_run": dry_run})))


def purge_tenant(tenant: str, after: int, limit: int) -> Call:
    """Deletes the next part of what mirror, inbox and feed hold of a deleted tenant."""
    return Call("purge_tenant_v1", ("text", "jsonb"), (tenant, encode({"after": after, "limit": limit})))


def erase_user(user_id: str, emails: Iterable[str] = (), after: str | None = None) -> Call:
    """Removes the next part of what mirror, inbox and feed hold of a person: see `sql/functions/erase_user_v1.sql`."""
    return Call("erase_user_v1", ("text", "jsonb"), (user_id, encode({"emails": list(emails), "after": after})))


def set_role_permissions(map: Mapping[str, Iterable[str]]) -> Call:
    """Replaces the app's map of Clerk role to app permissions."""
    return Call("set_role_permissions_v1", ("jsonb",), (encode({role: sorted(held) for role, held in map.items()}),))


def rebind_instance(instance_id: str) -> Call:
    """Binds the database to another Clerk instance."""
    return Call("rebind_instance_v1", ("text",), (instance_id,))


def lock_reconcile() -> Call:
    """Makes the transaction it is called in the one that reconciles; answers {"locked": bool}."""
    return Call("lock_reconcile_v1", (), ())


def begin_reconcile(options: Mapping[str, Any]) -> Call:
    """Begins a run, or goes on with one: see `sql/functions/begin_reconcile_v1.sql`."""
    return Call("begin_reconcile_v1", ("jsonb",), (encode(options),))


def save_reconcile(run: Mapping[str, Any]) -> Call:
    """Keeps where a run is."""
    return Call("save_reconcile_v1", ("jsonb",), (encode(run),))


def merge_page(kind: str, objects: Sequence[Any], options: Mapping[str, Any]) -> Call:
    """Merges a page of Clerk's Backend API, and absences: see `sql/functions/merge_page_v1.sql`."""
    return Call("merge_page_v1", ("text", "jsonb", "jsonb"), (kind, encode(objects), encode(options)))


def list_pages(run_id: int, kind: str, part: str = "") -> Call:
    """The pages a run has merged of a kind, and of one organization's part of it."""
    return Call("list_pages_v1", ("bigint", "text", "text"), (str(run_id), kind, part))


def list_unseen(run_id: int, kind: str, after: str | None, limit: int) -> Call:
    """Live rows of a kind that no page of the run has shown."""
    options = {"after": after, "limit": limit}
    return Call("list_unseen_v1", ("bigint", "text", "jsonb"), (str(run_id), kind, encode(options)))


def list_doubts(asked: Iterable[str], org_id: str | None) -> Call:
    """Live objects that Clerk is to be asked about again, save those asked about already."""
    return Call("list_doubts_v1", ("text[]", "text"), (list(asked), org_id))


def list_organizations(after: str | None) -> Call:
    """The ids of live organizations, a thousand at a time."""
    return Call("list_organizations_v1", ("jsonb",), (encode({"after": after}),))


def find_miscounted(members: Mapping[str, int]) -> Call:
    """Of organizations with so many members, those that have another number in the mirror."""
    return Call("find_miscounted_v1", ("jsonb",), (encode(members),))


def list_unknown_ids(ids: Sequence[str]) -> Call:
    """Of Clerk's ids of organizations and users, those that the mirror has never seen."""
    return Call("list_unknown_ids_v1", ("jsonb",), (encode(list(ids)),))


def explain_drift(drift: Iterable[Mapping[str, Any]], observed_at: int) -> Call:
    """The likely cause of each drift, by id."""
    told = [{"id": each["id"], "changed_at": each["changed_at"]} for each in drift]
    return Call("explain_drift_v1", ("jsonb", "bigint"), (encode(told), str(observed_at)))


def status() -> Call:
    """What there is to know of mirror, inbox and feed: `tenantry.status.read_facts` reads the answer."""
    return Call("status_v1", (), ())


def watch_silence(after: float, every: float) -> Call:
    """Whether it is on the caller to ask Clerk, after so many seconds without a delivery."""
    return Call("watch_silence_v1", ("jsonb",), (encode({"after": after, "every": every}),))


def raise_silence(since: str, changed_at: int) -> Call:
    """Raises the alarm of a silence, once."""
    return Call("raise_silence_v1", ("jsonb",), (encode({"since": since, "changed_at": changed_at}),))


def read_outcomes(answer: str) -> list[Outcome]:
    """The outcomes of `record_events`, in the order of the deliveries."""
    return [Outcome(**told) for told in decode(answer)]


def read_error(raised: BaseException) -> TenantryError | None:
    """The error a database function raised, out of whatever the driver and SQLAlchemy wrapped it in; else None."""
    error: Any = raised
    found: Any = None
    while error is not None:
        if str(getattr(error, "sqlstate", None) or "").startswith("TY"):
            found = error  # the innermost is the driver's own, with all its fields
        error = getattr(error, "orig", None) or error.__cause__
    if found is None:
        return None
    said = getattr(found, "diag", None)
    if said is not None:  # psycopg
        fields = said.message_primary, said.message_detail, said.message_hint
    else:  # asyncpg
        fields = getattr(found, "message", None), getattr(found, "detail", None), getattr(found, "hint", None)
    message, detail, hint = fields
    return from_sqlstate(found.sqlstate, message or str(found), detail=detail, hint=hint)
