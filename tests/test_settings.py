"""The environment becomes Settings, or one error that names the variable and the fix."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signer import Signer
from tenantry.errors import ConfigurationError
from tenantry.settings import Settings, normalise_origin

HOST = "happy-otter-12.clerk.accounts.dev"
PUBLISHABLE_KEY = "pk_test_" + base64.b64encode(f"{HOST}$".encode()).decode()
SIGNING_SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
SIGNER = Signer()


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.api_url == "https://api.clerk.com"
    assert (settings.membership_source, settings.personal_accounts) == ("mirror", "refuse")
    assert (settings.token_leeway, settings.max_token_life, settings.webhook_max_bytes) == (5, 86_400, 1_048_576)
    assert (settings.allow_privileged_login, settings.keep_private_metadata) == (False, False)
    assert (settings.roles_file, settings.issuers, settings.cookie_suffix) == (None, (), None)
    assert settings.development


def test_every_variable_is_read() -> None:
    Path("roles.toml").write_text("")
    settings = Settings.from_env(
        {
            "CLERK_PUBLISHABLE_KEY": f" {PUBLISHABLE_KEY} ",
            "CLERK_SECRET_KEY": "sk_test_secret",
            "CLERK_JWT_KEY": SIGNER.pem,
            "CLERK_WEBHOOK_SIGNING_SECRET": f"{SIGNING_SECRET}, {SIGNING_SECRET}",
            "CLERK_API_URL": "http://127.0.0.1:4010/v1/",
            "CLERK_ISSUER": "https://clerk.example.com http://127.0.0.1:4010/__clerk",
            "CLERK_AUTHORIZED_PARTIES": "https://App.Example.com:443/, http://localhost:3000",
            "DATABASE_URL": "postgres://user:password@db/name",
            "TENANTRY_MEMBERSHIP_SOURCE": "Token",
            "TENANTRY_PERSONAL_ACCOUNTS": "allow",
            "TENANTRY_ALLOW_PRIVILEGED_LOGIN": "true",
            "TENANTRY_KEEP_PRIVATE_METADATA": "1",
            "TENANTRY_TOKEN_LEEWAY": "0",
            "TENANTRY_MAX_TOKEN_LIFE": "60",
            "TENANTRY_WEBHOOK_MAX_BYTES": "2048",
            "TENANTRY_ROLES_FILE": "roles.toml",
            "TENANTRY_STREAM_INTERVAL": "10",
            "TENANTRY_LISTEN_URL": "postgresql+asyncpg://user:password@direct/name",
            "TENANTRY_JOB_SECRET": f"{'a' * 32},{'b' * 40}",
        }
    )
    assert settings == Settings(
        publishable_key=PUBLISHABLE_KEY,
        secret_key="sk_test_secret",
        jwt_key=SIGNER.pem,
        webhook_signing_secrets=(SIGNING_SECRET,),
        api_url="http://127.0.0.1:4010",
        issuers=("https://clerk.example.com", "http://127.0.0.1:4010/__clerk"),
        authorized_parties=frozenset({"https://app.example.com", "http://localhost:3000"}),
        database_url="postgresql://user:password@db/name",
        membership_source="token",
        personal_accounts="allow",
        allow_privileged_login=True,
        keep_private_metadata=True,
        token_leeway=0,
        max_token_life=60,
        webhook_max_bytes=2048,
        roles_file=Path("roles.toml"),
        stream_interval=10,
        listen_url="postgresql://user:password@direct/name",
        job_secrets=("a" * 32, "b" * 40),
    )


@pytest.mark.parametrize("key", [PUBLISHABLE_KEY, PUBLISHABLE_KEY.rstrip("=")])
def test_the_publishable_key_names_the_issuer(key: str) -> None:
    assert Settings.from_env({"CLERK_PUBLISHABLE_KEY": key}).issuers == (f"https://{HOST}",)


def test_another_publishable_key_names_another_issuer_unless_one_was_given() -> None:
    other = "pk_test_" + base64.b64encode(b"other.clerk.accounts.dev$").decode()
    derived = Settings.from_env({"CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY})
    assert derived.replace(publishable_key=other).issuers == ("https://other.clerk.accounts.dev",)
    given = derived.replace(issuers="https://clerk.example.com")
    assert given.replace(publishable_key=other).issuers == ("https://clerk.example.com",)


@pytest.mark.parametrize(
    ("key", "suffix"),  # as getCookieSuffix of @clerk/shared 4.41.0 answers
    [(PUBLISHABLE_KEY, "GS7nYzmc"), ("pk_test_Y2xlcmsuZXhhbXBsZS5jb20k", "l2OS3d9k"), ("pk_test_ZS5mJA==", "ecGzgC-W")],
)
def test_the_publishable_key_names_the_cookie(key: str, suffix: str) -> None:
    assert Settings.from_env({"CLERK_PUBLISHABLE_KEY": key}).cookie_suffix == suffix


@pytest.mark.parametrize(
    ("keys", "development"),
    [
        ({}, True),
        ({"publishable_key": PUBLISHABLE_KEY}, True),
        ({"publishable_key": PUBLISHABLE_KEY.replace("test", "live", 1)}, False),
        ({"secret_key": "sk_test_x"}, True),
        ({"secret_key": "sk_live_x"}, False),
    ],
)
def test_a_live_key_ends_development(keys: dict[str, str], development: bool) -> None:
    assert Settings.from_env({}, **keys).development is development


def test_keys_of_two_instances_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one is a test key and one is live"):
        Settings.from_env({"CLERK_PUBLISHABLE_KEY": PUBLISHABLE_KEY, "CLERK_SECRET_KEY": "sk_live_x"})


def test_the_older_webhook_variable_counts_where_the_newer_is_unset() -> None:
    older = {"CLERK_WEBHOOK_SECRET": SIGNING_SECRET}
    newer = "whsec_" + base64.b64encode(b"n" * 24).decode()
    assert Settings.from_env(older).webhook_signing_secrets == (SIGNING_SECRET,)
    assert Settings.from_env(older | {"CLERK_WEBHOOK_SIGNING_SECRET": newer}).webhook_signing_secrets == (newer,)
    assert Settings.from_env(older | {"CLERK_WEBHOOK_SIGNING_SECRET": " "}).webhook_signing_secrets == (SIGNING_SECRET,)


@pytest.mark.parametrize(
    "spoil", [str, lambda pem: pem.replace("\n", "\\n"), lambda pem: pem.replace("\n", " ").strip()]
)
def test_a_pem_key_survives_what_environment_files_do_to_newlines(spoil: Any) -> None:
    assert Settings.from_env({"CLERK_JWT_KEY": spoil(SIGNER.pem)}).jwt_key == SIGNER.pem


def test_the_roles_file_is_used_where_it_lies() -> None:
    Path("tenantry.toml").write_text("")
    assert Settings.from_env({}).roles_file == Path("tenantry.toml")


def test_an_override_wins_as_text_or_as_a_value() -> None:
    environ = {"TENANTRY_TOKEN_LEEWAY": "7", "DATABASE_URL": "postgresql://a/b"}
    settings = Settings.from_env(environ, token_leeway=9, authorized_parties="HTTP://localhost:80/")
    assert (settings.token_leeway, settings.authorized_parties) == (9, frozenset({"http://localhost"}))
    assert Settings.from_env(environ, database_url=None).database_url is None
    assert settings.replace(reconcile="15m", token_leeway=None) == Settings.from_env(
        environ, token_leeway=9, authorized_parties="http://localhost", reconcile=900
    )
    with pytest.raises(ConfigurationError, match="tokn_leeway"):
        Settings.from_env({}, tokn_leeway=1)
    with pytest.raises(ConfigurationError, match="tokn_leeway"):
        settings.replace(tokn_leeway=1)
    with pytest.raises(ConfigurationError, match="TENANTRY_TOKEN_LEEWAY"):
        Settings.from_env({}, token_leeway="soon")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLERK_PUBLISHABLE_KEY", "pk_test_"),
        ("CLERK_PUBLISHABLE_KEY", "pk_prod_abc"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_????"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_" + base64.b64encode(b"clerk.example.com").decode()),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_" + base64.b64encode(b"evil.com/path$").decode()),
        ("CLERK_SECRET_KEY", "pk_test_abc"),
        ("CLERK_SECRET_KEY", "sk_test_a b"),
        ("CLERK_JWT_KEY", "not a key"),
        ("CLERK_JWT_KEY", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"),
        ("CLERK_JWT_KEY", "-----BEGIN PUBLIC KEY-----\n??\n-----END PUBLIC KEY-----"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_short"),
        ("CLERK_WEBHOOK_SECRET", f"{SIGNING_SECRET},notasecretatall"),
        ("CLERK_API_URL", "api.clerk.com"),
        ("CLERK_API_URL", "ftp://api.clerk.com"),
        ("CLERK_API_URL", "https://user:hunter2@api.clerk.com"),
        ("CLERK_API_URL", "https://api.clerk.com:99999"),
        ("CLERK_ISSUER", "clerk.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "*"),
        ("CLERK_AUTHORIZED_PARTIES", "https://*.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "app.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com/path"),
        ("CLERK_AUTHORIZED_PARTIES", "https://bücher.example"),
        ("DATABASE_URL", "mysql://user:hunter2@db/name"),
        ("DATABASE_URL", "host=db password=hunter2"),
        ("TENANTRY_MEMBERSHIP_SOURCE", "clerk"),
        ("TENANTRY_PERSONAL_ACCOUNTS", "yes"),
        ("TENANTRY_ALLOW_PRIVILEGED_LOGIN", "maybe"),
        ("TENANTRY_KEEP_PRIVATE_METADATA", "2"),
        ("TENANTRY_TOKEN_LEEWAY", "-1"),
        ("TENANTRY_TOKEN_LEEWAY", "5s"),
        ("TENANTRY_MAX_TOKEN_LIFE", "1e9"),
        ("TENANTRY_WEBHOOK_MAX_BYTES", "٤٠٩٦"),
        ("TENANTRY_ROLES_FILE", "missing.toml"),
        ("TENANTRY_STREAM_INTERVAL", "-1"),
        ("TENANTRY_LISTEN_URL", "https://db/name"),
        ("TENANTRY_JOB_SECRET", f"{'a' * 32},{'b' * 31}"),
    ],
)
def test_a_bad_value_is_refused_with_the_variable_and_a_fix(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: value})
    assert variable in caught.value.message
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


SECRETS = ["CLERK_SECRET_KEY", "CLERK_JWT_KEY", "CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SECRET", "DATABASE_URL"]


@pytest.mark.parametrize("variable", SECRETS)
def test_an_error_never_shows_a_secret(variable: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env({variable: "sk-hunter2-verysecret"})
    assert "hunter2" not in str(caught.value)


def test_settings_hide_their_secrets_when_printed() -> None:
    settings = Settings(
        secret_key="sk_test_hunter2",
        jwt_key="hunter2",
        webhook_signing_secrets=("hunter2",),
        job_secrets=("hunter2",),
        listen_url="postgresql://app:hunter2@db/name",
        database_url="postgresql://user:hunter2@db/name",
    )
    assert "hunter2" not in repr(settings)


VARIABLES = [
    *SECRETS,
    *["CLERK_PUBLISHABLE_KEY", "CLERK_API_URL", "CLERK_ISSUER", "CLERK_AUTHORIZED_PARTIES"],
    *["TENANTRY_MEMBERSHIP_SOURCE", "TENANTRY_PERSONAL_ACCOUNTS", "TENANTRY_ALLOW_PRIVILEGED_LOGIN"],
    *["TENANTRY_KEEP_PRIVATE_METADATA", "TENANTRY_TOKEN_LEEWAY", "TENANTRY_MAX_TOKEN_LIFE"],
    *["TENANTRY_WEBHOOK_MAX_BYTES", "TENANTRY_ROLES_FILE"],
    *["TENANTRY_STREAM_INTERVAL", "TENANTRY_LISTEN_URL", "TENANTRY_JOB_SECRET"],
]
starts = st.sampled_from(["", "pk_test_", "sk_live_", "whsec_", "https://", "http://[", "postgresql://", "x://@", "/"])


@given(st.sampled_from(VARIABLES), starts, st.text(st.characters(codec=None)))
def test_any_environment_is_settings_or_one_clear_error(variable: str, start: str, text: str) -> None:
    try:
        Settings.from_env({variable: start + text})
    except ConfigurationError as error:
        assert variable in error.message


@pytest.mark.parametrize(
    ("origin", "normal"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443/", "https://app.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://app.example.com:80", "https://app.example.com:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_is_normalised_as_a_browser_sends_it(origin: str, normal: str) -> None:
    assert normalise_origin(origin) == normal
    assert normalise_origin(normal) == normal


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900), ("90s", 90), ("6H", 21_600), ("7d", 604_800), ("off", 0)])
def test_how_often_to_reconcile_is_a_time(text: str, seconds: int) -> None:
    assert Settings.from_env({"TENANTRY_RECONCILE": text}).reconcile == seconds
    assert Settings.from_env({}, reconcile=text).reconcile == seconds
    assert Settings.from_env({"TENANTRY_SILENCE": text}).silence == seconds


@pytest.mark.parametrize("text", ["15", "m", "-1m", "30s", "8d", "1.5h", "0m"])
def test_what_is_no_time_to_reconcile_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="TENANTRY_RECONCILE") as caught:
        Settings.from_env({"TENANTRY_RECONCILE": text})
    assert "15m" in str(caught.value)
