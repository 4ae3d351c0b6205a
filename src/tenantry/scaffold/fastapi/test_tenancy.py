"""Each organization has its own rows, and only Clerk tells this app who belongs where."""

import psycopg
import pytest

from tenantry.testing import check_isolation

TABLES = ["TABLE"]


def test_every_table_is_isolated_or_shared(tenantry_database):
    check_isolation(tenantry_database)


@pytest.mark.parametrize("table", TABLES)
def test_a_query_without_a_tenant_is_refused(tenantry_database, table):
    with psycopg.connect(tenantry_database.url) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(f'select * from "{table}"')
    assert refused.value.sqlstate == "TY001"


def test_a_delivery_that_clerk_did_not_sign_is_refused(client):
    assert client.post("/webhooks/clerk", content=b"{}").status_code == 400


def test_a_member_who_left_is_known_to_have_left(client, make_tenant):
    ada = make_tenant("Acme").member("ada")
    told = ada.webhook("organizationMembership.deleted")
    answer = client.post("/webhooks/clerk", content=told.body, headers=told.headers)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "applied")
