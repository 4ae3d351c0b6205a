/** What becomes of pooled connections when apps and the network misbehave: over `pg`, and over Drizzle on it. */

import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { pool, type Db } from "../database";
import { toResponse } from "../errors";
import { withTenant } from "../tenant";
import { member, signIn } from "./clerk";
import { query, queryOutside } from "./query";

vi.mock("@clerk/nextjs/server", () => import("./clerk"));
vi.mock("next/headers", () => import("./clerk"));

const OWN = "select clerk_org_id as org from tenantry.tenants";
const BACKEND = "select pg_backend_pid() as pid";
let org: string;

beforeEach(() => {
  process.env.DATABASE_URL = process.env.TENANTRY_TEST_DATABASE_URL;
  pool().options.max = 1; // every transaction on the same connection: the harder case
  enter();
});
afterEach(async () => {
  await pool().end();
  globalThis.tenantryPool = undefined;
});

function enter(): void {
  org = `org_${randomUUID().slice(0, 8)}`;
  signIn(member(`user_${randomUUID().slice(0, 8)}`, org));
}

async function own(): Promise<void> {
  expect(await withTenant((db) => query(db, OWN))).toEqual([{ org }]);
}

it("never runs a forgotten query in the next tenant's transaction", async () => {
  let remember = (): void => undefined;
  const remembered = new Promise<void>((done) => (remember = done));
  let late: Promise<unknown> = Promise.resolve();
  await withTenant(async (db) => {
    late = remembered.then(() => query(db, OWN));
    late.catch(() => undefined);
  });
  enter();
  await withTenant(async (db) => {
    remember();
    expect(await query(db, OWN)).toEqual([{ org }]);
    const refusal: unknown = await late.catch((error: Error) => error.cause ?? error); // Drizzle wraps it
    expect(refusal).toMatchObject({ code: "no_tenant" });
  });
});

it("refuses a query as soon as its work has returned, before the commit", async () => {
  const answered: boolean[] = [];
  let hasReturned = false;
  let loop: Promise<unknown> = Promise.resolve();
  await withTenant(async (db) => {
    await query(db, OWN);
    loop = (async () => {
      for (;;) {
        const wasLate = hasReturned;
        await query(db, "select 1");
        answered.push(wasLate);
      }
    })();
    loop.catch(() => undefined);
    hasReturned = true;
  });
  const refusal: unknown = await loop.catch((error: Error) => error.cause ?? error);
  expect(refusal).toMatchObject({ code: "no_tenant" });
  expect(answered).toEqual([false]);
});

it("says that the database is away, and goes on when it is back", async () => {
  await pool().end();
  globalThis.tenantryPool = undefined;
  process.env.DATABASE_URL = "postgresql://app@127.0.0.1:1/app";
  const refusal: unknown = await withTenant((db) => query(db, OWN)).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: "database_unavailable", status: 503, detail: "ECONNREFUSED" });
  expect(toResponse(refusal).headers.get("retry-after")).toBe("5");
  await pool().end();
  globalThis.tenantryPool = undefined;
  process.env.DATABASE_URL = process.env.TENANTRY_TEST_DATABASE_URL;
  await own();
});

it("says so too when every connection is taken", async () => {
  pool().options.connectionTimeoutMillis = 50;
  let free = (): void => undefined;
  const freed = new Promise<void>((done) => (free = done));
  let holding: Promise<void> = Promise.resolve();
  await new Promise<void>((taken) => {
    holding = withTenant(async () => {
      taken();
      await freed;
    });
  });
  await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "database_unavailable" });
  free();
  await holding;
});

it("reports no success where a failed query's error was swallowed", async () => {
  const swallowing = withTenant(async (db) => {
    await query(db, "select 1 / 0").catch(() => undefined);
  });
  await expect(swallowing).rejects.toThrow("Nothing was written");
  await own();
});

it("goes on after an error, a timeout and a lost connection", async () => {
  await expect(withTenant((db) => query(db, "select nonsense"))).rejects.toThrow();
  await own();
  const slow = withTenant(async (db) => {
    await query(db, "set local statement_timeout = 50");
    return query(db, "select pg_sleep(5)::text");
  });
  await expect(slow).rejects.toThrow();
  await own();
  await expect(withTenant((db) => query(db, "select pg_terminate_backend(pg_backend_pid())"))).rejects.toThrow();
  await own();
});

it("closes a connection on which a tenant left something", async () => {
  const before = await withTenant(async (db) => {
    await query(db, "create temporary table kept (secret text)");
    return query(db, BACKEND);
  });
  enter();
  await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "leftovers" });
  await own();
  expect(await withTenant((db) => query(db, BACKEND))).not.toEqual(before);
});

it("closes a connection that somebody set a tenant on for good", async () => {
  await queryOutside("select set_config('tenantry.tenant_id', 'planted', false)");
  await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "tenant_already_set" });
  await own();
});

it("leaves a transaction that the app ended itself without a tenant", async () => {
  const ended = withTenant(async (db: Db) => {
    await query(db, "commit");
    return query(db, OWN);
  });
  await expect(ended).rejects.toMatchObject({ code: "no_tenant" });
  await own();
});

it("refuses a login that no policy holds", async () => {
  vi.resetModules();
  await pool().end();
  globalThis.tenantryPool = undefined;
  process.env.DATABASE_URL = process.env.TENANTRY_TEST_SUPERUSER_URL;
  const fresh = await import("../tenant");
  (await import("./clerk")).signIn(member("user_1", org));
  const work = vi.fn();
  await expect(fresh.withTenant(work)).rejects.toMatchObject({ code: "configuration" });
  process.env.TENANTRY_ALLOW_PRIVILEGED_LOGIN = "true";
  const allowed = await fresh.withTenant((db) => query(db, OWN)); // confined all the same
  delete process.env.TENANTRY_ALLOW_PRIVILEGED_LOGIN;
  expect(allowed).toEqual([{ org }]);
});
