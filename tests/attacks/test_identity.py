"""Who is asking, and in which organization: scenarios 61 to 78.

Where a check refuses a request, the check is taken out, and the same request reads `alpha`.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from fastapi import Depends, HTTPException
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from starlette.requests import HTTPConnection

from attacks.defences import rewrite_sql
from attacks.two_organizations import MEMBERS, build, code_of, fill, member, written
from databases import SUPERUSER, Database, Server
from instance import Socket, World, fresh_database, joined, now_ms, removed, serving, signer, token
from signer import ISSUER, ORIGIN, Signer, claims_v2, encode
from sql.clerk_objects import INSTANCE, event, organization
from tenantry import clerk, starlette, tokens
from tenantry.clerk import Jwks
from tenantry.context import Scope, scope_of
from tenantry.errors import InvalidToken
from tenantry.fastapi import CurrentTenant, Tenantry, requires
from tenantry.identity import Identity, split_scopes
from tenantry.tokens import PresentedToken, Verifier

Patch = pytest.MonkeyPatch


@pytest.fixture
def database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    async with serving(database, build) as made:
        await fill(made)
        yield made


@pytest.fixture(scope="module")
def lasting_database(servers: Callable[[int], Server]) -> Iterator[Database]:
    with fresh_database(servers) as made:
        yield made


@pytest.fixture
async def read_world(lasting_database: Database) -> AsyncIterator[World]:
    """For tests that change nothing."""
    async with serving(lasting_database, build) as made:
        if not written(made):
            await fill(made)
        yield made


# --- 65 to 68 and 76: tokens that are not to be believed --------------------------------------------------------------

OTHER_ISSUER = "https://other-otter-34.clerk.accounts.dev"
FORGER = Signer(kid=INSTANCE)


def sign(header: dict[str, Any] | None = None, by: Signer | None = None, **changes: Any) -> str:
    """A token of org_1's member; changes to None remove."""
    org = {"id": "org_1", "slg": "slug-of-org_1", "rol": "member", "per": "read", "fpm": "1,1"}
    return (by or signer()).sign(claims_v2(**{"o": org, **changes}), **(header or {}))


def resign(header: dict[str, Any], mac: Callable[[bytes], bytes]) -> str:
    """A token whose last part is no RSA signature."""
    signed = sign(header, by=FORGER).rpartition(".")[0]
    return f"{signed}.{encode(mac(signed.encode()))}"


class ObligingKey:
    """Verifies as a token's own header asks, which is what careless JWT libraries did."""

    def verify(self, signature: bytes, signed: bytes, *_: object) -> None:
        header = read_segment(signed.partition(b".")[0])
        if header["alg"] == "none":
            return
        if header["alg"] == "HS256":
            if not hmac.compare_digest(hmac.digest(signer().pem.encode(), signed, "sha256"), signature):
                raise InvalidSignature
            return
        key: Any = signer().key.public_key()
        if "jwk" in header:
            (key,) = clerk.read_jwks(json.dumps({"keys": [header["jwk"]]}).encode()).values()
        key.verify(signature, signed, padding.PKCS1v15(), SHA256())


def read_segment(segment: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tokens._decode_segment(segment))
    return found


def oblige(world: World, patch: Patch) -> None:
    """The header decides: which algorithm, which key, what kind of token."""
    patch.setattr(world.tenancy.verifier._keys, "_key", ObligingKey())
    patch.setattr(tokens, "_read_header", lambda segment: read_segment(segment).get("kid"))


def any_session(world: World, patch: Patch) -> None:
    patch.setattr(tokens, "_check_session", lambda claims: claims.setdefault("sid", None))


def any_kind(world: World, patch: Patch) -> None:
    oblige(world, patch)
    any_session(world, patch)


def any_party(world: World, patch: Patch) -> None:
    patch.setattr(Verifier, "_check_party", lambda self, claims: None)
    patch.setattr(Verifier, "_check_cookie", lambda self, identity: None)


def any_time(world: World, patch: Patch) -> None:
    patch.setattr(Verifier, "_check_times", lambda self, claims, now: (claims["iat"], claims["iat"] + 60))


