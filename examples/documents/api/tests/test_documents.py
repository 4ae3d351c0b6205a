"""What each organization sees, what each role may do, and who is out."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tenantry.testing import Database, MakeTenant, Member, assert_hidden, check_isolation

UPDATE = "org:documents:update"  # edited in Clerk's dashboard; the other permissions stand in tenantry.toml


def write(client: TestClient, author: Member, title: str = "Launch plan") -> str:
    """The path of a new document."""
    answer = client.post("/api/documents", json={"title": title, "body": "three words here"}, headers=author.headers())
    assert answer.status_code == 201, answer.text
    return f"/api/documents/{answer.json()['id']}"


def titles(client: TestClient, reader: Member) -> list[str]:
    return [document["title"] for document in client.get("/api/documents", headers=reader.headers()).json()]


def test_each_organization_has_its_own_library(client: TestClient, make_tenant: MakeTenant) -> None:
    ada = make_tenant("Acme").member("ada", role="org:editor")
    grace = make_tenant("Globex").member("grace", role="org:admin", permissions=[UPDATE])
    path = write(client, ada)

    assert titles(client, ada) == ["Launch plan"]
    assert titles(client, grace) == []
    assert client.get(path, headers=grace.headers()).status_code == 404
    assert client.put(path, json={"title": "Mine"}, headers=grace.headers()).status_code == 404
    assert client.delete(path, headers=grace.headers()).status_code == 404
    assert_hidden("Launch plan", owner=ada, stranger=grace)


@pytest.mark.parametrize(
    ("role", "may_create", "may_edit", "may_delete"),
    [("org:member", False, False, False), ("org:editor", True, True, False), ("org:admin", True, True, True)],
)
def test_each_role_may_do_what_it_should(
    client: TestClient, make_tenant: MakeTenant, role: str, may_create: bool, may_edit: bool, may_delete: bool
) -> None:
    acme = make_tenant("Acme")
    path = write(client, acme.member("author", role="org:editor"))
    someone = acme.member("someone", role=role, permissions=[UPDATE] if may_edit else [])

    def allows(method: str, at: str, title: str | None = None) -> bool:
        body = {"title": title} if title else None
        status: int = client.request(method, at, json=body, headers=someone.headers()).status_code
        return status != 403

    assert allows("POST", "/api/documents", "New") == may_create
    assert allows("PUT", path, "Changed") == may_edit
    assert allows("DELETE", path) == may_delete


def test_a_removed_member_is_out_at_once(client: TestClient, make_tenant: MakeTenant) -> None:
    ada = make_tenant("Acme").member("ada")
    page, api = ada.cookies(), ada.headers()
    assert client.get("/api/documents", headers=api).status_code == 200

    ada.leave()

    assert client.get("/api/documents", headers=api).json()["code"] == "not_a_member"
    client.cookies = page
    assert client.get("/").status_code == 403


def test_a_removal_comes_in_by_webhook(client: TestClient, make_tenant: MakeTenant) -> None:
    ada = make_tenant("Acme").member("ada")
    told = ada.webhook("organizationMembership.deleted")
    assert client.post("/webhooks/clerk", content=told.body, headers=told.headers).json()["outcome"] == "applied"
    assert client.get("/api/documents", headers=ada.headers()).status_code == 403


def test_words_are_counted_after_the_answer(client: TestClient, make_tenant: MakeTenant) -> None:
    ada = make_tenant("Acme").member("ada", role="org:editor")
    assert client.get(write(client, ada), headers=ada.headers()).json()["words"] == 3


def test_every_table_is_isolated_or_shared(tenantry_database: Database) -> None:
    check_isolation(tenantry_database)
