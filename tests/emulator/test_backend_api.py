"""The Backend API over HTTP: as Clerk answers, errors included, and as Clerk's own Python client reads it."""

from __future__ import annotations

from typing import Any

import pytest
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkErrors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.world import Clock, Runner, Running
from tenantry.emulator.backend_api.routes import ROUTES
from tenantry.emulator.seed import DEFAULT
from tenantry.emulator.settings import Assumptions, Options


@pytest.fixture
def running(run: Runner) -> Running:
    return run(options=Options(rate_limits=False))


def test_clerks_own_client_lists_everything(run: Runner) -> None:
    """Its models take no null for a slug, so slugs are on here."""
    running = run(seed_data=DEFAULT, settings={"slugs": True})
    key, url = running.emulator.instance.secret_key, f"{running.url}/v1"
    with Clerk(bearer_auth=key, server_url=url) as clerk:
        organizations = clerk.organizations.list(include_members_count=True)
        by_name = {each.name: each for each in organizations.data}
        assert {name: each.members_count for name, each in by_name.items()} == {"Acme": 3, "Globex": 2}
        acme = by_name["Acme"].id
        members = clerk.organization_memberships.list(organization_id=acme)
        assert {each.role for each in members.data} == {"org:admin", "org:editor", "org:member"}
        users = clerk.users.list(request={})
        assert {user.first_name for user in users} == {"Ada", "Grace", "Alan"}
        joined = clerk.users.get_organization_memberships(user_id=users[0].id)
        assert joined.total_count == len(joined.data) > 0
        created = clerk.users.create(email_address=["kay@example.test"], first_name="Kay")
        assert clerk.users.get(user_id=created.id).email_addresses[0].email_address == "kay@example.test"
        clerk.organization_invitations.create(organization_id=acme, email_address="x@example.test", role="org:member")
        assert clerk.organization_invitations.list(organization_id=acme).total_count == 1
        clerk.organization_domains.create(organization_id=acme, name="acme.test", enrollment_mode="manual_invitation")
        assert clerk.organization_domains.list(organization_id=acme).total_count == 1
        assert clerk.organization_roles.list().total_count == 3
        assert clerk.organization_permissions.list(limit=100).total_count == 13
        session = clerk.sessions.create(request={"user_id": users[0].id})
        assert session.user_id == users[0].id
        assert clerk.instance_settings.get().id == running.emulator.instance.id
        assert clerk.instance_settings.get_organization_settings().creator_role == "org:admin"
        assert clerk.jwks.get_jwks().keys
        assert clerk.users.count(request={}).total_count == 4
        with pytest.raises(ClerkErrors):
            clerk.organizations.get(organization_id="org_nobody")


def test_a_wrong_or_missing_key_is_401_in_clerks_form(running: Running) -> None:
    for headers, code in (({}, "authentication_invalid"), ({"authorization": "Bearer sk_test_x"}, "clerk_key_invalid")):
        running.api.headers.pop("authorization", None)
        response = running.api.get("/users", headers=headers)
        body = response.json()
        assert (response.status_code, body["errors"][0]["code"]) == (401, code)
        assert set(body) == {"errors", "clerk_trace_id"}
        assert {"message", "long_message", "code"} <= set(body["errors"][0])
        assert "sk_test" not in response.text


def test_every_path_wants_the_key_and_answers_its_methods_only(running: Running) -> None:
    for path, handlers in ROUTES.items():
        filled = path.replace("{", "").replace("}", "")
        assert running.api.get(filled, headers={"authorization": ""}).status_code == 401
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(handlers):
            assert running.error(method, filled, status=405)["code"] == "method_not_allowed"


def test_an_unknown_path_and_an_unknown_id_are_404(running: Running) -> None:
    for path in ("/nothing", "/users/user_x", "/organizations/org_x", "/organizations/org_x/memberships", "/users/"):
        assert running.error("GET", path, status=404)["code"] == "resource_not_found"


@pytest.mark.parametrize("body", [b"{", b"[1,", b"nonsense", b'{"a": NaN}', b'"\\ud800"', b'{"a": 1e999}', b"[" * 5000])
def test_a_body_that_is_no_json_is_400(running: Running, body: bytes) -> None:
    response = running.api.post("/users", content=body)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "request_body_invalid")


