"""Session tokens: Clerk's claims, verified by others' code."""

from __future__ import annotations

from typing import Any, Literal

import jwt
import pytest
from clerk_backend_api.security import VerifyTokenOptions, verify_token

from emulator.world import Runner, World
from tenantry.emulator.errors import ClerkError
from tenantry.emulator.instance import derive_instance
from tenantry.emulator.records import Session
from tenantry.emulator.tokens import TokenRequest, build_claims, mint

INSTANCE = derive_instance(1)


def request(world: World, session: Session, **more: Any) -> TokenRequest:
    return TokenRequest(**{"session": session, "now": world.clock(), "jti": "0" * 20, **more})


def claims_of(world: World, session: Session, version: Literal[1, 2] = 2, **more: Any) -> dict[str, Any]:
    return build_claims(INSTANCE, world.store.state, request(world, session, version=version, **more))


def permissions_in(claims: dict[str, Any]) -> set[str]:
    """Clerk's decoding: bit j of mask i is the j-th action on the i-th feature."""
    features = [element.split(":")[1] for element in claims.get("fea", "").split(",") if element]
    actions = claims["o"]["per"].split(",")
    masks = [int(mask) for mask in claims["o"]["fpm"].split(",")]
    return {
        f"org:{feature}:{action}"
        for feature, mask in zip(features, masks, strict=True)
        for bit, action in enumerate(actions)
        if mask >> bit & 1
    }


def test_a_version_2_token_has_clerks_claims_and_no_others(world: World) -> None:
    ada = world.user("ada")
    organization = world.store.organizations.create("Acme", created_by=ada)
    session = world.store.sessions.create(ada)
    world.clock.pass_seconds(150)
    now = world.clock() // 1000
    assert claims_of(world, session, authorized_party="http://127.0.0.1:8000") == {
        "azp": "http://127.0.0.1:8000",
        "exp": now + 60,
        "fva": [2, -1],
        "iat": now,
        "iss": "https://clerk.emulator.test",
        "jti": "0" * 20,
        "nbf": now - 10,
        "o": {"id": organization.id, "rol": "admin"},
        "sid": session.id,
        "sts": "active",
        "sub": ada,
        "v": 2,
    }


def test_a_version_1_token_is_flat_and_prefixed(world: World) -> None:
    ada = world.user("ada")
    organization = world.store.organizations.create("Acme", created_by=ada)
    permission = world.store.permissions.create("Read", "org:reports:read")
    world.store.roles.add_permission(world.store.roles.find("org:admin").id, permission.id)
    claims = claims_of(world, world.store.sessions.create(ada), version=1)
    assert {name: claims[name] for name in claims if name.startswith("org_")} == {
        "org_id": organization.id,
        "org_role": "org:admin",
        "org_permissions": ["org:reports:read"],
    }
    assert not {"v", "o", "fea"} & set(claims)


def test_custom_permissions_are_bits_and_system_permissions_are_in_no_token(world: World) -> None:
    keys = ["org:reports:read", "org:reports:manage", "org:teams:manage", "org:billing:read"]
    made = {key: world.store.permissions.create("P", key).id for key in keys}
    held = ["org:reports:manage", "org:teams:manage"]
    system = world.store.permissions.find("org:sys_memberships:read").id
    role = world.store.roles.create("Editor", "org:editor", None, [system, *(made[key] for key in held)])
    ben = world.user("ben")
    organization = world.store.organizations.create("Acme")
    world.store.memberships.create(organization, ben, role)
    claims = claims_of(world, world.store.sessions.create(ben))
    assert claims["fea"] == "o:reports,o:teams,o:billing"
    assert (claims["o"]["per"], claims["o"]["fpm"]) == ("read,manage", "2,2,0")
    assert permissions_in(claims) == set(held)


def test_a_role_without_custom_permissions_has_masks_of_0(world: World) -> None:
    world.store.permissions.create("Read", "org:reports:read")
    ada = world.user("ada")
    world.store.organizations.create("Acme", created_by=ada)
    claims = claims_of(world, world.store.sessions.create(ada))
    assert (claims["o"]["per"], claims["o"]["fpm"]) == ("read", "0")


def test_a_token_may_be_for_another_organization_than_the_active_one_but_not_for_a_foreign_one(world: World) -> None:
    ada, ben = world.user("ada"), world.user("ben")
    first = world.store.organizations.create("Acme", created_by=ada)
    world.store.organizations.create("Globex", created_by=ada)
    foreign = world.store.organizations.create("Initech", created_by=ben)
    session = world.store.sessions.create(ada)
    assert claims_of(world, session, organization_id=first.id)["o"]["id"] == first.id
    with pytest.raises(ClerkError):
        claims_of(world, session, organization_id=foreign.id)


def test_without_an_organization_a_token_is_pending_where_membership_is_required(world: World) -> None:
    session = world.store.sessions.create(world.user("dora"))
    claims = claims_of(world, session)
    assert claims["sts"] == "pending"
    assert "o" not in claims


def test_an_ended_session_mints_no_token(world: World) -> None:
    ada = world.user("ada")
    session = world.store.sessions.end(world.store.sessions.create(ada), "revoked")
    with pytest.raises(ClerkError, match="active session"):
        claims_of(world, session)


def test_the_header_names_algorithm_category_and_instance(world: World) -> None:
    token = mint(INSTANCE, world.store.state, request(world, world.store.sessions.create(world.user("ada"))))
    header = jwt.get_unverified_header(token)
    assert header == {
        "alg": "RS256",
        "cat": "cl_B7d4PD111AAA",
        "kid": INSTANCE.id,
        "oiat": world.clock() // 1000,
        "typ": "JWT",
    }


def test_pyjwt_verifies_a_token_by_the_published_keys(run: Runner) -> None:
    running = run()
    running.user("ada")
    running.organization("Acme", created_by=running.get("/users")[0]["id"])
    token = running.emulator.mint_token("ada@example.test", "acme")
    key = jwt.PyJWKClient(f"{running.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], issuer="https://clerk.emulator.test")
    assert claims["o"]["rol"] == "admin"
    other = derive_instance(2)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, other.public_key_pem, algorithms=["RS256"])


def test_clerks_own_client_verifies_a_token_by_key_and_by_jwks(run: Runner) -> None:
    running = run()
    user = running.user("ada")
    running.organization("Acme", created_by=user["id"])
    token = running.emulator.mint_token("ada@example.test")
    environment = running.emulator.environment(running.url, jwt_key=True)
    by_key = VerifyTokenOptions(jwt_key=environment["CLERK_JWT_KEY"])
    by_url = VerifyTokenOptions(secret_key=environment["CLERK_SECRET_KEY"], api_url=environment["CLERK_API_URL"])
    for options in (by_key, by_url):
        assert verify_token(token, options)["sub"] == user["id"]


def test_options_choose_version_and_life_of_all_tokens(run: Runner) -> None:
    from tenantry.emulator.settings import Options

    running = run(options=Options(token_version=1, token_seconds=300))
    running.user("ada")
    claims = jwt.decode(running.emulator.mint_token("ada@example.test"), options={"verify_signature": False})
    assert "v" not in claims
    assert claims["exp"] - claims["iat"] == 300