def any_issuer(world: World, patch: Patch) -> None:
    patch.setattr(world.tenancy.verifier, "_issuers", frozenset({ISSUER, OTHER_ISSUER}))


@dataclass(frozen=True)
class Attempt:
    """A token that must be refused, with which code, and how to take out what refuses it."""

    scenario: int
    make: Callable[[], str]
    code: str
    remove: Callable[[World, Patch], None]
    cookie: bool = False

    @property
    def headers(self) -> dict[str, str]:
        made = self.make()
        return {"Cookie": f"__session={made}", "Origin": ORIGIN} if self.cookie else {"Authorization": f"Bearer {made}"}


# What a JWT template may say: anything but a session.
CUSTOM: dict[str, Any] = {"v": None, "o": None, "sid": None, "org_id": "org_1", "org_role": "org:member"}
MACHINE: dict[str, Any] = {"sub": "mch_1", "sid": None}
PUBLIC_KEY = signer().pem.encode
ATTEMPTS = {
    "pending session": Attempt(65, lambda: sign(sts="pending"), "session_pending", any_session),
    "token that never expires": Attempt(66, lambda: sign(exp=None), "invalid_token", any_time),
    "another issuer's token": Attempt(66, lambda: sign(iss=OTHER_ISSUER), "invalid_token", any_issuer),
    "token for a foreign page": Attempt(66, lambda: sign(azp="https://evil.example"), "invalid_token", any_party),
    "cookie that names no page": Attempt(66, lambda: sign(azp=None), "invalid_token", any_party, cookie=True),
    "template's token": Attempt(67, lambda: sign({"cat": "cl_B7d4PD222AAA"}, **CUSTOM), "wrong_token_kind", any_kind),
    "template's token without category": Attempt(
        67, lambda: sign({"cat": None}, **CUSTOM), "wrong_token_kind", any_session
    ),
    "token without algorithm": Attempt(68, lambda: resign({"alg": "none"}, lambda _: b"none"), "invalid_token", oblige),
    "token signed with the public key": Attempt(
        68,
        lambda: resign({"alg": "HS256"}, lambda signed: hmac.digest(PUBLIC_KEY(), signed, "sha256")),
        "invalid_token",
        oblige,
    ),
    "token that brings its own key": Attempt(68, lambda: sign({"jwk": FORGER.jwk}, by=FORGER), "invalid_token", oblige),
    "token with an extension to be understood": Attempt(68, lambda: sign({"crit": ["b64"]}), "invalid_token", oblige),
    "token with a huge key id": Attempt(68, lambda: sign({"kid": "k" * 5000}), "invalid_token", oblige),
    "machine's token": Attempt(76, lambda: sign(**MACHINE), "wrong_token_kind", any_session),
    "machine's token of its category": Attempt(
        76, lambda: sign({"cat": "cl_B7d4PD333AAA"}, **MACHINE), "wrong_token_kind", any_kind
    ),
    "OAuth access token": Attempt(76, lambda: sign({"typ": "at+jwt"}), "wrong_token_kind", oblige),
}


def marked(mark: Callable[[int], pytest.MarkDecorator]) -> list[Any]:
    return [pytest.param(attempt, id=name, marks=mark(attempt.scenario)) for name, attempt in ATTEMPTS.items()]


@pytest.mark.parametrize("attempt", marked(pytest.mark.attack))
async def test_a_token_that_is_not_to_be_believed_reads_nothing(read_world: World, attempt: Attempt) -> None:
    for path in ("/documents", "/tenant", "/orgs/org_1/documents"):
        assert code_of(await read_world.client.get(path, headers=attempt.headers)) == (401, attempt.code)
    refusal = await Socket(read_world.app, "/socket", attempt.headers).next()
    assert refusal == {"type": "websocket.close", "code": 1008, "reason": attempt.code}