def test_a_huge_body_is_413(running: Running) -> None:
    assert running.api.post("/users", content=b" " * (2 << 20)).status_code == 413


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("name", "slug", "email_address", "user_id", "role", "key", "permissions", "public_metadata", "password"),
        *("username", "created_at", "user_ids", "max_allowed_memberships", "expires_in_days", "enrollment_mode"),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(sorted(ROUTES)), data=st.data())
def test_no_body_makes_a_500(running: Running, route: str, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(ROUTES[route])))
    body = data.draw(JSON | st.dictionaries(NAMES, JSON, max_size=4))
    user, organization = running.emulator.store.state.users, running.emulator.store.state.organizations
    path = route.replace("{user_id}", next(iter(user), "u")).replace("{organization_id}", next(iter(organization), "o"))
    response = running.api.request(method, path.replace("{", "").replace("}", ""), json=body)
    assert response.status_code < 500, (method, path, body)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(sorted(path for path, handlers in ROUTES.items() if "GET" in handlers and "{" not in path)),
    name=st.sampled_from(["limit", "offset", "order_by", "query", "user_id", "created_at_before", "banned", "status"]),
    value=st.text(max_size=30),
)
def test_no_query_makes_a_500(running: Running, path: str, name: str, value: str) -> None:
    assert running.api.get(path, params={name: value}).status_code < 500


def test_pages_hold_each_row_once_with_the_total(running: Running) -> None:
    made = [running.organization(f"Org {number}")["id"] for number in range(25)]
    pages = [running.get("/organizations", limit=10, offset=offset) for offset in (0, 10, 20, 30)]
    assert [len(page["data"]) for page in pages] == [10, 10, 5, 0]
    assert {page["total_count"] for page in pages} == {25}
    assert [row["id"] for page in pages for row in page["data"]] == made[::-1]


def test_ten_rows_unless_asked_and_newest_first(running: Running) -> None:
    for number in range(12):
        running.user(f"u{number}")
    assert [user["email_addresses"][0]["email_address"][:3] for user in running.get("/users")][:2] == ["u11", "u10"]
    assert len(running.get("/users")) == 10
    assert len(running.get("/users", limit=500)) == 12


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 501}, {"limit": "ten"}, {"limit": "10.0"}, {"offset": -1}, {"order_by": "secret"}]
)
def test_a_page_that_cannot_be_is_422(running: Running, query: dict[str, Any]) -> None:
    response = running.api.get("/organizations", params=query)
    assert response.status_code == 422
    assert response.json()["errors"][0]["code"].startswith("form_param_")


def test_rows_are_ordered_as_asked(running: Running) -> None:
    for name in ("Beta", "Alpha", "Gamma"):
        running.organization(name)
    named = {
        order: [row["name"] for row in running.get("/organizations", order_by=order)["data"]]
        for order in ("name", "+name", "-name", "created_at", "-created_at")
    }
    assert named["name"] == named["+name"] == named["-name"][::-1] == ["Alpha", "Beta", "Gamma"]
    assert named["created_at"] == named["-created_at"][::-1] == ["Beta", "Alpha", "Gamma"]


def test_a_cursor_walks_all_users_and_wants_the_default_order(running: Running) -> None:
    made = [running.user(f"u{number}")["id"] for number in range(7)]
    first = running.get("/users", limit=3)
    second = running.get("/users", limit=100, starting_after=first[-1]["id"])
    assert [user["id"] for user in [*first, *second]] == made[::-1]
    for query in ({"order_by": "first_name"}, {"offset": 1}):
        response = running.api.get("/users", params={"starting_after": made[0], **query})
        assert response.status_code == 422


