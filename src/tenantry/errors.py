"""Every error Tenantry raises: a code for programs, a sentence for people, a next step, an HTTP status.

    TenantryError
    ├── ConfigurationError            a setting is missing or contradicts another
    ├── DatabaseUnavailable           PostgreSQL could not be reached or did not answer          503
    ├── CallRefused                   the database answered, and would not run a call of ours            503
    ├── ClerkUnavailable              Clerk did not answer, and nothing kept from before serves instead  503
    ├── ClerkRefused                  Clerk answered, and would not: the secret key is not good for this 503
    ├── ReconcileUnderWay             another process reconciles already                         TY021
    ├── PurgeUnfinished               rows of a purged tenant came meanwhile, or still may
    ├── SchemaError                   the database's schema and this release do not fit
    ├── AdoptionRefused               a move of the app's tables to tenants cannot begin, or go on, as it is
    ├── IsolationError                the app used the database in a way isolation refuses       500
    │   ├── NoTenant                  a query without a tenant                                   TY001
    │   ├── TenantAlreadySet          a second tenant, or the bypass, in one transaction         TY002
    │   ├── Leftovers                 a connection still holds what a tenant left on it          TY003
    │   ├── NoOrganizationId          a personal account was asked for its organization            TY040
    │   ├── UnknownTenant             set_tenant_by_id_v1 got an id nobody has                   TY020
    │   └── TableNotIsolable          isolate_table_v1 and share_table_v1 refused                TY030
    ├── InvalidArgument               a database function got something it cannot read          TY010
    ├── NotProvisioned                the mirror has not seen this organization or user yet      TY011
    ├── AuthenticationFailed          who is asking is not established                           401
    │   ├── MissingToken, InvalidToken, TokenExpired (TY019), SessionPending,
    │   └── WrongTokenKind, SessionEnded (TY016)
    ├── AccessDenied                  known, but not allowed                                     403
    │   ├── NoOrganization (TY017), NotAMember (TY012), OrganizationDeleted (TY013),
    │   ├── UserDeleted (TY014), UserBanned (TY015), WrongInstance (TY018),
    │   ├── UntrustedOrigin           a cookie on an unsafe request from a page that is not the app's
    │   └── PermissionDenied
    ├── JobRefused                    a job's envelope does not say for whom it may run          403
    │   ├── BadEnvelope               malformed, altered, or sealed with another secret
    │   └── EnvelopeExpired
    ├── HandlerTooSlow                a handler of changes took longer than it may
    ├── ConsumerTaken                 another worker tells this consumer of its changes
    ├── OrganizationMismatch          the client expected another organization than its token's  409
    └── WebhookError                  a delivery that is not recorded
        ├── BadSignature              malformed or forged                                        400
        ├── DeliveryRefused           another instance's, or a known id with other content       400
        ├── PayloadTooLarge                                                                      413
        └── WebhookNotConfigured      no signing secret                                          503

Database functions raise with the SQLSTATEs above (`sql/functions/raise_error.sql` is their source);
`from_sqlstate` turns one into its class, by code and never by text.
"""

from __future__ import annotations

from typing import ClassVar


class TenantryError(Exception):
    """Something went wrong in Tenantry."""

    code: ClassVar[str] = "tenantry_error"
    status: ClassVar[int] = 500
    sqlstate: ClassVar[str | None] = None
    title: ClassVar[str] = "Something went wrong in Tenantry."
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str | None = None, *, detail: str | None = None, hint: str | None = None) -> None:
        self.message = message or self.title
        self.detail = detail
        self.hint = hint or self.default_hint
        super().__init__(self.message)

    def __str__(self) -> str:
        """The sentence, then what happened, then what to do: one per line."""
        return "\n".join(part for part in (self.message, self.detail, self.hint) if part)


class ConfigurationError(TenantryError):
    code = "configuration"
    title = "A setting is missing or contradicts another."


class DatabaseUnavailable(TenantryError):
    code = "database_unavailable"
    status = 503
    title = "The database did not answer."


class CallRefused(TenantryError):
    code = "database_refused"
    status = 503
    title = "The database could not run this call."


class ClerkUnavailable(TenantryError):
    code = "clerk_unavailable"
    status = 503
    title = "Clerk did not answer."


class ClerkRefused(TenantryError):
    code = "clerk_refused"
    status = 503
    title = "Clerk refused the request."


class ReconcileUnderWay(TenantryError):
    code = "reconcile_under_way"
    sqlstate = "TY021"
    status = 503
    title = "A reconcile run is under way already."
    default_hint = "Wait for it to end."


class PurgeUnfinished(TenantryError):
    code = "purge_unfinished"
    title = "Rows of a purged tenant are left."
    default_hint = "Run it again."


class HandlerTooSlow(TenantryError):
    code = "handler_too_slow"
    title = "The handler took longer than it may."
    default_hint = (
        "on(..., timeout=…) gives it longer; what takes long is better done by a job that the handler writes."
    )


class SchemaError(TenantryError):
    code = "schema"
    title = "The database's tenantry schema and this release do not fit."


class AdoptionRefused(TenantryError):
    code = "adoption_refused"
    title = "The app's tables cannot be moved to tenants as they are."


class IsolationError(TenantryError):
    code = "isolation"
    title = "The database was used in a way that tenant isolation refuses."


class NoTenant(IsolationError):
    code = "no_tenant"
    sqlstate = "TY001"
    title = "No tenant is set for this transaction."


