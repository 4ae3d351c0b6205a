"""A walk over all of the Backend API: each operation succeeds at least once, on objects as varied as apps make them."""

from __future__ import annotations

import re

from emulator.specs.apis import BACKEND
from emulator.specs.recording import operations
from emulator.world import Running


def walk(running: Running) -> None:
    """`running` begins empty, and its client records what is answered."""
    ada, ben = _walk_users(running)
    role = _walk_roles(running)
    acme = _walk_organizations(running, ada)
    _walk_memberships(running, acme, ben, role)
    _walk_invitations(running, acme, ada)
    _walk_domains(running, acme)
    _walk_sessions(running, ada, ben, acme)
    _walk_handshake(running)
    _walk_settings(running)
    _meet_errors(running, acme, ada)
    _delete_all(running, acme, ada, ben)


def _walk_users(running: Running) -> tuple[str, str]:
    everything = {
        "username": "ada_l",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "locale": "en-GB",
        "external_id": "crm-1",
        "password": "correct horse battery",
        "public_metadata": {"plan": "pro"},
        "private_metadata": {"note": "first"},
        "unsafe_metadata": {"theme": "dark"},
        "create_organizations_limit": 3,
        "legal_accepted_at": "2026-01-31T07:15:20Z",
    }
    ada = running.user("ada", **everything)["id"]
    ben = running.user("ben")["id"]
    running.get("/users")
    running.get("/users", user_id=ben, order_by="-created_at", limit=1)
    running.get("/users/count")
    running.get(f"/users/{ada}")
    running.patch(f"/users/{ben}", {"first_name": "Ben"})
    running.patch(f"/users/{ben}/metadata", {"public_metadata": {"plan": "free"}})
    running.api.put(f"/users/{ben}/metadata", json={"private_metadata": {}}).raise_for_status()
    for change in ("ban", "unban", "lock", "unlock"):
        running.post(f"/users/{ben}/{change}")
    for change in ("ban", "unban"):
        running.api.post(f"/users/{change}", json={"user_ids": [ben]}).raise_for_status()
    _walk_emails(running, ben)
    return ada, ben


def _walk_emails(running: Running, user: str) -> None:
    new = {"user_id": user, "email_address": "ben@work.test", "verified": False}
    email = running.post("/email_addresses", new)["id"]
    running.get(f"/users/{user}")  # with an address that is not verified
    running.get(f"/email_addresses/{email}")
    running.patch(f"/email_addresses/{email}", {"verified": True})
    running.delete(f"/email_addresses/{email}")


def _walk_roles(running: Running) -> str:
    permission = running.post("/organization_permissions", {"name": "Read", "key": "org:docs:read"})["id"]
    running.get("/organization_permissions")
    running.get(f"/organization_permissions/{permission}")
    running.patch(f"/organization_permissions/{permission}", {"description": "Reads documents"})
    new = {"name": "Editor", "key": "org:editor", "description": "Edits", "permissions": [permission]}
    role = running.post("/organization_roles", new)["id"]
    running.get("/organization_roles")
    running.get(f"/organization_roles/{role}")
    running.patch(f"/organization_roles/{role}", {"name": "Author"})
    running.delete(f"/organization_roles/{role}/permissions/{permission}")
    running.post(f"/organization_roles/{role}/permissions/{permission}")
    spare = running.post("/organization_roles", {"name": "Spare", "key": "org:spare"})["id"]
    running.delete(f"/organization_roles/{spare}")
    unused = running.post("/organization_permissions", {"name": "Write", "key": "org:docs:write"})["id"]
    running.delete(f"/organization_permissions/{unused}")
    return str(new["key"])


def _walk_organizations(running: Running, creator: str) -> str:
    acme = running.organization("Acme", created_by=creator, public_metadata={"plan": "pro"})["id"]
    running.organization("Nobody's")
    running.get("/organizations")
    running.get("/organizations", include_members_count="true", query="acme")
    running.get(f"/organizations/{acme}", include_missing_member_with_elevated_permissions="true")
    running.patch(f"/organizations/{acme}", {"name": "Acme & Sons", "max_allowed_memberships": 50})
    running.patch(f"/organizations/{acme}/metadata", {"private_metadata": {"note": "first"}})
    running.api.put(f"/organizations/{acme}/metadata", json={"public_metadata": {}}).raise_for_status()
    return str(acme)


