"""The environment: what the instance allows, and thereby what Clerk's components offer.

What the emulator does not do is switched off here, so that no component offers it; nothing here makes a page load
anything from the internet.
"""

from __future__ import annotations

import base64
from typing import Any

from tenantry.emulator.frontend_api.render.attempts import PEOPLE_STRATEGY
from tenantry.emulator.frontend_api.render.users import may_create_organizations
from tenantry.emulator.state import State
from tenantry.emulator.store.users import PASSWORD_MAX, PASSWORD_MIN

Json = dict[str, Any]

_OFF: Json = {
    "enabled": False,
    "required": False,
    "used_for_first_factor": False,
    "first_factors": [],
    "used_for_second_factor": False,
    "second_factors": [],
    "verifications": [],
    "verify_at_sign_up": False,
    "immutable": False,
}
_UNUSED = ("phone_number", "username", "web3_wallet", "authenticator_app", "backup_code", "passkey")
# Two people, drawn here; the components put it into a CSS url() without quotes.
_PEOPLE_DRAWING = b"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="#808089"><circle cx="9" cy="8" r="4"/>\
<path d="M1 21a8 8 0 0 1 16 0zM15 4.3a4 4 0 0 1 0 7.4M18.8 21H23a7 7 0 0 0-6-7"/></svg>"""


def environment(state: State, instance_id: str, origin: str) -> Json:
    """`origin` is the page's: every URL in it leads there."""
    return {
        "auth_config": _auth_config(state, instance_id),
        "display_config": _display_config(state, instance_id, origin),
        "user_settings": _user_settings(state),
        "organization_settings": _organization_settings(state),
        "fraud_settings": {"object": "fraud_settings", "native": {"device_attestation_mode": "disabled"}},
        "commerce_settings": {"billing": _billing()},
        "api_keys_settings": {"enabled": False, "user_api_keys_enabled": False, "orgs_api_keys_enabled": False},
        "protect_config": {"loaders": []},
        "client_debug_mode": False,
        "partitioned_cookies": False,
        "maintenance_mode": False,
    }


def _auth_config(state: State, instance_id: str) -> Json:
    return {
        "object": "auth_config",
        "id": instance_id,
        "first_name": "on",
        "last_name": "on",
        "email_address": "required",
        "phone_number": "off",
        "username": "off",
        "password": "required",
        "identification_requirements": [["email_address"], []],
        "identification_strategies": ["email_address", PEOPLE_STRATEGY],
        "first_factors": ["email_code", PEOPLE_STRATEGY, "password", "reset_password_email_code", "ticket"],
        "second_factors": [],
        "email_address_verification_strategies": ["email_code"],
        "single_session_mode": state.settings.single_session,
        "enhanced_email_deliverability": False,
        "test_mode": True,
        "cookieless_dev": False,
        "url_based_session_syncing": False,
        "claimed_at": None,
        "reverification": True,
        "native_settings": {
            "object": "native_settings",
            "api_enabled": False,
            "trusted_device_sign_in_enabled": False,
            "trusted_device_enrollment_prompt_after_sign_in_enabled": False,
            "trusted_device_enrollment_prompt_after_sign_up_enabled": False,
        },
    }


def _display_config(state: State, instance_id: str, origin: str) -> Json:
    pages = {
        "home_url": "",
        "sign_in_url": "/sign-in",
        "sign_up_url": "/sign-up",
        "user_profile_url": "/user",
        "waitlist_url": "/waitlist",
        "oauth_consent_url": "/oauth-consent",
        "after_sign_in_url": "/",
        "after_sign_up_url": "/",
        "after_sign_out_one_url": "/sign-in",
        "after_sign_out_all_url": "/sign-in",
        "after_switch_session_url": "/",
        "after_join_waitlist_url": "/",
        "organization_profile_url": "/organization",
        "create_organization_url": "/create-organization",
        "after_leave_organization_url": "/",
        "after_create_organization_url": "/",
        "logo_link_url": "",
    }
    absent = (
        "support_email", "clerk_js_version", "google_one_tap_client_id", "help_url", "privacy_policy_url", "terms_url",
        "logo_url", "favicon_url", "logo_image", "favicon_image", "captcha_public_key", "captcha_widget_type",
        "captcha_public_key_invisible", "captcha_provider", "logo_image_url", "favicon_image_url",
    )  # fmt: skip
    return {
        "object": "display_config",
        "id": instance_id,
        "instance_environment_type": "development",
        "application_name": state.settings.application_name,
        "theme": {},
        "preferred_sign_in_strategy": "password",
        "branded": False,
        "experimental_force_oauth_first": False,
        "show_devmode_warning": False,
        "captcha_oauth_bypass": [],
        "captcha_heartbeat": False,
        **{name: origin + path for name, path in pages.items()},
        **dict.fromkeys(absent),
    }