def test_users_are_filtered(running: Running) -> None:
    ada, ben, cleo = (
        running.user(name, first_name=name.title(), username=f"{name}_x") for name in ("ada", "ben", "cleo")
    )
    organization = running.organization("Acme", created_by=ada["id"])
    running.post(f"/users/{cleo['id']}/ban")
    running.patch(f"/users/{ben['id']}", {"external_id": "crm-1"})

    def found(**query: Any) -> list[str]:
        count = running.get("/users/count", **query)["total_count"]
        users = running.get("/users", **query)
        assert count == len(users)
        return sorted(user["first_name"] for user in users)

    assert found(user_id=[ada["id"], ben["id"]]) == ["Ada", "Ben"]
    assert found(user_id=f"-{ada['id']}") == ["Ben", "Cleo"]
    assert found(email_address="BEN@example.test") == ["Ben"]
    assert found(external_id="crm-1") == ["Ben"]
    assert found(username="cleo_x") == ["Cleo"]
    assert found(organization_id=organization["id"]) == ["Ada"]
    assert found(organization_id=f"-{organization['id']}") == ["Ben", "Cleo"]
    assert found(query="cle") == ["Cleo"]
    assert found(name_query="E") == ["Ben", "Cleo"]
    assert found(banned="true") == ["Cleo"]
    assert found(created_at_after=ada["created_at"] - 1, created_at_before=ada["created_at"] + 1) == ["Ada"]
    assert found(phone_number="+15555550100") == []


def test_organizations_are_filtered_and_counted_only_when_asked(running: Running) -> None:
    ada = running.user("ada")["id"]
    acme, globex = running.organization("Acme", created_by=ada), running.organization("Globex")

    def found(**query: Any) -> list[str]:
        return sorted(row["name"] for row in running.get("/organizations", **query)["data"])

    assert found(user_id=ada) == ["Acme"]
    assert found(user_id=f"-{ada}") == ["Globex"]
    assert found(organization_id=[acme["id"], "org_nobody"]) == ["Acme"]
    assert found(organization_id=f"-{acme['id']}") == ["Globex"]
    assert found(query="glo") == found(query=globex["id"]) == ["Globex"]
    assert "members_count" not in running.get(f"/organizations/{acme['id']}")
    shown = running.get(
        f"/organizations/{acme['id']}",
        include_members_count="true",
        include_missing_member_with_elevated_permissions="true",
    )
    assert (shown["members_count"], shown["missing_member_with_elevated_permissions"]) == (1, False)


def test_memberships_are_listed_by_organization_by_user_and_instance_wide(running: Running) -> None:
    ada, ben = running.user("ada")["id"], running.user("ben")["id"]
    acme, globex = (
        running.organization("Acme", created_by=ada)["id"],
        running.organization("Globex", created_by=ben)["id"],
    )
    path = f"/organizations/{acme}/memberships"
    joined = running.post(path, {"user_id": ben, "role": "org:member", "public_metadata": {"a": 1}})
    assert joined["public_metadata"] == {"a": 1}
    assert running.get("/organization_memberships")["total_count"] == 3
    assert running.get(f"/users/{ben}/organization_memberships")["total_count"] == 2
    assert running.get(f"/organizations/{globex}/memberships")["total_count"] == 1

    def found(**query: Any) -> list[str]:
        return [row["public_user_data"]["user_id"] for row in running.get(path, **query)["data"]]

    assert found(role="org:admin") == found(user_id=ada) == found(query="ada@") == [ada]
    assert found(order_by="email_address") == [ada, ben]
    assert running.error("POST", path, {"user_id": ben, "role": "org:member"}, 400)["code"] == (
        "already_a_member_in_organization"
    )
    assert running.error("POST", path, {"user_id": ben, "role": "org:king"}, 404)["meta"] == {"param_name": "role"}
    assert running.patch(f"{path}/{ben}", {"role": "org:admin"})["role"] == "org:admin"
    removed = running.delete(f"{path}/{ben}")
    assert (removed["object"], removed["id"]) == ("organization_membership", joined["id"])
    assert running.error("DELETE", f"{path}/{ben}", status=404)["code"] == "resource_not_found"


