/**
 * Who is asking, out of the claims of a verified session token (versions 1 and 2), and Clerk's `has()` over them.
 *
 * Permissions of version 2 are bit masks, one a feature. Clerk's JavaScript pairs the masks with the organization's
 * features, its documentation with all features: only what both readings grant is granted.
 */

import { TenancyError } from "./errors";
import { isRecord } from "./json";

export type Claims = Readonly<Record<string, unknown>>;

/** The verified facts of one session token; times are Unix seconds, roles and permissions carry `org:`. */
export interface Identity {
  readonly userId: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly sessionId: string;
  readonly orgId: string | null;
  readonly orgSlug: string | null;
  readonly role: string | null;
  readonly permissions: readonly string[];
  /** The organization's features; null where the token cannot tell (version 1). */
  readonly features: readonly string[] | null;
  /** The Clerk instance whose key signed. */
  readonly instanceId: string | null;
  readonly claims: Claims;
}

/** What `has()` can be asked, in any combination: all of it must hold. */
export interface Check {
  readonly role?: string;
  readonly permission?: string;
  /** May carry a scope: `org:export`, `user:export`. */
  readonly feature?: string;
  readonly plan?: string;
  readonly reverification?: string | { readonly level: string; readonly afterMinutes: number };
}

/** What `has()` looks at: a token's facts, or those that hold now. */
export interface Holder {
  readonly orgId: string | null;
  readonly role: string | null;
  readonly permissions: readonly string[];
  readonly claims: Claims;
}

const LONGEST_LIFE = 24 * 60 * 60;

/** Raises `invalid_token`, `session_pending` or `wrong_token_kind`. */
export function readIdentity(claims: Claims, instanceId: string | null): Identity {
  const { iat, exp } = claims;
  if (!isSecond(iat) || !isSecond(exp) || iat >= exp || exp - iat > LONGEST_LIFE) {
    refuse("has times that are missing, out of range or out of order");
  }
  const userId = requiredText(claims, "sub");
  const sessionId = optionalText(claims, "sid");
  if (sessionId === null || userId.startsWith("mch_")) throw new TenancyError("wrong_token_kind");
  if (claims.sts === "pending") throw new TenancyError("session_pending");
  if (claims.sts !== undefined && claims.sts !== "active") throw new TenancyError("unauthenticated");
  const organization = readOrganization(claims);
  return { userId, sessionId, issuedAt: iat, expiresAt: exp, instanceId, claims, ...organization };
}

/** The identity as the database functions take it: JSON text. */
export function identityToJson(identity: Identity, options: Readonly<Record<string, unknown>> = {}): string {
  const json = JSON.stringify({
    user_id: identity.userId,
    org_id: identity.orgId,
    org_slug: identity.orgSlug,
    role: identity.role,
    permissions: [...identity.permissions].sort(),
    features: identity.features && [...identity.features].sort(),
    session_id: identity.sessionId,
    issued_at: identity.issuedAt,
    expires_at: identity.expiresAt,
    instance_id: identity.instanceId,
    ...options,
  });
  if (/\\u(0000|d[89a-f])/.test(json)) refuse("holds characters that no database text can hold");
  return json;
}

/** Clerk's `has()`: true when something is asked and all of it holds. */
export function holds(holder: Holder, check: Check): boolean {
  const verdicts = [
    asked(check.role, (role) => holder.orgId !== null && holder.role !== null && sameKey(holder.role, role)),
    asked(check.permission, (name) => holder.orgId !== null && holder.permissions.includes(withPrefix(name))),
    asked(check.feature, (feature) => lists(holder.claims.fea, feature)),
    asked(check.plan, (plan) => lists(holder.claims.pla, plan)),
    check.reverification == null ? null : isReverified(holder.claims.fva, check.reverification),
  ].filter((verdict) => verdict !== null);
  return verdicts.length > 0 && verdicts.every(Boolean);
}

