"""`withTenant` of a Next.js app as one more caller: a Node.js process that is handed each transaction as a line."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from uuid import UUID

from benchmarks.harness.suite import compile_suite
from conformance.callers import Outcome, Problem, Work
from databases import Database
from scaffold.node import environment, furnish
from tenantry.context import Scope, TenantContext, current_scope
from tenantry.identity import Identity

ANSWER_SECONDS = 30
PROGRAM = Path(__file__).with_name("with_tenant.js")


class WithTenant:
    """Runs the work in the running scope: its token's claims become the session's."""

    def __init__(self, process: Popen[str]) -> None:
        self._process = process

    async def transact(self, work: Work) -> Outcome:
        scope = current_scope() if work.scoped else None
        asked = {
            "steps": [asdict(step) for step in work.steps],
            "readOnly": work.read_only,
            "commit": work.commit,
            "raw": not work.scoped,
            **(_whose(scope) if scope is not None else {}),
        }
        return _read(json.loads(await self._ask(json.dumps(asked))))

    async def _ask(self, line: str) -> str:
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._exchange, line), ANSWER_SECONDS)
        except TimeoutError:
            self._process.kill()  # or the thread would wait for ever
            raise

    def _exchange(self, line: str) -> str:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def started(project: Path, database: Database) -> Iterator[WithTenant]:
    """The caller, on the app's login."""
    environ = environment(DATABASE_URL=database.dsn())
    with Popen(["node", PROGRAM.name], cwd=project, env=environ, stdin=PIPE, stdout=PIPE, text=True) as process:
        try:
            yield WithTenant(process)
        finally:
            process.kill()


def make_project(folder: Path) -> Path:
    """The suite, compiled, and the program beside it."""
    compiled = compile_suite(furnish(folder, "next16"))
    shutil.copy(PROGRAM, compiled)
    return compiled


def _whose(scope: Scope) -> dict[str, Any]:
    if scope.identity is not None:
        facts = json.loads(scope.entry.arguments[0]) if scope.entry else {}
        return {
            "claims": _claims(scope.identity),
            "instance": scope.identity.instance_id,
            "personalAccounts": facts.get("personal_account", False),
        }
    if scope.entry is None:
        return {}
    tenant_id, reason, options = scope.entry.arguments
    return {"job": {"id": tenant_id, "reason": reason, "userId": json.loads(options)["user_id"]}}


def _claims(identity: Identity) -> dict[str, Any]:
    """Of version 1, which names permissions one by one."""
    return {
        "sub": identity.user_id,
        "sid": identity.session_id,
        "iat": identity.issued_at,
        "exp": identity.expires_at,
        "org_id": identity.org_id,
        "org_slug": identity.org_slug,
        "org_role": identity.role,
        "org_permissions": sorted(identity.permissions),
    }


def _read(told: dict[str, Any]) -> Outcome:
    if problem := told.get("problem"):
        return Outcome(problem=Problem(**problem))
    context = told.get("context")
    return Outcome(told["rows"], _context(context) if context else None)


def _context(tenant: dict[str, Any]) -> TenantContext:
    return TenantContext(
        id=UUID(tenant["tenantId"]),
        org_id=tenant["orgId"],
        slug=tenant["orgSlug"],
        name=tenant["name"],
        user_id=tenant["userId"],
        role=tenant["role"],
        permissions=frozenset(tenant["permissions"]),
        system_permissions=frozenset(tenant["systemPermissions"]),
        app_permissions=frozenset(tenant["appPermissions"]),
    )