@pytest.mark.parametrize("attempt", marked(pytest.mark.breach))
async def test_without_its_check_the_token_reads(read_world: World, attempt: Attempt, monkeypatch: Patch) -> None:
    headers = attempt.headers
    assert (await read_world.client.get("/documents", headers=headers)).status_code == 401
    attempt.remove(read_world, monkeypatch)
    assert (await read_world.client.get("/documents", headers=headers)).json() == ["alpha"]


# --- 61: what chooses the organization --------------------------------------------------------------------------------

LURES: dict[str, dict[str, Any]] = {
    "header": {"headers": {"X-Org-Id": "org_1", "X-Tenant-Id": "org_1", "Clerk-Organization-Id": "org_1"}},
    "query": {"params": {"org_id": "org_1", "org": "org_1", "tenant": "org_1", "organization_id": "org_1"}},
    "JSON body": {"json": {"org_id": "org_1", "o": {"id": "org_1"}}},
    "form": {"data": {"org_id": "org_1", "tenant_id": "org_1"}},
    "subdomain": {"headers": {"Host": "org_1.app.test", "X-Forwarded-Host": "org_1.app.test"}},
    "cookie": {"headers": {"Cookie": "org_id=org_1; clerk_active_context=sess_1:org_1"}},
}


@pytest.mark.attack(61)
@pytest.mark.parametrize("lure", LURES.values(), ids=LURES.keys())
async def test_nothing_a_client_says_beside_its_token_chooses_the_organization(
    read_world: World, lure: dict[str, Any]
) -> None:
    options = {**lure, "headers": member("org_2") | lure.get("headers", {})}
    assert (await read_world.client.request("GET", "/documents", **options)).json() == ["bravo"]


@pytest.mark.breach(61)
async def test_an_organization_read_from_a_header_shows_whatever_it_names(
    read_world: World, monkeypatch: Patch
) -> None:
    verify = Tenantry._verify

    async def verify_and_obey(self: Tenantry, connection: HTTPConnection) -> Identity:
        return replace(await verify(self, connection), org_id=connection.headers["x-org-id"])

    monkeypatch.setattr(starlette.Tenantry, "_verify", verify_and_obey)
    headers = member("org_2") | {"X-Org-Id": "org_1"}
    assert (await read_world.client.get("/documents", headers=headers)).json() == ["alpha"]


# --- 62 and 63: another organization than the page's ------------------------------------------------------------------


def ask_nothing(patch: Patch) -> None:
    """Takes out the comparison of what a client expects with the token."""
    patch.setattr(starlette, "_find_mismatch", lambda connection, identity: None)


@pytest.mark.attack(62)
@pytest.mark.parametrize("org", ["org_2", "slug-of-org_2", "ORG_1", "org_1/shared-with/orgs/org_2"])
async def test_an_organizations_page_never_shows_another_organizations_rows(read_world: World, org: str) -> None:
    answer = await read_world.client.get(f"/orgs/{org}/documents", headers=member("org_1"))
    assert code_of(answer) == (409, "organization_mismatch")
    assert "alpha" not in answer.text


@pytest.mark.breach(62)
async def test_without_the_comparison_a_page_shows_the_tokens_organization(
    read_world: World, monkeypatch: Patch
) -> None:
    ask_nothing(monkeypatch)
    assert (await read_world.client.get("/orgs/org_2/documents", headers=member("org_1"))).json() == ["alpha"]


# A form of org_1's page, sent after another tab has made org_2 the browser's active organization.
FLIPPED = {"Origin": ORIGIN, "Tenantry-Expected-Org": "org_1"}


def flipped() -> dict[str, str]:
    return FLIPPED | {"Cookie": f"__session={token('user_1', 'org_2')}"}


@pytest.mark.attack(63)
@pytest.mark.parametrize("path", ["/documents", "/orgs/org_1/documents"])
async def test_what_was_written_on_one_organizations_page_does_not_go_to_another(world: World, path: str) -> None:
    answer = await world.client.post(path, headers=flipped(), content="alpha's secret")
    assert code_of(answer) == (409, "organization_mismatch")
    assert written(world) == {"org_1": ["alpha"], "org_2": ["bravo"]}