class TenantAlreadySet(IsolationError):
    code = "tenant_already_set"
    sqlstate = "TY002"
    title = "This transaction already has a tenant or the bypass."


class Leftovers(IsolationError):
    code = "leftovers"
    sqlstate = "TY003"
    title = "This connection still holds what an earlier tenant left on it."


TAINTED = (TenantAlreadySet, Leftovers)
"""Where a transaction begins with one of these, its connection would refuse every later tenant too: a new one then."""


class NoOrganizationId(IsolationError):
    code = "no_organization_id"
    sqlstate = "TY040"
    title = "This tenant is a personal account and has no organization id."


class UnknownTenant(IsolationError):
    code = "unknown_tenant"
    sqlstate = "TY020"
    title = "No tenant has this id."


class TableNotIsolable(IsolationError):
    code = "table_not_isolable"
    sqlstate = "TY030"
    title = "This table cannot be isolated or shared as asked."


class InvalidArgument(TenantryError):
    code = "invalid_argument"
    sqlstate = "TY010"
    title = "A database function got an argument it cannot read."


class NotProvisioned(TenantryError):
    code = "not_provisioned"
    sqlstate = "TY011"
    title = "The mirror has not seen this organization or user yet."


class AuthenticationFailed(TenantryError):
    code = "unauthenticated"
    status = 401
    title = "Sign in to continue."


class MissingToken(AuthenticationFailed):
    code = "missing_token"
    title = "The request carries no session token."


class InvalidToken(AuthenticationFailed):
    code = "invalid_token"
    title = "The session token is not valid."


class TokenExpired(AuthenticationFailed):
    code = "token_expired"
    sqlstate = "TY019"
    title = "The session token has expired."


class SessionPending(AuthenticationFailed):
    code = "session_pending"
    title = "The session has tasks to finish before it may be used."


class WrongTokenKind(AuthenticationFailed):
    code = "wrong_token_kind"
    title = "This is a token of another kind, not a session token."


class SessionEnded(AuthenticationFailed):
    code = "session_ended"
    sqlstate = "TY016"
    title = "This session has ended."


class AccessDenied(TenantryError):
    code = "access_denied"
    status = 403
    title = "You may not do this."


class NoOrganization(AccessDenied):
    code = "no_organization"
    sqlstate = "TY017"
    title = "The session has no active organization."


class NotAMember(AccessDenied):
    code = "not_a_member"
    sqlstate = "TY012"
    title = "You are not a member of this organization."


class OrganizationDeleted(AccessDenied):
    code = "organization_deleted"
    sqlstate = "TY013"
    title = "This organization has been deleted."


class UserDeleted(AccessDenied):
    code = "user_deleted"
    sqlstate = "TY014"
    title = "This user has been deleted."


class UserBanned(AccessDenied):
    code = "user_banned"
    sqlstate = "TY015"
    title = "This user is banned."


class WrongInstance(AccessDenied):
    code = "wrong_instance"
    sqlstate = "TY018"
    title = "The session belongs to another Clerk instance than this database."


class UntrustedOrigin(AccessDenied):
    code = "untrusted_origin"
    title = "This request comes from a page that is not the app's."
    default_hint = (
        "Send the session token as `Authorization: Bearer`, or add the page's origin to CLERK_AUTHORIZED_PARTIES."
    )


class PermissionDenied(AccessDenied):
    code = "permission_denied"
    title = "Your role in this organization does not permit this."


class JobRefused(TenantryError):
    code = "job_refused"
    status = 403
    title = "This job's envelope does not say for whom it may run."


class BadEnvelope(JobRefused):
    code = "bad_envelope"
    title = "The job's envelope is not one this app has sealed."
    default_hint = (
        "Whoever seals and whoever opens need the same TENANTRY_JOB_SECRET; while it is rotated, both know both."
    )


class EnvelopeExpired(JobRefused):
    code = "envelope_expired"
    title = "The job's envelope has expired."
    default_hint = "Enqueue the job again, or seal with a longer `ttl`."


class ConsumerTaken(TenantryError):
    code = "consumer_taken"
    status = 409
    title = "Another worker tells this consumer of its changes."


class OrganizationMismatch(TenantryError):
    code = "organization_mismatch"
    status = 409
    title = "The active organization is not the one this request expects."


class WebhookError(TenantryError):
    code = "webhook"
    status = 400
    title = "The webhook delivery was not recorded."


class BadSignature(WebhookError):
    code = "bad_signature"
    title = "The webhook delivery could not be verified."


class DeliveryRefused(WebhookError):
    code = "delivery_refused"
    title = "The webhook delivery is another instance's, or repeats a known id with other content."


class PayloadTooLarge(WebhookError):
    code = "payload_too_large"
    status = 413
    title = "The webhook delivery is larger than accepted."


class WebhookNotConfigured(WebhookError):
    code = "webhook_not_configured"
    status = 503
    title = "No webhook signing secret is configured."


def _subclasses(cls: type[TenantryError]) -> list[type[TenantryError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _subclasses(child))]


_BY_SQLSTATE = {cls.sqlstate: cls for cls in _subclasses(TenantryError) if cls.sqlstate}


def from_sqlstate(
    sqlstate: str | None, message: str, *, detail: str | None = None, hint: str | None = None
) -> TenantryError | None:
    """The error a database function raised, or None when the code is not one of ours."""
    cls = _BY_SQLSTATE.get(sqlstate or "")
    return cls(message, detail=detail, hint=hint) if cls else None