def test_invitations_are_made_one_by_one_and_ten_at_a_time(running: Running) -> None:
    acme = running.organization("Acme", max_allowed_memberships=0)["id"]
    path = f"/organizations/{acme}/invitations"
    new = {"email_address": "cleo@example.test", "role": "org:member"}
    made = running.post(path, new)
    assert (made["status"], made["organization_id"]) == ("pending", acme)
    assert made["expires_at"] - made["created_at"] == 30 * 86_400_000
    assert running.error("POST", path, new, 400)["code"] == "duplicate_record"
    many = [{"email_address": f"u{number}@example.test", "role": "org:member"} for number in range(10)]
    assert running.post(f"{path}/bulk", many)["total_count"] == 10
    wrongs: list[Any] = [[], many + many, [1], {}]
    for wrong in wrongs:
        assert running.error("POST", f"{path}/bulk", wrong, 400)["code"] == "request_body_invalid"
    assert running.post(f"{path}/{made['id']}/revoke", {})["status"] == "revoked"
    assert (
        running.error("POST", f"{path}/{made['id']}/revoke", {}, 400)["code"] == "organization_invitation_not_pending"
    )
    assert running.get(path, status="revoked")["total_count"] == 1
    assert running.get(f"{path}/pending")["total_count"] == 10
    everywhere = running.get("/organization_invitations", query="u1@", status=["pending", "revoked"])
    assert everywhere["data"][0]["public_organization_data"]["id"] == acme
    assert running.error("GET", f"{path}?status=lost")["code"] == "form_param_value_invalid"


def test_ten_at_a_time_are_all_or_none(running: Running) -> None:
    path = f"/organizations/{running.organization('Acme')['id']}/invitations"
    good, bad = ({"email_address": address, "role": "org:member"} for address in ("a@example.test", "nonsense"))
    running.error("POST", f"{path}/bulk", [good, bad])
    assert running.get(path)["total_count"] == 0


def test_roles_and_permissions_are_made_changed_and_deleted(running: Running) -> None:
    read = running.post("/organization_permissions", {"name": "Read", "key": "org:docs:read"})
    write = running.post("/organization_permissions", {"name": "Write", "key": "org:docs:write", "description": "W"})
    assert (read["type"], read["description"]) == ("custom", "")
    role = running.post("/organization_roles", {"name": "Editor", "key": "org:editor", "permissions": [read["id"]]})
    path = f"/organization_roles/{role['id']}"
    assert [each["key"] for each in role["permissions"]] == ["org:docs:read"]
    assert role["is_creator_eligible"] is False
    added = running.post(f"{path}/permissions/{write['id']}")
    assert [each["key"] for each in added["permissions"]] == ["org:docs:read", "org:docs:write"]
    assert (
        running.error("POST", f"{path}/permissions/{write['id']}", status=409)["code"] == "permission_already_assigned"
    )
    assert len(running.delete(f"{path}/permissions/{read['id']}")["permissions"]) == 1
    assert running.patch(path, {"permissions": []})["permissions"] == []
    assert running.error("POST", "/organization_roles", {"name": "E", "key": "org:editor"})["code"] == (
        "form_identifier_exists"
    )
    assert running.error("POST", "/organization_roles", {"name": "E"})["meta"] == {"param_name": "key"}
    assert running.get("/organization_roles", query="edit")["total_count"] == 1
    assert running.delete(path) == {"object": "role", "id": role["id"], "slug": None, "deleted": True}
    assert running.delete(f"/organization_permissions/{read['id']}")["deleted"] is True
    system = running.get("/organization_permissions", query="org:sys_billing:read")["data"][0]
    assert running.error("DELETE", f"/organization_permissions/{system['id']}", status=403)["code"] == (
        "system_permission_immutable"
    )


def test_a_role_in_use_cannot_be_deleted(running: Running) -> None:
    admin = running.get("/organization_roles", query="org:admin")["data"][0]
    error = running.error("DELETE", f"/organization_roles/{admin['id']}", status=403)
    assert "default role of organization creators" in error["message"]


def test_domains_are_verified_unless_asked(running: Running) -> None:
    acme = running.organization("Acme")["id"]
    path = f"/organizations/{acme}/domains"
    verified = running.post(path, {"name": "acme.test", "enrollment_mode": "automatic_suggestion"})
    plain = running.post(path, {"name": "other.test", "verified": False})
    assert (verified["verification"]["status"], plain["verification"]) == ("verified", None)
    assert running.get(path, verified="false")["data"] == [plain]
    assert running.get("/organization_domains", domains="acme.test")["data"] == [verified]
    assert running.get("/organization_domains", enrollment_mode="-automatic_suggestion")["data"] == [plain]
    owned = running.post(f"{path}/{plain['id']}/verify_ownership")
    assert owned["ownership_verification"]["strategy"] == "manual_override"
    assert running.patch(f"{path}/{plain['id']}", {"verified": True})["verification"]["status"] == "verified"
    assert running.delete(f"{path}/{plain['id']}") == {
        "object": "organization_domain",
        "id": plain["id"],
        "deleted": True,
    }