@pytest.mark.breach(63)
async def test_without_the_comparison_it_goes_to_the_other_organization(world: World, monkeypatch: Patch) -> None:
    ask_nothing(monkeypatch)
    await world.client.post("/documents", headers=flipped(), content="alpha's secret")
    assert written(world)["org_2"] == ["bravo", "alpha's secret"]


# --- 64: slugs --------------------------------------------------------------------------------------------------------


async def reuse_slug(world: World) -> dict[str, str]:
    """org_1 was `acme`, as far as the mirror knows still is, and now org_2 is; answers a request of org_2's member."""
    at = now_ms() - 60_000
    for number, org_id in enumerate(("org_1", "org_2")):
        shown = organization(org_id, at=at + number, created_at=at, slug="acme")
        await world.deliver(event("organization.updated", shown, at=at + number))
    org = {"id": "org_2", "slg": "acme", "rol": "member", "per": "read", "fpm": "1,1"}
    return {"Authorization": f"Bearer {token('user_2', 'org_2', o=org)}"}


@pytest.mark.attack(64)
async def test_an_organization_that_took_anothers_slug_does_not_see_its_rows(world: World) -> None:
    headers = await reuse_slug(world)
    for path in ("/documents", "/orgs/acme/documents", "/orgs/org_2/documents"):
        assert (await world.client.get(path, headers=headers)).json() == ["bravo"]


@pytest.mark.breach(64)
async def test_an_organization_found_by_its_slug_may_be_another(world: World) -> None:
    headers = await reuse_slug(world)
    by_slug = "where slug = identity ->> 'org_slug' order by clerk_org_id limit 1"
    with world.database.connect(SUPERUSER) as superuser:
        rewrite_sql(superuser, "resolve_identity", "where clerk_org_id = claimed_org", by_slug)
    assert (await world.client.get("/documents", headers=headers)).json() == ["alpha"]


# --- 69 and 70: keys --------------------------------------------------------------------------------------------------

OURS, THEIRS = Signer(kid="ins_same"), Signer(kid="ins_same")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Addresses:
    """Clerk's key addresses, and how often they were asked."""

    def __init__(self, patch: Patch, **keys: list[Signer]) -> None:
        self.keys = keys
        self.asked = 0
        patch.setattr(clerk, "fetch_keys", self.fetch)

    async def fetch(self, url: str, secret_key: str | None = None) -> dict[str, RSAPublicKey]:
        self.asked += 1
        return {signer.kid: signer.key.public_key() for signer in self.keys[url]}


def verifier(keys: Jwks) -> Verifier:
    return Verifier(keys, issuers=[ISSUER], authorized_parties=[ORIGIN])


@pytest.mark.attack(69)
async def test_a_key_of_another_instance_does_not_serve_under_the_same_id(monkeypatch: Patch) -> None:
    Addresses(monkeypatch, ours=[OURS], theirs=[THEIRS])
    ours, theirs = Jwks("ours"), Jwks("theirs")
    await theirs.find("ins_same")
    with pytest.raises(InvalidToken, match="not signed"):
        await verifier(ours).verify(THEIRS.sign())
    assert (await verifier(ours).verify(OURS.sign())).org_id == "org_1"


@pytest.mark.breach(69)
async def test_keys_kept_for_all_instances_by_their_id_serve_for_another(monkeypatch: Patch) -> None:
    Addresses(monkeypatch, ours=[OURS], theirs=[THEIRS])
    ours, theirs = Jwks("ours"), Jwks("theirs")
    await theirs.find("ins_same")
    ours._keys = theirs._keys
    assert (await verifier(ours).verify(THEIRS.sign())).org_id == "org_1"


