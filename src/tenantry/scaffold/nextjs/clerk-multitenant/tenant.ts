/**
 * `withTenant`: a transaction in the tenant of the verified session, for route handlers, server actions and server
 * components.
 *
 * Theory of operation: the claims of the session that Clerk verified enter the tenant with the transaction's first
 * statement, in the database, which decides whether the user may and as what. All that sets is local to the
 * transaction: a pooled connection keeps nothing of it. A query that is not in such a transaction is in no tenant, and
 * isolated tables refuse it. Nothing a client sends chooses the tenant; what it says it expects is compared, and refused
 * where it differs.
 */

import { AsyncLocalStorage } from "node:async_hooks";

import { callFunction, readText, transaction, type Db } from "./database";
import { errorFromDatabase, explainDatabase, TenancyError } from "./errors";
import { covers, holds, identityToJson, type Check, type Identity } from "./identity";
import { provision, setTenant, setTenantById, type Call } from "./mirror";
import type { ClerkPermission, Permission } from "./permissions";
import { readSession, refuseInCache, refuseMismatch, vouchFor } from "./session";
import { allowsPersonalAccounts, allowsPrivilegedLogin, believesTokensAlone } from "./settings";

/** The tenant of a transaction and what its user may do there, as the database decided. Plain data. */
export interface Tenant {
  readonly tenantId: string;
  /** Null for a personal account. */
  readonly orgId: string | null;
  readonly orgSlug: string | null;
  /** Null until the mirror has seen the organization. */
  readonly name: string | null;
  /** Null where the app itself acts. */
  readonly userId: string | null;
  /** With its `org:`. */
  readonly role: string | null;
  /** Clerk's own; `systemPermissions` are those named `org:sys_…`, which no token carries. */
  readonly permissions: readonly string[];
  readonly systemPermissions: readonly string[];
  /** The patterns of the app's own map that the role holds. */
  readonly appPermissions: readonly string[];
}

export interface Options {
  /** The organization this code is for, by id or slug, as from a path: another one's session is refused (409). */
  readonly expected?: string | undefined;
  readonly readOnly?: boolean | undefined;
}

type Work<T> = (db: Db, tenant: Tenant) => Promise<T>;

/** How a transaction enters its tenant; an unknown one is made known by `provision`, where there is a token. */
interface Scope {
  readonly entry: Call;
  readonly provision?: Call;
  readonly identity?: Identity;
}

interface Running {
  readonly db: Db;
  readonly tenant: Tenant;
  readonly identity: Identity | undefined;
  over: boolean;
  failure: { readonly error: unknown } | undefined;
}

const current = new AsyncLocalStorage<Running>();

/**
 * Runs `work` in a transaction of the session's tenant, and commits; rolls back when it throws, save Next.js's
 * `redirect()`, which is how an action ends well. Inside another `withTenant` it joins that one's transaction: all is
 * committed together, or nothing.
 *
 * Raises a TenancyError where the session may not enter; what the driver raises stays as it is.
 */
export async function withTenant<T>(work: Work<T>, options: Options = {}): Promise<T> {
  const running = current.getStore();
  if (running && !running.over) {
    await refuseInCache(); // a cached function called in here would join too
    refuseMismatch(running.tenant, [options.expected]);
    return join(running, work);
  }
  const { identity, stated } = await readSession();
  refuseMismatch(identity, [...stated, options.expected]);
  return enter(scopeOf(identity), work, options);
}

/**
 * Work for a tenant without a session: cached functions, cron, other webhooks. `reason` goes to the database's log;
 * with a user, the membership is checked. The id is the mirror's own (`Tenant.tenantId`), and never one a client sent.
 * Not inside `withTenant`: requests that each hold one connection and wait for another could block each other for good.
 */
export async function withTenantById<T>(
  tenantId: string,
  reason: string,
  work: Work<T>,
  options: { readonly userId?: string | null | undefined; readonly readOnly?: boolean | undefined } = {},
): Promise<T> {
  if (current.getStore()?.over === false) {
    throw new TenancyError("tenant_already_set", {
      message: "withTenantById was called inside a transaction that is in a tenant, and would take a second connection.",
      hint: "Call it, and what cacheForTenant made, after withTenant has returned: hand the tenant out of it.",
    });
  }
  return enter({ entry: setTenantById(tenantId, reason, options.userId) }, work, options);
}

/** The tenant of the session, as the database decides now. */
export async function currentTenant(options: Options = {}): Promise<Tenant> {
  return withTenant(async (_, tenant) => tenant, { readOnly: true, ...options });
}

/**
 * Clerk's `has()`, with the role and permissions that hold now: a removed member or a changed role shows at once. Who
 * may not enter at all is refused, not answered: a TenancyError as of `withTenant`, 409 on another organization's path too.
 */
export async function has(check: Check): Promise<boolean> {
  return decide(({ tenant, identity }) => mayHave(tenant, identity, check));
}

/** Whether the role has this permission in the app's own map, `tenantry.toml`; refuses as `has` does. */
export async function can(permission: Permission): Promise<boolean> {
  return decide(({ tenant }) => tenant.userId === null || covers(tenant.appPermissions, permission));
}

