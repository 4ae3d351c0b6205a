"""The example, end to end: people in the emulator, its webhooks and tokens, the app over HTTP, rows in PostgreSQL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import APP, OWNER, SUPERUSER, Database
from examples.deployment import FOLDER, UPDATE, Deployment, create_example, deploy, load_module, migrate
from tenantry import schema
from tenantry.emulator.disorder import Disorder
from tenantry.emulator.emulator import Emulator
from tenantry.errors import ConfigurationError
from tenantry.settings import Settings
from tenantry.sqlalchemy import scoped

SECRET = "sentinel-of-acme"


@pytest.fixture
def deployment(database: Database) -> Iterator[Deployment]:
    with deploy(database) as running:
        yield running


class Town:
    """Acme with an admin, an editor and a member, Globex with its own admin; the mirror knows them all."""

    def __init__(self, deployment: Deployment) -> None:
        clerk = deployment.clerk
        self.ada, self.grace, self.alan, self.zoe = (
            clerk.user(name, first_name=name.capitalize())["id"] for name in ("ada", "grace", "alan", "zoe")
        )
        self.acme = clerk.organization("Acme", created_by=self.ada)["id"]
        self.globex = clerk.organization("Globex", created_by=self.zoe)["id"]
        self.join(clerk, self.grace, "org:editor")
        self.join(clerk, self.alan, "org:member")
        deployment.settle()

    def join(self, clerk: Any, user: str, role: str) -> None:
        clerk.post(f"/organizations/{self.acme}/memberships", {"user_id": user, "role": role})

    def place(self, user: str) -> str:
        return f"/organizations/{self.acme}/memberships/{user}"


@pytest.fixture
def town(deployment: Deployment) -> Town:
    return Town(deployment)


def write(client: httpx.Client, title: str = "A title", body: str = "three short words") -> str:
    """The id of a new document."""
    answer = client.post("/api/documents", json={"title": title, "body": body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- isolation --------------------------------------------------------------------------------------------------------


def test_each_organization_reads_its_own_rows_and_nobody_elses(deployment: Deployment, town: Town) -> None:
    acme, globex = deployment.sign_in(town.ada, town.acme), deployment.sign_in(town.zoe, town.globex)
    id = write(acme, f"Plans {SECRET}", f"{SECRET} one two")
    acme.post(f"/api/documents/{id}/comments", json={"body": SECRET}).raise_for_status()
    write(globex, "Plans of Globex")
    assert deployment.wait_for_words(acme, id) == 3

    own = [acme.get(path).text for path in ("/api/documents?search=plans", f"/api/documents/{id}/comments")]
    assert all(SECRET in text for text in own)
    assert "ada@example.test" in acme.get("/api/organization").text

    browser = deployment.open_browser(town.zoe, town.globex)
    seen = [
        globex.get("/api/documents"),
        globex.get("/api/documents?search=plans"),
        globex.get(f"/api/documents?search={SECRET}"),
        globex.get("/api/organization"),
        globex.get("/api/languages"),
        globex.get("/api/me"),
        browser.get("/"),
        browser.get(f"/?search={SECRET[:8]}"),
    ]
    assert {answer.status_code for answer in seen} == {200}
    assert not any(SECRET in answer.text or id in answer.text for answer in seen)
    assert [found["title"] for found in globex.get("/api/documents").json()] == ["Plans of Globex"]
    assert [member["user_id"] for member in globex.get("/api/organization").json()["members"]] == [town.zoe]


def test_another_organizations_document_does_not_exist(deployment: Deployment, town: Town) -> None:
    acme, globex = deployment.sign_in(town.ada, town.acme), deployment.sign_in(town.zoe, town.globex)
    browser = deployment.open_browser(town.zoe, town.globex)
    id, draft = write(acme, SECRET), {"title": "Taken over"}
    for there in (id, str(uuid4())):
        answers = [
            globex.get(f"/api/documents/{there}"),
            globex.put(f"/api/documents/{there}", json=draft),
            globex.delete(f"/api/documents/{there}"),
            globex.get(f"/api/documents/{there}/comments"),
            globex.post(f"/api/documents/{there}/comments", json={"body": "mine"}),
        ]
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (404, '{"detail":"There is no such document."}')
        }
        pages = [
            browser.get(f"/documents/{there}"),
            browser.post(f"/documents/{there}", data=draft),
            browser.post(f"/documents/{there}/delete"),
            browser.post(f"/documents/{there}/comments", data={"body": "mine"}),
        ]
        assert {page.status_code for page in pages} == {404}
        assert all("There is no such document." in page.text and SECRET not in page.text for page in pages)
    kept = acme.get(f"/api/documents/{id}").json()
    assert kept["title"] == SECRET
    assert acme.get(f"/api/documents/{id}/comments").json() == []


def test_the_member_of_two_organizations_sees_the_one_their_token_is_for(deployment: Deployment, town: Town) -> None:
    town.join(deployment.clerk, town.zoe, "org:editor")
    write(deployment.sign_in(town.zoe, town.acme), "Written for Acme")
    write(deployment.sign_in(town.zoe, town.globex), "Written for Globex")
    for organization, name in ((town.acme, "Acme"), (town.globex, "Globex")):
        listed = deployment.sign_in(town.zoe, organization).get("/api/documents").json()
        assert [found["title"] for found in listed] == [f"Written for {name}"]


def test_check_finds_nothing_to_mend(database: Database) -> None:
    migrate(database)
    with database.connect(SUPERUSER) as connection:
        assert schema.check(connection) == []


def test_the_migrations_go_down_and_up_again(database: Database) -> None:
    migrate(database)
    migrate(database, "-base")
    with database.connect(SUPERUSER) as connection:
        left = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"
        )
        assert left.fetchall() == [("alembic_version",)]
        assert schema.check(connection) == []
    migrate(database)
    with database.connect(SUPERUSER) as connection:
        assert schema.check(connection) == []


def test_the_models_say_what_the_migrations_made(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(database)
    monkeypatch.setenv("TENANTRY_MIGRATION_URL", database.dsn(OWNER))
    command.check(Config(FOLDER / "alembic.ini"))


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_removed_member_is_out_although_the_token_is_still_valid(deployment: Deployment, town: Town) -> None:
    client, browser = deployment.sign_in(town.grace, town.acme), deployment.open_browser(town.grace, town.acme)
    assert client.get("/api/documents").status_code == 200
    deployment.clerk.delete(town.place(town.grace))
    deployment.settle()
    assert refusal(client.get("/api/documents")) == (403, "not_a_member")
    assert refusal(client.post("/api/documents", json={"title": "Late"})) == (403, "not_a_member")
    page = browser.get("/")
    assert page.status_code == 403
    assert "Somebody removed you from this organization." in page.text
    assert client.get("/api/me").json()["user_id"] == town.grace  # signed in all the same


def test_who_comes_back_is_let_in_with_a_new_token(deployment: Deployment, town: Town) -> None:
    deployment.clerk.delete(town.place(town.grace))
    deployment.settle()
    time.sleep(1.1)  # tokens tell whole seconds, and within the second of a removal the removal wins
    town.join(deployment.clerk, town.grace, "org:editor")
    deployment.settle()
    assert deployment.sign_in(town.grace, town.acme).get("/api/documents").status_code == 200


def test_a_demoted_member_may_not_delete_any_more(deployment: Deployment, town: Town) -> None:
    boss = deployment.sign_in(town.ada, town.acme)
    town.join(deployment.clerk, town.zoe, "org:admin")
    deployment.settle()
    client = deployment.sign_in(town.zoe, town.acme)
    first, second = write(boss), write(boss)
    assert client.delete(f"/api/documents/{first}").status_code == 204
    deployment.clerk.patch(town.place(town.zoe), {"role": "org:member"})
    deployment.settle()
    assert refusal(client.delete(f"/api/documents/{second}")) == (403, "permission_denied")
    assert refusal(client.put(f"/api/documents/{second}", json={"title": "No"})) == (403, "permission_denied")
    assert client.get(f"/api/documents/{second}").status_code == 200
    assert client.get("/api/organization").json()["role"] == "org:member"


def test_a_promoted_member_may_delete_with_the_token_they_have(deployment: Deployment, town: Town) -> None:
    id = write(deployment.sign_in(town.ada, town.acme))
    client = deployment.sign_in(town.alan, town.acme)
    assert refusal(client.delete(f"/api/documents/{id}")) == (403, "permission_denied")
    deployment.clerk.patch(town.place(town.alan), {"role": "org:admin"})
    deployment.settle()
    assert client.delete(f"/api/documents/{id}").status_code == 204


def test_the_next_token_has_what_a_role_has_become(deployment: Deployment, town: Town) -> None:
    id, draft = write(deployment.sign_in(town.ada, town.acme)), {"title": "Edited"}
    assert deployment.sign_in(town.grace, town.acme).put(f"/api/documents/{id}", json=draft).status_code == 200
    roles = {role["key"]: role for role in deployment.clerk.get("/organization_roles")["data"]}
    update = next(each["id"] for each in roles["org:editor"]["permissions"] if each["key"] == UPDATE)
    deployment.clerk.delete(f"/organization_roles/{roles['org:editor']['id']}/permissions/{update}")
    deployment.settle()
    answer = deployment.sign_in(town.grace, town.acme).put(f"/api/documents/{id}", json=draft)
    assert refusal(answer) == (403, "permission_denied")


@pytest.mark.parametrize(
    ("name", "may"),
    [("ada", (201, 201, 200, 204)), ("grace", (201, 201, 200, 403)), ("alan", (403, 201, 403, 403))],
)
def test_a_role_may_do_what_the_map_and_clerk_say(
    deployment: Deployment, town: Town, name: str, may: tuple[int, ...]
) -> None:
    id = write(deployment.sign_in(town.ada, town.acme))
    client = deployment.sign_in(getattr(town, name), town.acme)
    answers = [
        client.post("/api/documents", json={"title": "New"}),
        client.post(f"/api/documents/{id}/comments", json={"body": "Well said"}),
        client.put(f"/api/documents/{id}", json={"title": "Edited"}),
        client.delete(f"/api/documents/{id}"),
    ]
    assert tuple(answer.status_code for answer in answers) == may


def test_a_just_created_organization_works_before_its_webhook(deployment: Deployment, town: Town) -> None:
    deployment.control("POST", "/webhooks/pause", {})
    kay = deployment.clerk.user("kay")["id"]
    fresh = deployment.clerk.organization("Fresh", created_by=kay)["id"]
    client, browser = deployment.sign_in(kay, fresh), deployment.open_browser(kay, fresh)
    id = write(client, "The first one", "one two")
    assert deployment.wait_for_words(client, id) == 2
    page = browser.get("/")
    assert page.status_code == 200
    assert "The first one" in page.text
    assert "Your organization" in page.text
    assert client.get("/api/organization").json()["name"] is None

    deployment.control("POST", "/webhooks/release", {})
    deployment.settle()
    organization = client.get("/api/organization").json()
    assert organization["name"] == "Fresh"
    assert [member["user_id"] for member in organization["members"]] == [kay]
    assert [found["id"] for found in client.get("/api/documents").json()] == [id]


def test_a_banned_user_is_out(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.grace, town.acme)
    deployment.clerk.post(f"/users/{town.grace}/ban")
    deployment.settle()
    status, code = refusal(client.get("/api/documents"))
    assert (status, code) in {(403, "user_banned"), (401, "session_ended")}


def test_a_deleted_organization_is_gone_for_everybody(deployment: Deployment, town: Town) -> None:
    client, browser = deployment.sign_in(town.ada, town.acme), deployment.open_browser(town.ada, town.acme)
    write(client, SECRET)
    deployment.clerk.delete(f"/organizations/{town.acme}")
    deployment.settle()
    assert refusal(client.get("/api/documents")) == (403, "organization_deleted")
    page = browser.get("/")
    assert (page.status_code, SECRET in page.text) == (403, False)
    assert "This organization is gone" in page.text


async def test_a_job_whose_organization_or_document_is_gone_ends_quietly(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    tenant_id, id = UUID(client.get("/api/organization").json()["id"]), UUID(write(client))
    given = Settings.from_env({"DATABASE_URL": deployment.database.dsn(APP)})
    engine = load_module("database").create_engine(given)
    sessions = scoped(load_module("database").create_sessions(engine))
    count_words = load_module("jobs").count_words

    await count_words(sessions, tenant_id, uuid4())
    await count_words(
        sessions, UUID(deployment.sign_in(town.zoe, town.globex).get("/api/organization").json()["id"]), id
    )
    deployment.clerk.delete(f"/organizations/{town.acme}")
    deployment.settle()
    await count_words(sessions, tenant_id, id)
    await engine.dispose()


def test_an_ended_session_is_signed_out(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.grace, town.acme)
    session = deployment.clerk.get("/sessions", user_id=town.grace)[0]["id"]
    deployment.clerk.post(f"/sessions/{session}/revoke")
    deployment.settle()
    assert refusal(client.get("/api/documents")) == (401, "session_ended")


def test_tokens_that_are_not_this_instances_open_nothing(deployment: Deployment, town: Town) -> None:
    other = Emulator(seed=2)
    client = deployment.client(Authorization=f"Bearer {other.mint_token('ada@example.test', 'Acme')}")
    assert refusal(client.get("/api/documents")) == (401, "invalid_token")
    assert refusal(deployment.client().get("/api/documents")) == (401, "missing_token")


def test_a_database_of_another_instance_refuses_the_token(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    with deployment.database.connect(SUPERUSER) as connection:
        connection.execute("update tenantry.clerk_instance set instance_id = 'ins_of_production'")
    assert refusal(client.get("/api/documents")) == (403, "wrong_instance")


def test_no_organization_and_another_one_than_expected_are_told_apart(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    answer = client.get("/api/documents", headers={"Tenantry-Expected-Org": town.globex})
    assert refusal(answer) == (409, "organization_mismatch")


# --- the mirror -------------------------------------------------------------------------------------------------------


def test_webhooks_in_disorder_end_in_what_clerk_has(database: Database) -> None:
    with deploy(database, disorder=Disorder(twice=0.25, late=0.25, swapped=0.25, lost=0.25)) as deployment:
        clerk = deployment.clerk
        users = [clerk.user(f"person{number}")["id"] for number in range(12)]
        organizations = [clerk.organization(f"Org {number}", created_by=users[number])["id"] for number in range(3)]
        for number, user in enumerate(users[3:]):
            place = f"/organizations/{organizations[number % 3]}/memberships"
            clerk.post(place, {"user_id": user, "role": "org:member"})
            if number % 2:
                clerk.patch(f"{place}/{user}", {"role": "org:editor"})
            if number % 3 == 1:
                clerk.delete(f"{place}/{user}")
            if number % 6 == 1:
                clerk.post(place, {"user_id": user, "role": "org:admin"})
        clerk.delete(f"/users/{users[11]}")
        clerk.delete(f"/organizations/{organizations[2]}")
        clerk.patch(f"/organizations/{organizations[0]}", {"name": "Renamed"})
        deployment.settle()
        assert deployment.resend_lost() > 0
        for delivery in deployment.control("GET", "/deliveries")["data"][::3]:  # and some again, long after
            deployment.control("POST", f"/deliveries/{delivery['id']}/resend", {})
        deployment.settle()

        assert deployment.mirrored_members() == deployment.true_members()
        assert {org for org, _, _ in deployment.true_members()} == set(organizations[:2])
        told = deployment.sign_in(users[0], organizations[0]).get("/api/organization").json()
        assert told["name"] == "Renamed"
        here = {(user, role) for org, user, role in deployment.true_members() if org == organizations[0]}
        assert {(member["user_id"], member["role"]) for member in told["members"]} == here


# --- the pages --------------------------------------------------------------------------------------------------------


def test_a_click_brings_a_ticket_of_that_person_to_the_sign_in_page(deployment: Deployment, town: Town) -> None:
    visitor = deployment.client()
    welcome = visitor.get("/").text
    assert "Sign in as </span>Grace" in welcome
    assert "Editor in Acme" in welcome
    sent_on = visitor.post("/dev/sign-in", data={"user": town.grace})
    assert sent_on.status_code == 303
    place = sent_on.headers["location"]
    assert re.fullmatch(r"/sign-in\?__clerk_ticket=[\w.-]+", place)
    assert visitor.get(place).status_code == 200
    assert visitor.post("/dev/sign-in", data={"user": "user_of_nowhere"}).status_code == 404


@pytest.mark.parametrize("origin", ["https://evil.test", "http://127.0.0.1:1", "null", "", "http://["])
def test_a_page_of_another_site_signs_nobody_in(deployment: Deployment, town: Town, origin: str) -> None:
    visitor = deployment.client()
    assert visitor.post("/dev/sign-in", data={"user": town.grace}, headers={"origin": origin}).status_code == 403
    own = visitor.post("/dev/sign-in", data={"user": town.grace}, headers={"origin": deployment.url})
    assert own.status_code == 303


def test_an_editor_writes_and_may_not_delete(deployment: Deployment, town: Town) -> None:
    browser = deployment.open_browser(town.grace, town.acme)
    made = browser.post("/documents", data={"title": "From the page", "body": "A <b>text</b>.", "language": "fr"})
    assert made.status_code == 303
    page = browser.get(made.headers["location"]).text
    assert all(part in page for part in ("From the page", "A &lt;b&gt;text&lt;/b&gt;.", "French", "Grace"))
    assert "Save changes" in page
    assert "Delete this document" not in page
    assert browser.post(f"{made.headers['location']}/delete").status_code == 403
    assert "From the page" in browser.get("/").text


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up"])
def test_signing_in_is_open_to_everybody(deployment: Deployment, town: Town, path: str) -> None:
    expired, member = (
        deployment.open_browser(town.ada, town.acme, age=4000),
        deployment.open_browser(town.ada, town.acme),
    )
    for browser in (deployment.client(), expired, member):
        assert browser.get(path).status_code == 200


def test_a_page_of_another_organization_than_the_active_one_says_so(deployment: Deployment, town: Town) -> None:
    browser = deployment.open_browser(town.ada, town.acme)
    write(deployment.sign_in(town.zoe, town.globex), SECRET)
    assert browser.get(f"/orgs/{town.acme}").status_code == 200
    page = browser.get(f"/orgs/{town.globex}")
    assert page.status_code == 409
    assert "another organization" in page.text
    assert SECRET not in page.text


@pytest.mark.parametrize(
    ("required", "status", "title", "component"),
    [
        (False, 403, "Choose an organization", "OrganizationList"),
        (True, 401, "One more step", "TaskChooseOrganization"),
    ],
)
def test_who_is_in_no_organization_may_choose_one(
    deployment: Deployment, town: Town, required: bool, status: int, title: str, component: str
) -> None:
    state = deployment.clerk.emulator.store.state
    state.put_settings(replace(state.settings, membership_required=required))
    page = deployment.open_browser(town.ada, "").get("/")
    assert page.status_code == status
    assert title in page.text
    assert f'data-clerk-component="{component}"' in page.text


def test_an_admin_edits_comments_on_and_deletes_a_document(deployment: Deployment, town: Town) -> None:
    browser, api = deployment.open_browser(town.ada, town.acme), deployment.sign_in(town.ada, town.acme)
    there = f"/documents/{write(api)}"
    assert browser.post(there, data={"title": "Better", "body": "one two three four"}).status_code == 303
    assert deployment.wait_for_words(api, there.rpartition("/")[2]) == 4
    assert browser.post(f"{there}/comments", data={"body": "Agreed <3"}).status_code == 303
    page = browser.get(there).text
    assert all(part in page for part in ("Better", "4 words", "Agreed &lt;3", "edited just now"))
    assert browser.post(f"{there}/delete").status_code == 303
    assert browser.get(there).status_code == 404


@pytest.mark.attack(100)
def test_names_are_text_and_never_markup(deployment: Deployment, town: Town) -> None:
    evil = '"><script>alert(1)</script>'
    mallory = deployment.clerk.user("mallory", first_name=evil)["id"]
    organization = deployment.clerk.organization("Plain", created_by=mallory)
    deployment.settle()
    # Clerk refuses such a name today; an app must not have to trust that.
    deployment.deliver(
        "organization.updated", organization | {"name": evil, "updated_at": organization["updated_at"] + 1}
    )
    organization = organization["id"]
    browser = deployment.open_browser(mallory, organization)
    there = browser.post("/documents", data={"title": evil, "body": evil}).headers["location"]
    browser.post(f"{there}/comments", data={"body": evil})
    for page in (
        browser.get("/"),
        browser.get(there),
        browser.get("/?search=%22%3E%3Cscript%3E"),
        deployment.client().get("/"),
    ):
        assert page.status_code == 200
        assert "&lt;script&gt;" in page.text
        assert "<script>" not in page.text  # the page's own have a source
        policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
        assert "unsafe" not in policy["script-src"]
        assert policy["default-src"] == "'self'"


def test_an_expired_cookie_says_so_and_offers_to_sign_in_again(deployment: Deployment, town: Town) -> None:
    browser = deployment.open_browser(town.ada, town.acme, age=4000)
    page = browser.get("/")
    assert (page.status_code, page.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert "Your session is being renewed." in page.text
    assert 'href="/sign-in#/?redirect_url=/"' in page.text


@pytest.mark.attack(78)
def test_a_form_on_another_site_changes_nothing(deployment: Deployment, town: Town) -> None:
    browser = deployment.open_browser(town.ada, town.acme)
    for origin in ("https://evil.test", "null"):
        answer = browser.post("/documents", data={"title": "Forged"}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "nothing was changed" in answer.text
    del browser.headers["Origin"]
    assert browser.post("/documents", data={"title": "Forged"}).status_code == 403
    assert "Forged" not in browser.get("/").text


def test_the_emulators_people_are_offered_beside_the_emulator_alone(database: Database) -> None:
    with deploy(database, TENANTRY_EMULATOR_URL="") as deployment:
        page = deployment.client().get("/")
        assert page.status_code == 200
        assert 'href="/sign-in"' in page.text
        assert "emulator" not in page.text
        assert deployment.client().post("/dev/sign-in", data={"user": "a"}).status_code == 404


def test_an_emulator_beside_a_live_instance_is_refused(database: Database) -> None:
    environ = {"DATABASE_URL": database.dsn(APP), "CLERK_SECRET_KEY": "sk_live_0123456789"}
    environ |= {"CLERK_ISSUER": "https://clerk.example.com"}
    with pytest.raises(ConfigurationError, match="beside a live Clerk key"):
        create_example(environ | {"TENANTRY_EMULATOR_URL": "http://127.0.0.1:4010"})


def test_one_command_runs_it_beside_database_and_emulator(open_tmp_path: Path) -> None:
    run = [
        "--app",
        "documents.main:app",
        "--app-dir",
        str(FOLDER),
        "--migrate",
        f"{sys.executable} -m alembic upgrade head",
    ]
    kept = ["--data", str(open_tmp_path / "data"), "--port", "0", "--emulator-port", "0"]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "TENANTRY_", "CLERK_"))
    }
    command = [sys.executable, "-m", "tenantry", "dev", *run, *kept]
    with subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        printed = ""
        while "Webhooks delivered" not in printed and (line := process.stdout.readline()):
            printed += line
        try:
            found = re.search(r"App +(http://127\.0\.0\.1:\d+)", printed)
            assert found, printed
            page = httpx.get(found[1], trust_env=False)
            assert (page.status_code, "Sign in as" in page.text) == (200, True)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    assert process.returncode == 0


# --- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "status"),
    [
        ({"title": ""}, 422),
        ({"title": "   "}, 422),
        ({"title": "x" * 201}, 422),
        ({"title": "nul \0"}, 422),
        ({"title": "t", "body": "\0"}, 422),
        ({"title": "t", "language": "xx"}, 422),
        ({"title": "t", "language": "'; drop table documents; --"}, 422),
        ({"title": "t", "language": "de", "tenant_id": str(uuid4()), "author": "user_other"}, 201),
        ([], 422),
        (None, 422),
    ],
)
def test_a_draft_is_read_strictly(deployment: Deployment, town: Town, draft: Any, status: int) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    answer = client.post("/api/documents", json=draft)
    assert answer.status_code == status, answer.text
    if status == 201:
        assert answer.json()["author"] == town.ada
        assert len(client.get("/api/documents").json()) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=st.text(max_size=40), body=st.text(max_size=200), search=st.text(max_size=40))
def test_no_text_is_a_server_error(deployment: Deployment, town: Town, title: str, body: str, search: str) -> None:
    form = {"title": title.encode(errors="replace").decode(), "body": body.encode(errors="replace").decode()}
    with deployment.open_browser(town.ada, town.acme) as browser:
        made = browser.post("/documents", data=form)
        assert made.status_code in (303, 422)
        if made.status_code == 303:
            assert browser.get(made.headers["location"]).status_code == 200
        found = browser.get("/", params={"search": search.encode(errors="replace").decode()})
        assert found.status_code in (200, 422)


def test_a_search_takes_its_signs_literally(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    write(client, "100% sure")
    write(client, "under_score")
    for search, title in (("%", "100% sure"), ("_", "under_score"), ("SURE", "100% sure")):
        assert [found["title"] for found in client.get("/api/documents", params={"search": search}).json()] == [title]


def test_the_newest_twenty_are_listed(deployment: Deployment, town: Town) -> None:
    client = deployment.sign_in(town.ada, town.acme)
    for number in range(22):
        write(client, f"Number {number}")
    titles = [found["title"] for found in client.get("/api/documents").json()]
    assert titles == [f"Number {number}" for number in range(21, 1, -1)]
