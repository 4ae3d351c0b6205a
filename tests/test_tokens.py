"""Session tokens: what is accepted, what is refused and how, `has()` against Clerk's own answers, the cache."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given
from hypothesis import strategies as st

from signer import ISSUER, ORIGIN, Signer, claims_v1, claims_v2, encode
from tenantry.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InvalidToken,
    SessionPending,
    TokenExpired,
    WrongTokenKind,
)
from tenantry.identity import Identity
from tenantry.settings import Settings
from tenantry.tokens import FixedKey, PresentedToken, Verifier, token_from_headers

NOW = 1_760_000_000
SIGNER = Signer()
KEYS = FixedKey(SIGNER.pem)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "has.json").read_text())["sessions"]


class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def verifier(**options: Any) -> Verifier:
    defaults: dict[str, Any] = {"issuers": [ISSUER], "authorized_parties": [ORIGIN], "clock": Clock()}
    return Verifier(options.pop("keys", KEYS), **(defaults | options))


def read(token: str, *, now: float = NOW, **options: Any) -> Identity:
    return verifier(**options).verify_with(SIGNER.key.public_key(), token, now=now)


def identify(**changes: Any) -> Identity:
    return read(SIGNER.sign(claims_v2(NOW, **changes)))


# --- what a token says ------------------------------------------------------------------------------------------------


def test_a_version_2_token_gives_its_identity() -> None:
    assert identify(tid="custom", act={"sub": "user_support"}) == Identity(
        user_id="user_1",
        issued_at=NOW,
        expires_at=NOW + 60,
        org_id="org_1",
        org_slug="acme",
        role="org:admin",
        permissions=frozenset({"org:dashboard:manage", "org:dashboard:read", "org:teams:read"}),
        features=frozenset({"dashboard", "teams"}),
        session_id="sess_1",
        instance_id="ins_1",
    )


@pytest.mark.attack(74)
def test_what_is_seldom_asked_is_read_from_the_claims() -> None:
    identity = identify(tid="custom", act={"sub": "user_support"})
    assert identity.claims["tid"] == "custom"
    assert (identity.issuer, identity.authorized_party) == (ISSUER, ORIGIN)
    assert identity.actor == {"sub": "user_support"}
    assert identity.factor_verification_age == (0, -1)
    with pytest.raises(TypeError):
        identity.claims["tid"] = "other"  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.org_id = "org_2"  # type: ignore[misc]


def test_a_version_1_token_gives_its_identity() -> None:
    identity = read(SIGNER.sign(claims_v1(NOW, org_role="admin", fea="o:dashboard")))
    assert (identity.org_id, identity.org_slug, identity.role) == ("org_1", "acme", "org:admin")
    assert identity.permissions == {"org:teams:read"}
    assert identity.features is None


@pytest.mark.attack(67)
def test_versions_are_never_mixed() -> None:
    identity = identify(o=None, org_id="org_9", org_role="org:admin", org_permissions=["org:teams:manage"])
    assert (identity.org_id, identity.role, identity.permissions) == (None, None, frozenset())
    identity = read(SIGNER.sign(claims_v1(NOW, org_id=None, o={"id": "org_9", "rol": "admin"})))
    assert (identity.org_id, identity.role) == (None, None)


def test_a_token_without_organization_has_none() -> None:
    identity = identify(o=None)
    assert (identity.org_id, identity.org_slug, identity.role) == (None, None, None)
    assert identity.features == frozenset({"dashboard", "teams"})


def test_an_instance_is_told_only_by_an_instance_key() -> None:
    token = SIGNER.sign(claims_v2(NOW), kid="key_1")
    assert read(token).instance_id is None
    assert read(SIGNER.sign(claims_v2(NOW), kid=None)).instance_id is None


def test_the_database_gets_the_identity_as_json() -> None:
    identity = identify(o={"id": "org_1", "slg": "zoë", "rol": "member", "per": "b,a", "fpm": "3"}, fea="o:t,u:x")
    assert json.loads(identity.to_json()) == {
        "user_id": "user_1",
        "org_id": "org_1",
        "org_slug": "zoë",
        "role": "org:member",
        "permissions": ["org:t:a", "org:t:b"],
        "features": ["t"],
        "session_id": "sess_1",
        "issued_at": NOW,
        "expires_at": NOW + 60,
        "instance_id": "ins_1",
    }
    assert identity.to_json() is identity.to_json()
    assert json.loads(dataclasses.replace(identity, role="org:admin").to_json())["role"] == "org:admin"


def test_an_identity_does_not_show_its_claims_when_printed() -> None:
    assert "hunter2" not in repr(identify(custom="hunter2"))


# --- has() as Clerk answers it ----------------------------------------------------------------------------------------


def vector_claims(session: dict[str, Any]) -> dict[str, Any]:
    return {**session["claims"], "iat": NOW, "nbf": NOW - 10, "exp": NOW + 60}


ordinary = [s for s in VECTORS if not s["refused"] and not s["name"].startswith("malformed")]
malformed = [s for s in VECTORS if s["name"].startswith("malformed")]
by_name: Callable[[dict[str, Any]], str] = lambda session: session["name"]  # noqa: E731


def test_the_vectors_are_many_and_say_both_yes_and_no() -> None:
    answers = [answer for session in ordinary for _, answer in session["cases"]]
    assert len(answers) > 2000
    assert answers.count(True) > 200
    assert sum(session.get("readings_differ", False) for session in ordinary) == 2


@pytest.mark.attack(75)
@pytest.mark.parametrize("session", ordinary, ids=by_name)
def test_has_answers_as_the_official_sdk_does(session: dict[str, Any]) -> None:
    identity = read(SIGNER.sign(vector_claims(session)))
    assert identity.role == (session["role"] and f"org:{session['role'].split('org:')[-1]}")
    differ = session.get("readings_differ", False)
    other_reading = session["by_element"] if differ else session["permissions"]
    assert identity.permissions == set(session["permissions"]) & set(other_reading)
    cases = [(query, answer) for query, answer in session["cases"] if not (differ and "permission" in query)]
    assert [(query, answer) for query, answer in cases if identity.has(**query) is not answer] == []


@pytest.mark.attack(75)
@pytest.mark.parametrize("session", malformed, ids=by_name)
def test_a_malformed_permission_claim_refuses_the_token(session: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken, match="malformed"):
        read(SIGNER.sign(vector_claims(session)))


def test_has_asks_nothing_says_no() -> None:
    assert not identify().has()


feature_name = st.sampled_from(["a", "b", "c", "d"])
elements = st.lists(st.tuples(st.sampled_from(["o", "u", "ou", "uo"]), feature_name), max_size=5)


@pytest.mark.attack(75)
@given(elements, st.lists(st.sampled_from(["r", "w", "x"]), max_size=3), st.lists(st.integers(0, 9), max_size=5))
def test_a_permission_is_granted_only_where_both_readings_grant_it(
    scoped: list[tuple[str, str]], actions: list[str], masks: list[int]
) -> None:
    fea, per, fpm = ",".join(map(":".join, scoped)), ",".join(actions), ",".join(map(str, masks))
    identity = identify(fea=fea, o={"id": "org_1", "rol": "admin", "per": per, "fpm": fpm})

    def grants(features: list[str | None]) -> set[str]:
        pairs = [(f, mask) for f, mask in zip(features, masks, strict=False) if f]
        return {f"org:{f}:{action}" for f, mask in pairs for bit, action in enumerate(actions) if mask & (1 << bit)}

    ours = [None if scope == "u" else name for scope, name in scoped]
    assert identity.permissions == grants([name for name in ours if name]) & grants(ours)


# --- what is refused --------------------------------------------------------------------------------------------------

huge = 10**400
refused_claims: list[tuple[dict[str, Any], type[AuthenticationFailed]]] = [
    ({"exp": None}, InvalidToken),
    ({"iat": None}, InvalidToken),
    ({"sub": None}, InvalidToken),
    ({"sub": ""}, InvalidToken),
    ({"sub": 5}, InvalidToken),
    ({"iss": None}, InvalidToken),
    ({"iss": "https://other.clerk.accounts.dev"}, InvalidToken),
    ({"iss": [ISSUER]}, InvalidToken),
    ({"iss": ISSUER + "/"}, InvalidToken),
    ({"azp": "https://evil.example"}, InvalidToken),
    ({"azp": [ORIGIN]}, InvalidToken),
    ({"exp": str(NOW + 60)}, InvalidToken),
    ({"exp": NOW + 60.5}, InvalidToken),
    ({"exp": True}, InvalidToken),
    ({"exp": huge}, InvalidToken),
    ({"exp": huge, "iat": huge - 60}, InvalidToken),
    ({"exp": -huge, "iat": -huge - 60}, InvalidToken),
    ({"exp": NOW, "iat": NOW}, InvalidToken),
    ({"exp": NOW - 60, "iat": NOW}, InvalidToken),
    ({"exp": NOW + 86_401}, InvalidToken),
    ({"iat": NOW + 6, "exp": NOW + 60}, InvalidToken),
    ({"nbf": NOW + 6}, InvalidToken),
    ({"nbf": huge}, InvalidToken),
    ({"nbf": "soon"}, InvalidToken),
    ({"exp": NOW - 5, "iat": NOW - 65}, TokenExpired),
    ({"sts": "pending"}, SessionPending),
    ({"sts": "expired"}, AuthenticationFailed),
    ({"sid": None}, WrongTokenKind),
    ({"sub": "mch_1"}, WrongTokenKind),
    ({"v": 3}, InvalidToken),
    ({"v": "2"}, InvalidToken),
    ({"v": True}, InvalidToken),
    ({"o": "org_1"}, InvalidToken),
    ({"o": {}}, InvalidToken),
    ({"o": {"id": 1}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": ["admin"]}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": 1}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": "-1"}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": "+1"}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": "1_0"}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": "\u0661"}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "per": "r", "fpm": "9" * 5000}}, InvalidToken),
    ({"o": {"id": "org_1", "rol": "admin", "fpm": "-1"}}, InvalidToken),
    ({"fea": "dashboard"}, InvalidToken),
    ({"fea": ["o:dashboard"]}, InvalidToken),
    ({"act": "user_support"}, InvalidToken),
    ({"sub": "user_\0"}, InvalidToken),
    ({"o": {"id": "org_1", "slg": "\ud800", "rol": "admin"}}, InvalidToken),
]


@pytest.mark.attack(65, 66, 67, 76)
@pytest.mark.parametrize(("changes", "error"), refused_claims)
def test_a_token_with_wrong_claims_is_refused(changes: dict[str, Any], error: type[AuthenticationFailed]) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        read(SIGNER.sign(claims_v2(NOW, **changes)))
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "changes",
    [
        {"azp": None},
        {"nbf": None},
        {"sts": None},
        {"exp": NOW - 4, "iat": NOW - 64},
        {"exp": NOW + 86_400},
        {"iat": NOW + 5},
        {"nbf": NOW + 5},
        {"act": None, "jti": None, "fva": None, "pla": None},
        {"custom": "\0 and \ud800", "fva": "nonsense"},
    ],
)
def test_a_token_with_less_usual_claims_is_accepted(changes: dict[str, Any]) -> None:
    assert identify(**changes).user_id == "user_1"


@pytest.mark.attack(67, 68, 76)
@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"alg": "RS384"}, InvalidToken),
        ({"alg": "PS256"}, InvalidToken),
        ({"alg": "rs256"}, InvalidToken),
        ({"alg": "none"}, InvalidToken),
        ({"alg": None}, InvalidToken),
        ({"alg": ["RS256"]}, InvalidToken),
        ({"typ": "JWE"}, InvalidToken),
        ({"typ": "at+jwt"}, WrongTokenKind),
        ({"typ": "application/at+jwt"}, WrongTokenKind),
        ({"cat": "cl_B7d4PD222AAA"}, WrongTokenKind),
        ({"cat": "cl_B7d4PD333AAA"}, WrongTokenKind),
        ({"cat": 5}, WrongTokenKind),
        ({"crit": ["b64"], "b64": False}, InvalidToken),
        ({"kid": 5}, InvalidToken),
        ({"kid": "k" * 256}, InvalidToken),
        ({"kid": "ins_\0"}, InvalidToken),
    ],
)
def test_a_token_with_a_wrong_header_is_refused(header: dict[str, Any], error: type[AuthenticationFailed]) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        read(SIGNER.sign(claims_v2(NOW), **header))
    assert type(caught.value) is error


@pytest.mark.attack(68)
def test_a_header_may_lack_what_old_tokens_lack_and_name_keys_that_nobody_follows() -> None:
    forger = Signer()
    assert read(SIGNER.sign(claims_v2(NOW), cat=None, typ=None, oiat=NOW, jku="https://evil.example/jwks")).user_id
    with pytest.raises(InvalidToken, match="not signed"):
        read(forger.sign(claims_v2(NOW), jwk=forger.jwk, jku="https://evil.example/jwks"))


@pytest.mark.attack(68)
def test_the_public_key_is_no_hmac_secret() -> None:
    signed = SIGNER.sign(claims_v2(NOW), alg="HS256").rpartition(".")[0]
    mac = hmac.new(SIGNER.pem.encode(), signed.encode(), hashlib.sha256).digest()
    with pytest.raises(InvalidToken):
        read(f"{signed}.{encode(mac)}")


@pytest.mark.attack(68)
def test_another_hash_or_padding_is_no_rs256_signature() -> None:
    signed = SIGNER.sign(claims_v2(NOW)).rpartition(".")[0]
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    for scheme, digest in ((padding.PKCS1v15(), hashes.SHA512()), (pss, hashes.SHA256())):
        with pytest.raises(InvalidToken, match="not signed"):
            read(f"{signed}.{encode(SIGNER.key.sign(signed.encode(), scheme, digest))}")


def test_a_header_seen_before_is_judged_with_each_signature_anew() -> None:
    warm = verifier()
    key = SIGNER.key.public_key()
    warm.verify_with(key, SIGNER.sign(claims_v2(NOW)), now=NOW)
    with pytest.raises(InvalidToken, match="not signed"):
        warm.verify_with(key, Signer().sign(claims_v2(NOW)), now=NOW)
    for i in range(200):
        warm.verify_with(key, SIGNER.sign(claims_v2(NOW), oiat=i), now=NOW)
    assert len(warm._headers) <= 64


@pytest.mark.parametrize(("length", "accepted"), [(11_000, True), (13_000, False)])
def test_a_token_beyond_sixteen_kilobytes_is_not_looked_at(length: int, accepted: bool) -> None:
    token = SIGNER.sign(claims_v2(NOW, custom="x" * length))
    if accepted:
        assert read(token).user_id == "user_1"
    else:
        with pytest.raises(InvalidToken, match="16384 are accepted"):
            read(token)


@pytest.mark.attack(76)
@pytest.mark.parametrize("token", ["ak_abc", "mt_a.b.c", "oat_abc"])
def test_an_opaque_token_is_of_another_kind(token: str) -> None:
    with pytest.raises(WrongTokenKind):
        read(token)


def respell(token: str) -> list[str]:
    """Other spellings of the same bytes, which a lax base64 decoder reads alike."""
    header, payload, signature = token.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature[-1]) + 1]
    return [
        f"{header}.{payload}.{signature}==",
        f"{header}.{payload}.{signature[:-1]}{last}",
        f"{header}.{payload}.{signature[:5]}\n{signature[5:]}",
        f"{header}.{payload}.{signature[:5]}!!!!{signature[5:]}",
        f"{header}.{payload}.{signature[:8]}===={signature[8:]}",
        f"{header}.{payload}.{signature.replace('-', '+').replace('_', '/')}",
        f" {token}",
        f"{token} ",
    ]


@pytest.mark.parametrize("spelling", range(8))
def test_a_token_has_one_spelling_only(spelling: int) -> None:
    signed = next(
        token for i in range(99) if {"-", "_"} & set((token := SIGNER.sign(claims_v2(NOW, jti=str(i)))).split(".")[2])
    )
    assert read(signed)
    with pytest.raises(InvalidToken):
        read(respell(signed)[spelling])


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "\ud800",
        "eyJ.eyJ.AAAA",
        "null",
        "undefined",
        "x" * 16_385,
    ]
    + [f"{encode(header)}.e30.AAAA" for header in (b"1", b"[]", b"{", b"\xff", b"[" * 10_000, b'{"alg":"RS256"')],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        read(token)


@pytest.mark.parametrize(
    "payload", ["", "1", "[]", "null", "{", "[" * 5000, '{"exp": ' + "1" * 5000 + "}", '{"a": "\x01"}']
)
def test_a_signed_payload_that_is_no_claim_set_is_refused(payload: str) -> None:
    with pytest.raises(InvalidToken):
        read(SIGNER.sign_text('{"alg": "RS256", "kid": "ins_1"}', payload))


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "rol", "slg", "per", "fpm"]), inner)
    ),
    max_leaves=5,
)
claim = st.sampled_from([*claims_v2(NOW), "act", "org_id", "org_role", "org_slug", "org_permissions"])


@given(st.dictionaries(claim, json_value, max_size=4), st.booleans())
def test_hostile_claims_are_an_identity_or_one_refusal(changes: dict[str, Any], old: bool) -> None:
    try:
        identity = read(SIGNER.sign((claims_v1 if old else claims_v2)(NOW) | changes))
    except AuthenticationFailed as error:
        assert error.status == 401
        return
    stored = identity.to_json().encode().decode()
    assert "\\u0000" not in stored
    assert identity.role is None or identity.role.startswith("org:")
    identity.has(role="a", permission="b", feature="c", plan="d", reverification="strict")
    assert not identity.has(permission="org:sys_memberships:manage") or old


@given(st.one_of(st.text(), st.text("abcXYZ019-_.=", max_size=60), st.binary().map(encode).map("{0}.{0}.{0}".format)))
def test_hostile_text_is_refused(token: str) -> None:
    with pytest.raises(AuthenticationFailed):
        read(token)


@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_.=+/ é"))
def test_one_changed_character_of_a_token_is_refused(index: int, character: str) -> None:
    token = SIGNER.sign(claims_v2(NOW))
    index %= len(token)
    if token[index] != character:
        with pytest.raises(AuthenticationFailed):
            read(f"{token[:index]}{character}{token[index + 1 :]}")


@given(
    st.none() | st.text() | st.integers() | st.lists(st.integers()),
    st.one_of(st.text(), st.integers(), st.dictionaries(st.sampled_from(["level", "afterMinutes"]), json_value)),
)
def test_has_never_raises(claim_value: Any, asked: Any) -> None:
    claims = {"fea": claim_value, "pla": claim_value, "fva": claim_value}
    identity = Identity(
        user_id="user_1", issued_at=NOW, expires_at=NOW + 60, org_id="org_1", role="org:x", claims=claims
    )
    for question in ("role", "permission", "feature", "plan", "reverification"):
        assert identity.has(**{question: asked}) in (True, False)


@pytest.mark.attack(60)
def test_an_error_never_shows_the_token() -> None:
    token = SIGNER.sign(claims_v2(NOW, iss="https://x.example"))
    forged = Signer().sign(claims_v2(NOW))
    for bad in (token, forged, token + ".x", token * 50):
        with pytest.raises(AuthenticationFailed) as caught:
            read(bad)
        assert bad[:40] not in str(caught.value)


# --- cookies ----------------------------------------------------------------------------------------------------------


@pytest.mark.attack(66)
@pytest.mark.parametrize(
    ("options", "azp", "bearer", "cookie"),
    [
        ({}, ORIGIN, True, True),
        ({}, None, True, False),
        ({"development": True}, None, True, False),
        ({"authorized_parties": []}, ORIGIN, True, False),
        ({"authorized_parties": [], "development": True}, ORIGIN, True, True),
        ({"authorized_parties": [], "development": True}, None, True, True),
        ({"authorized_parties": []}, "https://evil.example", True, False),
        ({"development": True}, "https://evil.example", False, False),
    ],
)
async def test_a_cookie_must_name_an_authorized_party(
    options: dict[str, Any], azp: str | None, bearer: bool, cookie: bool
) -> None:
    token = SIGNER.sign(claims_v2(NOW, azp=azp))
    judge = verifier(**options)
    for from_cookie, accepted in ((True, cookie), (False, bearer), (True, cookie)):  # the last from the cache
        if accepted:
            assert (await judge.verify(token, cookie=from_cookie)).user_id == "user_1"
        else:
            with pytest.raises(InvalidToken):
                await judge.verify(token, cookie=from_cookie)


# --- the cache --------------------------------------------------------------------------------------------------------


class CountingKeys:
    """Counts how often a token had to be verified."""

    def __init__(self) -> None:
        self.revision = 0
        self.asked = 0

    async def find(self, kid: str | None) -> RSAPublicKey:
        self.asked += 1
        return SIGNER.key.public_key()


async def test_a_verified_token_is_remembered_until_it_expires_and_no_longer() -> None:
    clock, keys = Clock(), CountingKeys()
    judge = verifier(clock=clock, keys=keys)
    token = SIGNER.sign(claims_v2(NOW))
    assert judge.verify_cached(token) is None
    first = await judge.verify(token)
    assert judge.verify_cached(token) is first
    clock.now = NOW + 59.9
    assert await judge.verify(token) is first
    assert keys.asked == 1
    clock.now = NOW + 60
    assert judge.verify_cached(token) is None
    assert await judge.verify(token) == first  # within the leeway it is verified each time
    assert await judge.verify(token) is not first
    assert keys.asked == 3
    clock.now = NOW + 65
    with pytest.raises(TokenExpired, match="expired 5 s ago"):
        await judge.verify(token)


async def test_a_refusal_is_not_remembered_as_anything() -> None:
    judge = verifier()
    forged = Signer().sign(claims_v2(NOW))
    for _ in range(2):
        assert judge.verify_cached(forged) is None
        with pytest.raises(InvalidToken):
            await judge.verify(forged)
    assert not judge._cache
    assert not judge._headers


async def test_the_cache_is_bounded_and_drops_the_oldest() -> None:
    judge = verifier(cache_size=3)
    tokens = [SIGNER.sign(claims_v2(NOW, sid=f"sess_{i}")) for i in range(5)]
    for token in tokens:
        await judge.verify(token)
    assert [judge.verify_cached(token) is not None for token in tokens] == [False, False, True, True, True]
    without = verifier(cache_size=0)
    await without.verify(tokens[0])
    assert without.verify_cached(tokens[0]) is None


async def test_no_token_is_kept_in_the_cache_itself() -> None:
    judge = verifier()
    token = SIGNER.sign(claims_v2(NOW))
    await judge.verify(token)
    signed, _, signature = token.rpartition(".")
    assert [(key, known) for key, (known, _) in judge._cache.items()] == [
        (hashlib.sha256(signature.encode()).digest(), signed)
    ]
    assert signature not in repr(vars(judge))


async def test_a_remembered_signature_admits_nothing_but_what_it_signed() -> None:
    judge = verifier()
    token = SIGNER.sign(claims_v2(NOW))
    await judge.verify(token)
    header, _, signature = token.split(".")
    _, payload, _ = SIGNER.sign(claims_v2(NOW, sub="user_other")).split(".")
    for forged in (f"{header}.{payload}.{signature}", f".{token}", f"{token}=", token.rpartition(".")[2]):
        assert judge.verify_cached(forged) is None
        with pytest.raises(InvalidToken):
            await judge.verify(forged)
    assert judge.verify_cached(token) is not None


async def test_a_withdrawn_key_empties_the_cache() -> None:
    keys = CountingKeys()
    judge = verifier(keys=keys)
    token = SIGNER.sign(claims_v2(NOW))
    await judge.verify(token)
    keys.revision += 1
    assert judge.verify_cached(token) is None


# --- keys and settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kid", ["ins_1", "ins_other", None])
async def test_a_pem_key_serves_whatever_key_id(kid: str | None) -> None:
    assert await FixedKey(SIGNER.pem).find(kid) == SIGNER.key.public_key()


@pytest.mark.parametrize("pem", ["", "nonsense", "é", Signer(bits=1024).pem, SIGNER.pem.replace("A", "B")])
def test_a_pem_text_that_is_no_strong_rsa_key_is_refused(pem: str) -> None:
    with pytest.raises(ConfigurationError, match="CLERK_JWT_KEY"):
        FixedKey(pem)


async def test_a_verifier_follows_the_settings() -> None:
    host = ISSUER.removeprefix("https://")
    settings = Settings.from_env(
        {
            "CLERK_PUBLISHABLE_KEY": f"pk_live_{base64.b64encode(f'{host}$'.encode()).decode()}",
            "CLERK_JWT_KEY": SIGNER.pem,
            "CLERK_AUTHORIZED_PARTIES": f"{ORIGIN}:443/",
            "TENANTRY_MAX_TOKEN_LIFE": "60",
        }
    )
    judge = Verifier.from_settings(settings, KEYS)
    assert (await judge.verify(SIGNER.sign(claims_v2()), cookie=True)).org_id == "org_1"
    issued = claims_v2()["iat"]
    with pytest.raises(InvalidToken, match="live 61 s"):
        await judge.verify(SIGNER.sign(claims_v2(exp=issued + 61, iat=issued)))


def test_without_an_issuer_there_is_no_verifier() -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        Verifier.from_settings(Settings(jwt_key=SIGNER.pem), KEYS)


# --- where the token stands in a request ------------------------------------------------------------------------------

JWT = "eyJa.eyJb.c"


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        (f"Bearer {JWT}", JWT),
        (f"bearer   {JWT} ", JWT),
        (f"BEARER {JWT}", JWT),
        (JWT, JWT),
        ("Bearer null", "null"),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
        ("Basic dXNlcjpwYXNz", None),
        (f"Basic {JWT}", None),
        ("abc", None),
    ],
)
def test_the_authorization_header_is_read(authorization: str, token: str | None) -> None:
    expected = None if token is None else PresentedToken(token, from_cookie=False)
    assert token_from_headers({"Authorization": authorization}) == expected
    assert token_from_headers([(b"authorization", authorization.encode())]) == expected
    with_cookie = token_from_headers({"authorization": authorization, "cookie": "__session=from.cookie.x"})
    assert with_cookie == (expected or PresentedToken("from.cookie.x", from_cookie=True))


@pytest.mark.parametrize(
    ("cookies", "token"),
    [
        (["__session=a"], "a"),
        (["__session_Own12345=b; __session=a"], "b"),
        (["__session=a; __session_Own12345=b"], "b"),
        (["__session=a", "x=1; __session_Own12345=b"], "b"),
        (["__session_Own12345=; __session=a"], "a"),
        (["__session_Other123=evil; __session=a"], "a"),
        (["__session_Other123=evil"], None),
        (["__sessionx=evil; x__session=evil; __SESSION=evil"], None),
        (["__session=a; __session=a"], "a"),
        (["__session=a; __session=second; __session_Own12345=b"], "b"),
        (['__session="a"'], "a"),
        (['bad name=1; {"json": [1,2]}; =; ;;\xff=\xff; n=a=b; __session=a;'], "a"),
        (['open="unclosed; __session=a'], "a"),
        (["  __session = a  "], "a"),
        (["__session"], None),
        ([""], None),
    ],
)
def test_the_session_cookie_is_found_among_any_neighbours(cookies: list[str], token: str | None) -> None:
    raw = [(b"Cookie", cookie.encode("latin-1")) for cookie in cookies]
    assert token_from_headers(raw, "Own12345") == (token and PresentedToken(token, from_cookie=True))


@pytest.mark.attack(71)
@pytest.mark.parametrize("name", ["__session", "__session_Own12345"])
def test_two_cookies_of_the_name_that_counts_are_refused_whichever_comes_first(name: str) -> None:
    for cookies in (f"{name}=planted; {name}=own", f"{name}=own; x=1; {name}=planted; __session=other"):
        with pytest.raises(InvalidToken, match="several cookies"):
            token_from_headers({"cookie": cookies}, "Own12345")
    with pytest.raises(InvalidToken, match="several cookies"):
        token_from_headers([(b"cookie", f"{name}={value}".encode()) for value in "ab"], "Own12345")


def test_without_a_suffix_only_the_plain_cookie_counts() -> None:
    assert token_from_headers({"cookie": "__session_Own12345=b; __session=a"}) == PresentedToken("a", from_cookie=True)
    assert token_from_headers({"cookie": "__session_Own12345=b; __session_None=c"}) is None


@given(st.lists(st.tuples(st.sampled_from([b"cookie", b"Authorization", b"x"]), st.binary())), st.none() | st.text())
def test_any_headers_give_a_token_or_none(headers: list[tuple[bytes, bytes]], suffix: str | None) -> None:
    found = token_from_headers(headers, suffix)
    if found is not None:
        with pytest.raises(AuthenticationFailed):
            read(found.token)


@given(st.text(st.characters(codec=None, exclude_characters=";"), max_size=40))
def test_a_neighbour_never_hides_the_session_cookie(neighbour: str) -> None:
    if not neighbour.strip().startswith("__session"):
        assert token_from_headers({"cookie": f"{neighbour}; __session=a"}) == PresentedToken("a", from_cookie=True)