@pytest.mark.parametrize(
    ("pause", "fetches"),
    [
        pytest.param(30, 2, marks=pytest.mark.attack(69), id="with the pause between fetches"),
        pytest.param(0, 101, marks=pytest.mark.breach(69), id="without it"),
    ],
)
async def test_a_flood_of_unknown_key_ids_asks_clerk_once(monkeypatch: Patch, pause: int, fetches: int) -> None:
    monkeypatch.setattr(clerk, "_UNKNOWN_KID_SECONDS", pause)
    addresses, clock = Addresses(monkeypatch, ours=[OURS]), Clock()
    keys = Jwks("ours", clock=clock)
    await keys.find("ins_same")
    clock.now += 31
    for number in range(100):
        with pytest.raises(InvalidToken):
            await keys.find(f"ins_random_{number}")
    assert addresses.asked == fetches


async def withdraw(patch: Patch) -> tuple[Verifier, str]:
    """A verifier that knew a key which Clerk has withdrawn since, and a token of that key."""
    addresses, clock = Addresses(patch, ours=[OURS]), Clock()
    keys = Jwks("ours", clock=clock)
    judge, valid = verifier(keys), OURS.sign()
    await judge.verify(valid)
    addresses.keys = {"ours": [replacement := Signer(kid="ins_new")]}
    clock.now += 31
    await judge.verify(replacement.sign())  # nobody waits for the new key
    return judge, valid


@pytest.mark.attack(70)
async def test_a_withdrawn_keys_tokens_are_not_believed_although_they_were(monkeypatch: Patch) -> None:
    judge, valid = await withdraw(monkeypatch)
    with pytest.raises(InvalidToken, match="ins_same"):
        await judge.verify(valid)


@pytest.mark.breach(70)
async def test_a_memory_of_tokens_that_no_withdrawal_empties_believes_them(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Jwks, "revision", property(lambda keys: 0, lambda keys, value: None), raising=False)
    judge, valid = await withdraw(monkeypatch)
    assert (await judge.verify(valid)).org_id == "org_1"


# --- 71: cookies ------------------------------------------------------------------------------------------------------


def tossed(name: str) -> dict[str, str]:
    """A browser of org_1's member, in which a page on a sister domain planted another's session, to be sent first."""
    planted, own = token("user_2", "org_2"), token("user_1", "org_1")
    return {"Cookie": f"{name}={planted}; __session={own}", "Origin": ORIGIN}


@pytest.mark.attack(71)
@pytest.mark.parametrize(("name", "status"), [("__session_planted", 200), ("__session", 401)])
async def test_what_a_victim_writes_does_not_go_to_whoever_planted_a_cookie(
    world: World, name: str, status: int
) -> None:
    answer = await world.client.post("/documents", headers=tossed(name), content="alpha's secret")
    assert answer.status_code == status
    assert written(world)["org_2"] == ["bravo"]


@pytest.mark.breach(71)
@pytest.mark.parametrize("name", ["__session_planted", "__session"])
async def test_by_the_first_cookie_whose_name_begins_so_it_does(world: World, monkeypatch: Patch, name: str) -> None:
    def first_session(headers: Any, suffix: str | None) -> PresentedToken:
        (cookies,) = (value.decode() for name, value in headers if name == b"cookie")
        found = next(pair for pair in cookies.split("; ") if pair.startswith("__session"))
        return PresentedToken(found.partition("=")[2], from_cookie=True)

    monkeypatch.setattr(starlette, "token_from_headers", first_session)
    await world.client.post("/documents", headers=tossed(name), content="alpha's secret")
    assert written(world)["org_2"] == ["bravo", "alpha's secret"]


# --- 72 and 73: the token and the mirror ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        pytest.param("mirror", (403, "not_a_member"), marks=pytest.mark.attack(72)),
        pytest.param("token", ["alpha"], marks=pytest.mark.breach(72)),
    ],
)
async def test_a_removed_members_token_reads_nothing_although_it_is_valid(
    database: Database, source: Any, answer: Any
) -> None:
    async with serving(database, build, membership_source=source) as world:
        await fill(world)
        valid = member("org_1")
        await world.deliver(joined(), removed())
        told = await world.client.get("/documents", headers=valid)
        assert (told.json() if isinstance(answer, list) else code_of(told)) == answer