def test_a_user_is_changed_and_its_addresses_with_it(running: Running) -> None:
    ada = running.user("ada", password="correct horse")
    path = f"/users/{ada['id']}"
    assert ada["password_enabled"] is True
    changed = running.patch(path, {"first_name": "Ada", "last_name": None, "username": "ada_l"})
    assert (changed["first_name"], changed["username"]) == ("Ada", "ada_l")
    second = running.post(
        "/email_addresses", {"user_id": ada["id"], "email_address": "l@example.test", "verified": True}
    )
    assert running.patch(path, {"primary_email_address_id": second["id"]})["primary_email_address_id"] == second["id"]
    assert running.error("PATCH", path, {"primary_email_address_id": "idn_x"})["code"] == "form_param_value_invalid"
    assert running.delete(f"/email_addresses/{second['id']}")["deleted"] is True
    assert running.get(path)["primary_email_address_id"] == ada["primary_email_address_id"]
    assert running.error("PATCH", path, {"nonsense": 1})["code"] == "form_param_unknown"
    assert running.error("PATCH", path, {"password": "short"})["code"] == "form_password_length_too_short"
    assert running.delete(path) == {"object": "user", "id": ada["id"], "external_id": None, "deleted": True}
    running.error("GET", path, status=404)


@pytest.mark.parametrize("kind", ["users", "organizations"])
def test_metadata_has_paths_of_its_own_since_the_newest_api_version(running: Running, kind: str) -> None:
    row = running.user("ada") if kind == "users" else running.organization("Acme")
    path = f"/{kind}/{row['id']}"
    body = {"public_metadata": {"a": {"b": 1, "c": 2}}}
    assert running.error("PATCH", path, body)["code"] == "form_param_unknown"
    older = running.api.patch(path, json=body, headers={"clerk-api-version": "2025-11-10"}).json()
    assert older["public_metadata"] == body["public_metadata"]
    assert running.patch(f"{path}/metadata", {"public_metadata": {"a": {"b": None}}})["public_metadata"] == {
        "a": {"c": 2}
    }
    replaced = running.api.put(f"{path}/metadata", json={"public_metadata": {"x": 1}}).json()
    assert replaced["public_metadata"] == {"x": 1}


def test_the_api_version_is_a_known_one_said_once(running: Running) -> None:
    both = {"headers": {"clerk-api-version": "2026-05-12"}, "params": {"__clerk_api_version": "2026-05-12"}}
    assert running.api.get("/users", **both).json()["errors"][0]["code"] == "api_version_conflict"  # type: ignore[arg-type]
    unknown = running.api.get("/users", headers={"clerk-api-version": "2020-01-01"})
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (400, "api_version_invalid")


def test_a_ban_signs_out_at_once(running: Running) -> None:
    ada = running.user("ada")["id"]
    running.organization("Acme", created_by=ada)
    session = running.post("/sessions", {"user_id": ada})
    assert running.post(f"/sessions/{session['id']}/tokens")["object"] == "token"
    assert running.post(f"/users/{ada}/ban")["banned"] is True
    assert running.get(f"/sessions/{session['id']}")["status"] == "revoked"
    running.error("POST", f"/sessions/{session['id']}/tokens", status=404)
    assert running.error("POST", "/sessions", {"user_id": ada}, 403)["code"] == "user_banned"
    assert [user["banned"] for user in running.api.post("/users/unban", json={"user_ids": [ada]}).json()] == [False]


def test_sessions_are_listed_by_user_and_a_tokens_life_is_within_bounds(running: Running) -> None:
    ada = running.user("ada")["id"]
    assert running.error("GET", "/sessions")["code"] == "form_param_missing"
    session = running.post("/sessions", {"user_id": ada})
    assert session["status"] == "pending"
    assert session["tasks"] == [{"key": "choose-organization"}]
    assert [each["id"] for each in running.get("/sessions", user_id=ada)] == [session["id"]]
    for seconds in (29, 315_360_001, "60", True, 60.5):
        running.error("POST", f"/sessions/{session['id']}/tokens", {"expires_in_seconds": seconds})