/** Refuses (`permission_denied`, 403) who lacks a permission: Clerk's where it begins with `org:`, else the app's own. */
export async function requirePermission(permission: ClerkPermission | Permission): Promise<void> {
  const held = await (isOfClerk(permission) ? has({ permission }) : can(permission));
  if (!held) throw new TenancyError("permission_denied", { hint: `It takes permission ${permission}.` });
}

function isOfClerk(permission: string): permission is ClerkPermission {
  return permission.startsWith("org:");
}

// --- entering ---------------------------------------------------------------------------------------------------------

async function enter<T>(scope: Scope, work: Work<T>, { readOnly = false }: Options): Promise<T> {
  let entered = false;
  const attempt = (): Promise<T> =>
    transaction(scope.entry, readOnly, (db, answer) => {
      entered = true;
      const tenant = vouchFor(readTenant(answer));
      return runIn({ db, tenant, identity: scope.identity, over: false, failure: undefined }, work);
    }).then((result) => result());
  try {
    await checkLogin();
    try {
      return await attempt();
    } catch (error) {
      const unknown = !entered && errorFromDatabase(error)?.code === "not_provisioned";
      if (!unknown || !scope.provision) throw error;
    }
    await callFunction(scope.provision);
    return await attempt();
  } catch (error) {
    throw entered ? (errorFromDatabase(error) ?? error) : explainDatabase(error);
  }
}

/** What `work` came to, to be had once the transaction is committed. Raises where it is to be rolled back. */
async function runIn<T>(running: Running, work: Work<T>): Promise<() => T> {
  try {
    const result = await current.run(running, () => work(running.db, running.tenant));
    if (running.failure) throw running.failure.error;
    return () => result;
  } catch (error) {
    if (running.failure || !isRedirect(error)) throw error;
    return () => {
      throw error;
    };
  } finally {
    running.over = true;
  }
}

/** A part of a running transaction cannot be undone alone: what fails in it fails the whole. */
async function join<T>(running: Running, work: Work<T>): Promise<T> {
  try {
    return await work(running.db, running.tenant);
  } catch (error) {
    if (!isRedirect(error)) running.failure ??= { error };
    throw error;
  }
}

function isRedirect(error: unknown): boolean {
  const digest: unknown = error instanceof Error && "digest" in error ? error.digest : undefined;
  return typeof digest === "string" && digest.startsWith("NEXT_REDIRECT;");
}

function scopeOf(identity: Identity): Scope {
  const facts = identityToJson(identity, {
    ...(identity.orgId === null && allowsPersonalAccounts() ? { personal_account: true } : {}),
    ...(believesTokensAlone() ? { membership_source: "token" } : {}),
  });
  return { entry: setTenant(facts), provision: provision(facts), identity };
}

/** What set_tenant_v1 answers; without a user the permissions are null: the app itself may do everything. */
type EntryAnswer = Record<"tenant_id", string> &
  Record<"org_id" | "slug" | "name" | "user_id" | "role", string | null> &
  Record<"permissions" | "system_permissions" | "app_permissions", string[] | null>;

function readTenant(answer: string): Tenant {
  const told: EntryAnswer = JSON.parse(answer);
  return {
    tenantId: told.tenant_id,
    orgId: told.org_id,
    orgSlug: told.slug,
    name: told.name,
    userId: told.user_id,
    role: told.role,
    permissions: told.permissions ?? [],
    systemPermissions: told.system_permissions ?? [],
    appPermissions: told.app_permissions ?? [],
  };
}

// --- what the user may do ---------------------------------------------------------------------------------------------

/** Inside a transaction nobody is asked; elsewhere one is begun, to ask the database. */
async function decide(verdict: (running: Running) => boolean): Promise<boolean> {
  return withTenant(
    async () => {
      const running = current.getStore();
      return running !== undefined && verdict(running);
    },
    { readOnly: true },
  );
}

function mayHave(tenant: Tenant, identity: Identity | undefined, check: Check): boolean {
  const { role, permission, feature, plan, reverification } = check;
  if (tenant.userId === null)
    return permission != null && [role, feature, plan, reverification].every((one) => one == null);
  const permissions = [...tenant.permissions, ...tenant.systemPermissions];
  return holds({ orgId: tenant.orgId, role: tenant.role, permissions, claims: identity?.claims ?? {} }, check);
}

// --- the login --------------------------------------------------------------------------------------------------------

const PRIVILEGED = `
  select json_build_array(session_user, rolname)::text as answer from pg_roles
  where (rolsuper or rolbypassrls) and pg_has_role(session_user, oid, 'member')
  order by rolname <> session_user, rolname limit 1`;
let checked: Promise<void> | undefined;

/** Once: refuses a login that no policy holds, since a query outside `withTenant` would then read every tenant. */
async function checkLogin(): Promise<void> {
  checked ??= refusePrivileged();
  try {
    await checked;
  } catch (error) {
    checked = undefined; // the database may have been away
    throw error;
  }
}

async function refusePrivileged(): Promise<void> {
  const found = allowsPrivilegedLogin() ? null : await readText(PRIVILEGED);
  if (found === null) return;
  const [login, above]: unknown[] = JSON.parse(found);
  throw new TenancyError("configuration", {
    message: `The app logs in to PostgreSQL as "${login}", who is or may become "${above}", whom no policy holds.`,
    hint: "Log in as an ordinary role (`tenantry db migrate --app-role NAME`), or set TENANTRY_ALLOW_PRIVILEGED_LOGIN=true.",
  });
}
