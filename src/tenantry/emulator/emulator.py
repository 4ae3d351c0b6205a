"""The emulator as one object: its identity, its data, its webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tenantry.emulator.deliveries import Attempt
from tenantry.emulator.disorder import Disorder, refuses
from tenantry.emulator.instance import open_instance
from tenantry.emulator.journal import Journal
from tenantry.emulator.ratelimit import RateLimiter
from tenantry.emulator.records import Session
from tenantry.emulator.seed import DEFAULT, Seed, plant
from tenantry.emulator.settings import Options
from tenantry.emulator.store import Store
from tenantry.emulator.store.core import clock_in_milliseconds
from tenantry.emulator.tokens import TokenRequest, mint
from tenantry.emulator.webhooks import Webhooks


class Emulator:
    """One emulated instance: identity, data, webhooks. With a folder it is the same instance at the next start.

    `seed_data` is what it begins with (`seed.EMPTY` for nothing), `seed` decides every identifier, key and chance,
    but no secret: cookies of browsers, nonces and tickets are random.
    `clock` gives Unix milliseconds, `speed` divides the delays of webhooks, `settings` are fields of
    `Settings` to change.
    OSError or ValueError when the folder or the seed cannot be used.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        seed: int = 1,
        seed_data: Seed = DEFAULT,
        settings: Mapping[str, Any] | None = None,
        options: Options | None = None,
        webhook_urls: Sequence[str] = (),
        disorder: Disorder | None = None,
        speed: float = 1.0,
        clock: Callable[[], int] = clock_in_milliseconds,
        on_attempt: Callable[[Attempt], None] | None = None,
    ) -> None:
        self.options = options or Options()
        self._journal = Journal(folder / "state.jsonl") if folder else None
        with ExitStack() as stack:
            stack.callback(self.close)
            self.instance = open_instance(folder, seed)
            self.store = Store(
                seed=self.instance.seed,
                clock=clock,
                journal=self._journal,
                settings=settings,
                assumptions=self.options.assumptions,
            )
            self.webhooks = Webhooks(
                self.instance,
                self.store.identifiers,
                clock,
                journal=self._journal,
                disorder=disorder,
                speed=speed,
                on_attempt=on_attempt,
            )
            self.limiter = RateLimiter(clock, enabled=self.options.rate_limits, refuses=self._refuses)
            for url in webhook_urls:
                self.webhooks.add_endpoint(url)
            self.store.subscribe(self.webhooks.accept)
            plant(self.store, seed_data)
            stack.pop_all()

    def environment(self, base_url: str, *, jwt_key: bool = False) -> dict[str, str]:
        """Clerk's environment variables for an app that shall use this emulator at `base_url`."""
        return self.instance.environment(base_url, jwt_key=jwt_key)

    def mint_token(
        self,
        user: str,
        organization: str | None = None,
        *,
        seconds: int | None = None,
        version: int | None = None,
        authorized_party: str | None = None,
    ) -> str:
        """A session token as the browser of `user` (id, e-mail or username) would get it.

        `organization` (id, slug or name) is to be active; `""` is the personal account, None what the session has.
        ClerkError when there is no such user, organization or membership.
        """
        user_id = self.store.users.find(user).id
        wanted = self.store.organizations.find(organization).id if organization else organization
        session = self._session_of(user_id, wanted)
        return self.mint_session_token(
            session, wanted, seconds=seconds, version=version, authorized_party=authorized_party
        )

    def mint_session_token(
        self,
        session: Session,
        organization_id: str | None = None,
        *,
        seconds: int | None = None,
        version: int | None = None,
        authorized_party: str | None = None,
    ) -> str:
        """A token of this session; the other arguments as `mint_token`'s, but the organization by id."""
        request = TokenRequest(
            session=session,
            now=self.store.clock(),
            jti=self.store.identifiers.hex(20),
            seconds=self.options.token_seconds if seconds is None else seconds,
            version=1 if (version or self.options.token_version) == 1 else 2,
            organization_id=organization_id,
            authorized_party=authorized_party,
        )
        return mint(self.instance, self.store.state, request)

    def close(self) -> None:
        """Closes the journal; the emulator is not to be used after."""
        if self._journal:
            self._journal.close()

    def _refuses(self, number: int) -> bool:
        return refuses(self.webhooks.disorder, self.instance.seed, number)

    def _session_of(self, user_id: str, organization_id: str | None) -> Session:
        """The user's live session, or a new one: a second token is not a second sign-in."""
        alive = self.store.state.live_sessions_of(user_id)
        return alive[-1] if alive else self.store.sessions.create(user_id, organization_id)