/** The app's own map: whether any of the patterns covers the permission. */
export function covers(patterns: readonly string[], permission: string): boolean {
  return PERMISSION.test(permission) && permission.length <= 200 && patterns.some((one) => matches(one, permission));
}

const PERMISSION = /^[a-z0-9_.-]+(?::[a-z0-9_.-]+)*$/;

/** `*` stands for exactly one segment, at the end for one or more. */
function matches(pattern: string, permission: string): boolean {
  const wanted = pattern.split(":");
  const segments = permission.split(":");
  const given = wanted.at(-1) === "*" ? segments.slice(0, wanted.length) : segments;
  return given.length === wanted.length && wanted.every((want, n) => want === "*" || want === given[n]);
}

// --- the organization in the claims -----------------------------------------------------------------------------------

type Organization = Pick<Identity, "orgId" | "orgSlug" | "role" | "permissions" | "features">;

function readOrganization(claims: Claims): Organization {
  const version = claims.v ?? 1;
  if (version === 2) return readVersion2(claims);
  if (version !== 1) refuse("is of a version this release does not know");
  const orgId = optionalText(claims, "org_id");
  if (orgId === null) return { orgId, orgSlug: null, role: null, permissions: [], features: null };
  const role = optionalText(claims, "org_role");
  const granted = Array.isArray(claims.org_permissions) ? claims.org_permissions : [];
  return {
    orgId,
    orgSlug: optionalText(claims, "org_slug"),
    role: role && withPrefix(role),
    permissions: granted.filter((name) => typeof name === "string"),
    features: null,
  };
}

function readVersion2(claims: Claims): Organization {
  const held = claims.o ?? null;
  if (held !== null && !isRecord(held)) refuse("has a malformed o claim");
  const { features, permissions } = decodeGrants(
    optionalText(claims, "fea"),
    optionalText(held ?? {}, "per"),
    optionalText(held ?? {}, "fpm"),
  );
  if (held === null) return { orgId: null, orgSlug: null, role: null, permissions: [], features };
  const role = optionalText(held, "rol");
  return {
    orgId: requiredText(held, "id"),
    orgSlug: optionalText(held, "slg"),
    role: role && withPrefix(role),
    permissions,
    features,
  };
}

interface Scoped {
  readonly scope: string;
  readonly name: string;
}

function decodeGrants(fea: string | null, per: string | null, fpm: string | null) {
  const elements = fea ? splitScopes(fea) : [];
  if (elements === null) refuse("has a malformed fea claim");
  const ofOrganization = elements.filter(({ scope }) => ["o", "ou", "uo"].includes(scope));
  const masks = fpm ? fpm.split(",").map(readMask) : [];
  const actions = per ? per.split(",").map((action) => action.trim()) : [];
  const byFeature = grant(ofOrganization, masks, actions);
  const byElement = new Set(grant(elements, masks, actions));
  return {
    features: Array.from(new Set(ofOrganization.map(({ name }) => name))),
    permissions: Array.from(new Set(byFeature)).filter((permission) => byElement.has(permission)),
  };
}

function grant(elements: readonly Scoped[], masks: readonly bigint[], actions: readonly string[]): string[] {
  return elements.flatMap(({ scope, name }, n) => {
    const mask = (scope === "u" ? undefined : masks[n]) ?? BigInt(0);
    return actions.filter((_, bit) => (mask >> BigInt(bit)) & BigInt(1)).map((action) => `org:${name}:${action}`);
  });
}

function readMask(written: string): bigint {
  const digits = written.trim();
  if (!/^[0-9]{1,1000}$/.test(digits)) refuse("has a malformed fpm claim"); // a negative one would grant everything
  return BigInt(digits);
}