def test_a_token_asked_for_with_an_origin_is_for_that_party(running: Running) -> None:
    import jwt

    session = running.post("/sessions", {"user_id": running.user("ada")["id"]})
    path = f"/sessions/{session['id']}/tokens"
    for origin in (None, "http://127.0.0.1:8000"):
        token = running.api.post(path, headers={"origin": origin} if origin else {}).json()["jwt"]
        assert jwt.decode(token, options={"verify_signature": False}).get("azp") == origin


def test_settings_are_read_and_changed(running: Running) -> None:
    before = running.get("/instance/organization_settings")
    assert (before["slug_disabled"], before["creator_role"]) == (True, "org:admin")
    member = running.get("/organization_roles", query="org:member")["data"][0]
    changed = running.patch(
        "/instance/organization_settings",
        {"slug_disabled": False, "max_allowed_memberships": 7, "domains_default_role_id": member["id"]},
    )
    assert (changed["slug_disabled"], changed["max_allowed_memberships"]) == (False, 7)
    assert running.organization("Acme Inc")["slug"] == "acme-inc"
    assert running.get("/organizations/acme-inc")["max_allowed_memberships"] == 7


def test_the_key_set_needs_the_key_here_and_none_where_the_frontend_publishes_it(running: Running) -> None:
    import httpx

    assert httpx.get(f"{running.url}/v1/jwks").status_code == 401
    assert running.get("/jwks") == httpx.get(f"{running.url}/.well-known/jwks.json").json()


def test_one_request_too_many_is_429_with_retry_after_until_the_window_ends(run: Runner) -> None:
    clock = Clock()
    running = run(clock=clock)
    for _ in range(100):
        assert running.api.get("/users/count").status_code == 200
    refused = running.api.get("/users/count")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "10"
    assert running.api.get("/jwks").status_code == 200
    clock.pass_seconds(10)
    assert running.api.get("/users/count").status_code == 200


def test_one_object_is_changed_at_most_ten_times_in_ten_seconds(run: Runner) -> None:
    clock = Clock()
    running = run(clock=clock)
    acme, globex = running.organization("Acme")["id"], running.organization("Globex")["id"]
    for number in range(10):
        running.patch(f"/organizations/{acme}", {"name": f"Acme {number}"})
    running.error("PATCH", f"/organizations/{acme}", {"name": "Acme"}, 429)
    running.patch(f"/organizations/{globex}", {"name": "Globex 2"})


def test_content_type_is_exactly_json(running: Running) -> None:
    """Clerk's JavaScript client compares it with `application/json`, nothing after it."""
    assert running.api.get("/users").headers["content-type"] == "application/json"


def test_the_slug_of_an_instance_without_slugs_can_suit_strict_clients(run: Runner) -> None:
    running = run(seed_data=DEFAULT, options=Options(assumptions=Assumptions(slug_when_disabled="generated")))
    with Clerk(bearer_auth=running.emulator.instance.secret_key, server_url=f"{running.url}/v1") as clerk:
        assert {each.slug for each in clerk.organizations.list().data} == {"acme", "globex"}


def test_where_organizations_are_off_there_is_nothing_about_them(run: Runner) -> None:
    running = run(seed_data=DEFAULT)
    running.patch("/instance/organization_settings", {"enabled": False})
    for path in ("/organizations", "/organization_memberships", "/organization_roles"):
        assert running.error("GET", path, status=403)["code"] == "organization_not_enabled_in_instance"
    assert running.get("/users")
    running.patch("/instance/organization_settings", {"enabled": True})
    assert running.get("/organizations")["total_count"] == 2


@pytest.mark.parametrize("header", ["host", "x-forwarded-host"])
def test_no_page_that_points_its_own_name_here_is_answered(run: Runner, header: str) -> None:
    running = run()
    refused = running.api.get("/users", headers={header: "rebind.test:4010"})
    error = refused.json()["errors"][0]
    assert (refused.status_code, error["code"]) == (403, "host_invalid")
    assert "allowed_origins" in error["message"]
    for name in ("localhost", "app.localhost:3000", "[::1]:4010", "127.0.0.1"):
        assert running.api.get("/users", headers={header: name}).status_code == 200
    allowed = run(settings={"allowed_origins": ("http://emulator:4010",)})
    assert allowed.api.get("/users", headers={header: "emulator:4010"}).status_code == 200