def _walk_memberships(running: Running, organization: str, user: str, role: str) -> None:
    path = f"/organizations/{organization}/memberships"
    running.post(path, {"user_id": user, "role": role, "public_metadata": {"desk": 4}})
    running.get(path)
    running.get("/organization_memberships")
    running.get(f"/users/{user}/organization_memberships")
    running.patch(f"{path}/{user}/metadata", {"private_metadata": {"note": "first"}})
    running.patch(f"{path}/{user}", {"role": "org:member"})
    running.delete(f"{path}/{user}")


def _walk_invitations(running: Running, organization: str, inviter: str) -> None:
    path = f"/organizations/{organization}/invitations"
    new = {"email_address": "cleo@example.test", "role": "org:member"}
    cleo = running.post(path, new | {"inviter_user_id": inviter, "redirect_url": "https://app.test/join"})["id"]
    many = [{"email_address": f"{name}@example.test", "role": "org:admin"} for name in ("dora", "emil", "ben")]
    many[0]["inviter_user_id"] = inviter
    dora = running.post(f"{path}/bulk", many)["data"][0]["id"]
    running.get(f"{path}/{cleo}")
    running.post(f"{path}/{cleo}/revoke", {"requesting_user_id": inviter})
    running.api.post(f"{running.url}/emulator/invitations/{dora}/accept").raise_for_status()
    running.get(path)
    running.get(f"{path}/pending")
    running.get("/organization_invitations")
    invited = running.get("/users", email_address="ben@example.test")[0]["id"]
    running.get(f"/users/{invited}/organization_invitations")


def _walk_domains(running: Running, organization: str) -> None:
    path = f"/organizations/{organization}/domains"
    domain = running.post(path, {"name": "acme.test", "enrollment_mode": "automatic_invitation"})["id"]
    running.post(path, {"name": "unproven.test", "verified": False})
    running.get(path)
    running.get("/organization_domains")
    running.patch(f"{path}/{domain}", {"enrollment_mode": "manual_invitation"})
    running.post(f"{path}/{domain}/verify_ownership")
    running.delete(f"{path}/{domain}")


def _walk_sessions(running: Running, member: str, lonely: str, organization: str) -> None:
    session = running.post("/sessions", {"user_id": member, "active_organization_id": organization})["id"]
    running.post("/sessions", {"user_id": lonely})  # pending: an organization is yet to be chosen
    running.get("/sessions", user_id=member)
    running.get("/sessions", user_id=lonely)
    running.get(f"/sessions/{session}")
    running.post(f"/sessions/{session}/tokens", {})
    running.post(f"/sessions/{session}/revoke")
    left = running.post("/sessions", {"user_id": member})["id"]
    running.api.post(f"{running.url}/emulator/sessions/{left}/end").raise_for_status()
    running.post("/sessions", {"user_id": member})  # removed with the person
    token = running.post("/sign_in_tokens", {"user_id": member})["id"]
    running.post(f"/sign_in_tokens/{token}/revoke")


def _walk_handshake(running: Running) -> None:
    """A browser comes back from a handshake with a nonce, which the app's server gives in for the cookies."""
    query = {"redirect_url": f"{running.url}/dashboard", "format": "nonce"}
    back = running.api.get(f"{running.url}/__clerk/v1/client/handshake", params=query).next_request
    assert back is not None
    nonce = back.url.params["__clerk_handshake_nonce"]
    assert running.get("/clients/handshake_payload", nonce=nonce)["directives"]


def _walk_settings(running: Running) -> None:
    running.get("/jwks")
    running.get("/instance")
    running.get("/instance/organization_settings")
    running.patch("/instance/organization_settings", {"max_allowed_memberships": 10})


def _meet_errors(running: Running, organization: str, user: str) -> None:
    for method, path in operations(BACKEND.routes):
        nothing = re.sub("{[^}]*}", "nothing", path)
        assert running.api.request(method, nothing, headers={"authorization": ""}).status_code == 401
        if nothing != path:
            assert running.api.request(method, nothing, json={}).status_code in (400, 404, 422)
    for path in ("/organizations", "/users/ban", "/users/unban"):
        running.error("POST", path, {})
    running.error("PATCH", f"/organizations/{organization}", {"nonsense": 1})
    running.error("POST", "/users", {"email_address": ["ada@example.test"]})
    running.error("POST", "/users", {"email_address": "ada@example.test"})
    running.error("GET", "/users?limit=many")
    running.error("POST", f"/organizations/{organization}/memberships", {"user_id": user, "role": "org:nobody"}, 404)
    running.error("POST", f"/organizations/{organization}/invitations/bulk", {}, 400)


def _delete_all(running: Running, organization: str, *users: str) -> None:
    running.delete(f"/organizations/{organization}")
    for user in users:
        running.delete(f"/users/{user}")
