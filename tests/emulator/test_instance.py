"""The instance: keys an app and Clerk's SDKs can use, the same for the same seed."""

import base64
import json
import stat
from pathlib import Path

import pytest

from tenantry.emulator.instance import derive_instance, derive_webhook_secret, open_instance


def test_the_key_is_rsa_2048_with_exponent_65537() -> None:
    key = derive_instance(1).private_key
    assert (key.key_size, key.public_key().public_numbers().e) == (2048, 65537)


def test_one_seed_is_one_instance_and_another_seed_another() -> None:
    assert derive_instance(1) == derive_instance(1)
    one, two = derive_instance(1), derive_instance(2)
    assert one.private_key_pem != two.private_key_pem
    assert {one.id, one.secret_key, one.webhook_secret}.isdisjoint({two.id, two.secret_key, two.webhook_secret})


def test_the_publishable_key_names_the_frontend_host() -> None:
    instance = derive_instance(1)
    encoded = instance.publishable_key.removeprefix("pk_test_")
    assert base64.b64decode(encoded + "=" * (-len(encoded) % 4)) == b"clerk.emulator.test$"
    assert instance.issuer == "https://clerk.emulator.test"


def test_the_key_set_holds_the_public_key_under_the_instance_id() -> None:
    instance = derive_instance(1)
    (key,) = instance.jwks["keys"]
    n = int.from_bytes(base64.urlsafe_b64decode(key["n"] + "=" * (-len(key["n"]) % 4)), "big")
    assert (key["kid"], key["alg"], key["e"]) == (instance.id, "RS256", "AQAB")
    assert n == instance.private_key.public_key().public_numbers().n


def test_the_environment_is_named_as_clerk_names_it() -> None:
    instance = derive_instance(1)
    environment = instance.environment("http://127.0.0.1:4010/")
    assert environment == {
        "CLERK_PUBLISHABLE_KEY": instance.publishable_key,
        "CLERK_SECRET_KEY": instance.secret_key,
        "CLERK_API_URL": "http://127.0.0.1:4010",
        "CLERK_PROXY_URL": "/__clerk",
        "CLERK_WEBHOOK_SIGNING_SECRET": instance.webhook_secret,
    }
    assert instance.environment("http://x", jwt_key=True)["CLERK_JWT_KEY"].startswith("-----BEGIN PUBLIC KEY-----")


def test_each_endpoint_has_a_secret_of_its_own() -> None:
    assert len({derive_webhook_secret(1, number) for number in range(5)}) == 5


def test_a_folder_keeps_its_instance_whatever_seed_comes_later(tmp_path: Path) -> None:
    first = open_instance(tmp_path / "new", 1)
    assert open_instance(tmp_path / "new", 2) == first


def test_only_its_owner_can_read_the_kept_keys(tmp_path: Path) -> None:
    open_instance(tmp_path, 1)
    assert stat.S_IMODE((tmp_path / "instance.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"id": "ins_1"})])
def test_a_damaged_instance_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "instance.json").write_text(content)
    with pytest.raises(ValueError, match=r"instance\.json is damaged"):
        open_instance(tmp_path, 1)