/** `o:teams,u:themes`, taken apart; null where an element has no colon. */
function splitScopes(claim: string): Scoped[] | null {
  const elements = claim.split(",").map((element) => /^([^:]*):([\s\S]*)$/.exec(element.trim()));
  const scoped = elements.flatMap((found) => (found ? [{ scope: found[1] ?? "", name: found[2] ?? "" }] : []));
  return scoped.length === elements.length ? scoped : null;
}

// --- has() ------------------------------------------------------------------------------------------------------------

function asked(value: unknown, holdsFor: (value: string) => boolean): boolean | null {
  if (value == null) return null;
  return typeof value === "string" && holdsFor(value);
}

/** With exactly one `org:` in front: tokens of version 2 and old instances write none. */
function withPrefix(key: string): string {
  return `org:${key.replace(/^(?:org:)+/, "")}`;
}

function sameKey(one: string, other: string): boolean {
  return withPrefix(one) === withPrefix(other);
}

const SCOPES = ["o", "u", "ou", "uo"];
const ASKED_SCOPES = new Map([...["o", "org", "organization"].map(scope("o")), ...["u", "user"].map(scope("u"))]);

function scope(short: string): (name: string) => [string, string] {
  return (name) => [name, short];
}

/** Whether a `fea` or `pla` claim lists what is asked: `pro` in any scope, `org:pro` or `user:pro` in that one. */
function lists(claim: unknown, wanted: string): boolean {
  const elements = typeof claim === "string" && claim ? splitScopes(claim) : null;
  const known = (elements ?? []).filter((element) => SCOPES.includes(element.scope));
  const [first = "", ...rest] = wanted.split(":");
  if (rest.length === 0) return known.some(({ name }) => name === first);
  const held = ASKED_SCOPES.get(first);
  // Clerk reads `org:` with nothing behind as a feature named `org`, and ignores what follows a second colon.
  const name = rest[0] || first;
  return held !== undefined && known.some((element) => element.name === name && element.scope.includes(held));
}

const PRESETS = new Map<unknown, readonly [string, number]>([
  ["strict_mfa", ["multi_factor", 10]],
  ["strict", ["second_factor", 10]],
  ["moderate", ["second_factor", 60]],
  ["lax", ["second_factor", 1440]],
]);
const LEVELS = ["first_factor", "second_factor", "multi_factor"];

function isReverified(ages: unknown, wanted: unknown): boolean {
  const requirement = readRequirement(wanted);
  if (!requirement || !Array.isArray(ages) || ages.length !== 2) return false;
  const [first, second]: unknown[] = ages;
  if (!isAge(first) || !isAge(second)) return false;
  const [level, minutes] = requirement;
  const freshFirst = first !== -1 && first < minutes;
  // Without a second factor Clerk settles for the first.
  if (level === "first_factor" || second === -1) return freshFirst;
  return second < minutes && (level === "second_factor" || freshFirst);
}

function readRequirement(wanted: unknown): readonly [string, number] | undefined {
  if (!isRecord(wanted)) return PRESETS.get(wanted);
  const { level, afterMinutes: minutes } = wanted;
  if (typeof level !== "string" || !LEVELS.includes(level)) return undefined;
  return typeof minutes === "number" && minutes > 0 ? [level, minutes] : undefined;
}

function isAge(value: unknown): value is number {
  return typeof value === "number" && (value === -1 || (value >= 0 && value < Infinity));
}

// --- reading claims ---------------------------------------------------------------------------------------------------

function isSecond(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 40;
}

function requiredText(claims: Claims, name: string): string {
  return optionalText(claims, name) ?? refuse(`lacks ${name}`);
}

/** A claim's text; absent, null and empty are all null, as in Clerk's own reading. */
function optionalText(claims: Claims, name: string): string | null {
  const value = claims[name];
  if (value === undefined || value === null || value === "") return null;
  return typeof value === "string" ? value : refuse(`has a malformed ${name} claim`);
}

function refuse(problem: string): never {
  throw new TenancyError("invalid_token", { message: `The session token ${problem}.` });
}