def _user_settings(state: State) -> Json:
    off = {"enabled": False}
    return {
        "attributes": _attributes(),
        "social": {PEOPLE_STRATEGY: _people_provider()},
        "saml": {"enabled": False, "self_serve_sso": False},
        "enterprise_sso": {"enabled": False, "self_serve_sso": False},
        "sign_in": {"second_factor": {"required": False}},
        "sign_up": {
            "captcha_enabled": False,
            "captcha_widget_type": "invisible",
            "custom_action_required": False,
            "progressive": True,
            "mode": "public",
            "legal_consent_enabled": False,
        },
        "restrictions": {
            "allowlist": off,
            "blocklist": off,
            "allowlist_blocklist_disabled_on_sign_in": off,
            "block_email_subaddresses": off,
            "block_disposable_email_domains": off,
        },
        "password_settings": _password_settings(),
        "username_settings": {
            "min_length": 4,
            "max_length": 64,
            "allow_extended_special_characters": False,
            "allow_numeric_usernames": False,
        },
        "actions": {
            "delete_self": True,
            "create_organization": may_create_organizations(state),
            "create_organizations_limit": None,
        },
        "attack_protection": {
            "user_lockout": {"enabled": False, "max_attempts": 100, "duration_in_minutes": 60},
            "pii": {"enabled": False},
            "email_link": {"require_same_client": False},
            "enumeration_protection": {"enabled": False},
        },
        "passkey_settings": {"allow_autofill": False, "show_sign_in_button": False, "satisfies_second_factor": False},
    }


def _attributes() -> Json:
    email = {
        **_OFF,
        "enabled": True,
        "required": True,
        "used_for_first_factor": True,
        "first_factors": ["email_code"],
        "verifications": ["email_code"],
        "verify_at_sign_up": True,
    }
    name = {**_OFF, "enabled": True}
    return {
        **dict.fromkeys(_UNUSED, _OFF),
        "email_address": email,
        "first_name": name,
        "last_name": name,
        "password": {**_OFF, "enabled": True, "required": True},
        "ticket": {**_OFF, "enabled": True},
    }


def _people_provider() -> Json:
    return {
        "enabled": True,
        "required": False,
        "authenticatable": True,
        "block_email_subaddresses": False,
        "strategy": PEOPLE_STRATEGY,
        "not_selectable": False,
        "deprecated": False,
        "name": "Seeded person",
        "logo_url": f"data:image/svg+xml;base64,{base64.b64encode(_PEOPLE_DRAWING).decode()}",
    }


def _password_settings() -> Json:
    return {
        "disable_hibp": True,
        "disable_password_reverification": False,
        "min_length": PASSWORD_MIN,
        "max_length": PASSWORD_MAX,
        "require_special_char": False,
        "require_numbers": False,
        "require_uppercase": False,
        "require_lowercase": False,
        "show_zxcvbn": False,
        "min_zxcvbn_strength": 0,
        "enforce_hibp_on_sign_in": False,
        "allowed_special_characters": "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~",
    }


def _organization_settings(state: State) -> Json:
    settings = state.settings
    return {
        "enabled": settings.enabled,
        "max_allowed_memberships": settings.max_allowed_memberships,
        "force_organization_selection": settings.needs_organization,
        "actions": {"admin_delete": settings.admin_delete_enabled},
        "domains": {
            "enabled": settings.domains_enabled,
            "enrollment_modes": [mode for mode in settings.domains_enrollment_modes if mode != "enterprise_sso"],
            "default_role": settings.domains_default_role,
        },
        "slug": {"disabled": not settings.slugs},
        "creator_role": settings.creator_role,
    }


def _billing() -> Json:
    nothing = {"enabled": False, "has_paid_plans": False}
    return {
        "stripe_publishable_key": None,
        "free_trial_requires_payment_method": False,
        "user": nothing,
        "organization": nothing,
    }