@pytest.mark.parametrize(
    ("source", "role"),
    [
        pytest.param("mirror", "org:member", marks=pytest.mark.attack(72)),
        pytest.param("token", "org:admin", marks=pytest.mark.breach(72)),
    ],
)
async def test_a_demoted_members_token_is_an_admins_no_more(database: Database, source: Any, role: str) -> None:
    async with serving(database, build, membership_source=source) as world:
        valid = member("org_1", role="admin")
        assert (await world.client.get("/tenant", headers=valid)).json()["role"] == "org:admin"
        await world.deliver(joined(role="org:member", at=now_ms()))
        assert (await world.client.get("/tenant", headers=valid)).json()["role"] == role


NEWCOMER = ("user_3", "org_3")


@pytest.mark.attack(73)
async def test_a_member_of_an_organization_the_mirror_has_not_seen_is_not_kept_out(world: World) -> None:
    headers = {"Authorization": f"Bearer {token(*NEWCOMER)}"}
    assert (await world.client.get("/documents", headers=headers)).json() == []
    await world.deliver(joined(*NEWCOMER), removed(*NEWCOMER))
    assert code_of(await world.client.get("/documents", headers=headers)) == (403, "not_a_member")


@pytest.mark.breach(73)
async def test_without_provisioning_a_newcomer_is_kept_out(world: World, monkeypatch: Patch) -> None:
    def unprovided(*args: Any, **options: Any) -> Scope:
        return replace(scope_of(*args, **options), provision=None)

    monkeypatch.setattr(starlette, "scope_of", unprovided)
    headers = {"Authorization": f"Bearer {token(*NEWCOMER)}"}
    assert code_of(await world.client.get("/documents", headers=headers)) == (500, "not_provisioned")


# --- 74: impersonation ------------------------------------------------------------------------------------------------


def add_dangerous_act(world: World) -> None:
    """A route that refuses whoever acts as somebody else, and notes both."""

    def refuse_impersonation(tenant: CurrentTenant) -> None:
        actor = tenant.identity.actor if tenant.identity else None
        logging.getLogger("app").warning("%s as %s", (actor or {}).get("sub", "nobody else"), tenant.user_id)
        if actor is not None:
            raise HTTPException(403)

    @world.app.get("/secrets", dependencies=[Depends(refuse_impersonation)])
    async def secrets() -> str:
        return "alpha's secret"


IMPERSONATED = {"act": {"sub": "user_support", "iss": "https://dashboard.clerk.com", "sid": "sess_support"}}


@pytest.mark.attack(74)
async def test_whoever_acts_as_a_user_is_not_taken_for_the_user(
    read_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    add_dangerous_act(read_world)
    for _ in range(2):  # the second from memory
        answer = await read_world.client.get("/secrets", headers=member("org_1", jti=None, **IMPERSONATED))
        assert (answer.status_code, caplog.messages.pop()) == (403, "user_support as user_1")
    assert (await read_world.client.get("/secrets", headers=member("org_1"))).status_code == 200


@pytest.mark.breach(74)
async def test_without_the_actor_whoever_acts_as_a_user_is_the_user(
    read_world: World, monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Identity, "actor", None)
    add_dangerous_act(read_world)
    answer = await read_world.client.get("/secrets", headers=member("org_1", **IMPERSONATED))
    assert (answer.json(), caplog.messages.pop()) == ("alpha's secret", "nobody else as user_1")


# --- 75: roles and permissions ----------------------------------------------------------------------------------------

# A feature of the user's own before one of the organization's. By Clerk's JavaScript the first mask is the
# organization's first feature's, by its documentation the first feature's.
AMBIGUOUS = {
    "fea": "u:themes,o:billing",
    "o": {"id": "org_1", "slg": "slug-of-org_1", "rol": "member", "per": "manage", "fpm": "1,0"},
}


def add_billing(world: World) -> None:
    @world.app.get("/billing", dependencies=[requires(permission="org:billing:manage")])
    async def billing() -> str:
        return "alpha's bills"


@pytest.mark.attack(75)
async def test_permissions_that_can_be_read_in_two_ways_grant_what_both_grant(read_world: World) -> None:
    add_billing(read_world)
    answer = await read_world.client.get("/billing", headers=member("org_1", **AMBIGUOUS))
    assert code_of(answer) == (403, "permission_denied")


@pytest.mark.breach(75)
async def test_read_in_one_of_the_two_ways_they_grant_more(read_world: World, monkeypatch: Patch) -> None:
    def read_as_javascript_does(fea: str, per: str, fpm: str) -> tuple[frozenset[str], frozenset[str]]:
        features = [name for scope, name in split_scopes(fea) if scope != "u"]
        masks = map(int, fpm.split(","))
        return frozenset(features), tokens._grant(zip(features, masks, strict=False), per.split(","))

    monkeypatch.setattr(tokens, "_decode_grants", read_as_javascript_does)
    add_billing(read_world)
    answer = await read_world.client.get("/billing", headers=member("org_1", **AMBIGUOUS))
    assert answer.json() == "alpha's bills"


@pytest.mark.attack(75)
@pytest.mark.parametrize("role", ["admin", "org:admin"])
@pytest.mark.parametrize("asked", ["admin", "org:admin"])
async def test_a_role_is_the_same_in_each_of_its_spellings(read_world: World, role: str, asked: str) -> None:
    @read_world.app.get("/admins", dependencies=[requires(role=asked)])
    async def admins() -> str:
        return "alpha's secret"

    assert (await read_world.client.get("/admins", headers=member("org_1", role=role))).status_code == 200
    for other in ("member", "org:org:admins", "Admin", "adminx", "org:"):
        answer = await read_world.client.get("/admins", headers=member("org_1", role=other))
        assert code_of(answer) == (403, "permission_denied")


# --- 77: no organization ----------------------------------------------------------------------------------------------


def add_unscoped(world: World) -> Any:
    """A route whose session knows no tenant; answers its engine."""
    engine = create_async_engine(world.database.url(driver="asyncpg"), pool_size=1, max_overflow=0)
    sessions = async_sessionmaker(engine)

    @world.app.get("/forgotten")
    async def forgotten() -> list[str]:
        async with sessions() as session:
            return list(await session.scalars(text("select title from documents order by id")))

    return engine


@pytest.mark.attack(77)
async def test_a_token_without_an_organization_reads_nothing(world: World) -> None:
    headers = member("org_1") | {"Authorization": f"Bearer {token('user_1', None)}"}
    assert code_of(await world.client.get("/documents", headers=headers)) == (403, "no_organization")
    engine = add_unscoped(world)
    with pytest.raises(DBAPIError, match="No tenant is set"):
        await world.client.get("/forgotten", headers=headers)
    await engine.dispose()


@pytest.mark.breach(77)
async def test_where_no_policy_holds_it_reads_everybodys_rows(world: World) -> None:
    world.rows("alter table documents disable row level security")
    engine = add_unscoped(world)
    headers = {"Authorization": f"Bearer {token('user_1', None)}"}
    assert (await world.client.get("/forgotten", headers=headers)).json() == ["alpha", "bravo"]
    await engine.dispose()


# --- 78: another site's form ------------------------------------------------------------------------------------------


def posted_elsewhere() -> dict[str, str]:
    """What a browser sends with the form of a page that is not the app's."""
    return {"Cookie": f"__session={token(MEMBERS['org_1'], 'org_1')}", "Origin": "https://evil.example"}


@pytest.mark.attack(78)
async def test_a_form_on_another_site_writes_nothing(world: World) -> None:
    answer = await world.client.post("/documents", headers=posted_elsewhere(), content="evil")
    assert code_of(answer) == (403, "untrusted_origin")
    assert written(world)["org_1"] == ["alpha"]


@pytest.mark.breach(78)
async def test_without_the_check_of_its_origin_it_writes(world: World, monkeypatch: Patch) -> None:
    monkeypatch.setattr(starlette.Tenantry, "_check_origin", lambda tenancy, connection: None)
    await world.client.post("/documents", headers=posted_elsewhere(), content="evil")
    assert written(world)["org_1"] == ["alpha", "evil"]
