/**
 * `withTenant` on a real database: `TENANTRY_TEST_DATABASE_URL`, empty but for the schema, with an ordinary login. Binds
 * its mirror to an instance of the tests' own and writes made-up organizations: a database that nothing else uses.
 */

import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, it, vi } from "vitest";

import { codeOf } from "../errors";
import { can, currentTenant, has, requirePermission, withTenant, withTenantById } from "../tenant";
import { cached, member, signIn } from "./clerk";
import { join, leave, SECRET } from "./deliveries";
import { query, queryOutside } from "./query";

vi.mock("@clerk/nextjs/server", () => import("./clerk"));
vi.mock("next/headers", () => import("./clerk"));

const url = process.env.TENANTRY_TEST_DATABASE_URL;
const OWN = "select clerk_org_id as org from tenantry.tenants"; // the mirror is isolated like any table
const ID = "select tenantry.current_tenant_id()::text as id";

function named(kind: string): string {
  return `${kind}_${randomUUID().slice(0, 8)}`;
}

describe.skipIf(!url)("withTenant", () => {
  let acme: string;
  let globex: string;
  let ada: string;
  let bob: string;

  beforeEach(async () => {
    process.env.DATABASE_URL = url;
    process.env.CLERK_WEBHOOK_SIGNING_SECRET = SECRET;
    vi.spyOn(console, "info").mockReturnValue();
    [acme, globex, ada, bob] = [named("org"), named("org"), named("user"), named("user")];
    await join(acme, ada);
    await join(globex, bob);
  });

  it("reads the rows of the session's organization and no others", async () => {
    signIn(member(ada, acme));
    expect(await withTenant((db) => query(db, OWN))).toEqual([{ org: acme }]);
    signIn(member(bob, globex));
    expect(await withTenant((db) => query(db, OWN))).toEqual([{ org: globex }]);
  });

  it("tells whose tenant it is", async () => {
    signIn(member(ada, acme));
    expect(await currentTenant()).toMatchObject({
      orgId: acme,
      userId: ada,
      role: "org:member",
      name: `Name of ${acme}`,
    });
  });

  it("leaves nothing on the connection", async () => {
    signIn(member(ada, acme));
    await Promise.all(Array.from({ length: 12 }, () => withTenant((db) => query(db, OWN))));
    await withTenant(() => Promise.reject(new Error("of the app"))).catch(() => undefined);
    const left =
      "select coalesce(current_setting('tenantry.tenant_id', true), '') as left, current_user = session_user as self";
    for (const found of await Promise.all(Array.from({ length: 12 }, () => queryOutside(left)))) {
      expect(found).toEqual([{ left: "", self: true }]);
    }
  });

  it("is the only way to rows: a query past it is refused, and reads nothing", async () => {
    await expect(queryOutside(OWN)).rejects.toThrow();
    await expect(queryOutside("select tenantry.current_tenant_id()")).rejects.toThrow(/No tenant is set/);
  });

  it("serves concurrent requests each its own", async () => {
    const asked = await Promise.all(
      Array.from({ length: 30 }, async (_, n) => {
        const [who, org] = n % 2 ? [ada, acme] : [bob, globex];
        signIn(member(who, org));
        const rows = await withTenant(async (db) => {
          await query(db, "select pg_sleep(0.005)::text");
          return query(db, OWN);
        });
        return [rows, [{ org }]];
      }),
    );
    for (const [rows, wanted] of asked) expect(rows).toEqual(wanted);
  });

  it("refuses nobody's request, and one without an organization", async () => {
    signIn(null);
    await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "missing_token", status: 401 });
    signIn(member(ada, null));
    await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "no_organization", status: 403 });
  });

  it("lets in an organization that no webhook has told of yet", async () => {
    const org = named("org");
    signIn(member(ada, org));
    expect(await withTenant((db) => query(db, OWN))).toEqual([{ org }]);
    expect(await withTenant((db) => query(db, OWN), { readOnly: true })).toEqual([{ org }]);
  });

  it("has a removed member out at once, though the token lasts", async () => {
    const token = member(ada, acme, {
      iat: Math.floor(Date.now() / 1000) - 20,
      exp: Math.floor(Date.now() / 1000) + 40,
    });
    signIn(token);
    expect(await withTenant((db) => query(db, OWN))).toEqual([{ org: acme }]);
    await leave(acme, ada);
    const work = vi.fn();
    await expect(withTenant(work)).rejects.toMatchObject({ code: "not_a_member", status: 403 });
    expect(work).not.toHaveBeenCalled();
  });

  it("refuses what another organization is expected for, by option or by header", async () => {
    signIn(member(ada, acme, { o: { id: acme, slg: "acme", rol: "member" } }));
    const mismatch = { code: "organization_mismatch", status: 409 };
    for (const expected of [acme, "acme"])
      expect(await withTenant((db) => query(db, OWN), { expected })).toHaveLength(1);
    for (const expected of [globex, "globex", ""]) {
      await expect(withTenant((db) => query(db, OWN), { expected })).rejects.toMatchObject(mismatch);
    }
    for (const stated of [globex, `${acme}, ${globex}`, ""]) {
      signIn(member(ada, acme), { "tenantry-expected-org": stated });
      await expect(withTenant((db) => query(db, OWN), { expected: acme })).rejects.toMatchObject(mismatch);
    }
  });

  it("refuses a request that another site's page made with the cookie", async () => {
    const host = { host: "app.example.com" };
    signIn(member(ada, acme), { ...host, origin: "https://app.example.com" });
    expect(await withTenant((db) => query(db, OWN))).toHaveLength(1);
    for (const origin of ["https://evil.example.com", "null"]) {
      signIn(member(ada, acme), { ...host, origin });
      await expect(withTenant((db) => query(db, OWN))).rejects.toMatchObject({ code: "untrusted_origin", status: 403 });
    }
    signIn(member(ada, acme), { ...host, origin: "https://native.example.com", authorization: "Bearer token" });
    expect(await withTenant((db) => query(db, OWN))).toHaveLength(1);
  });

  it("refuses use of its database after the end, where an await was forgotten", async () => {
    signIn(member(ada, acme));
    const kept = await withTenant(async (db) => db);
    await expect((async () => query(kept, OWN))()).rejects.toThrow();
  });

  it("joins the transaction it is called in, and fails as a whole", async () => {
    signIn(member(ada, acme));
    const backend = "select pg_backend_pid() as pid, pg_current_xact_id()::text as xact";
    const [outer, inner] = await withTenant(async (db) => [
      await query(db, backend),
      await withTenant((same) => query(same, backend)),
    ]);
    expect(inner).toEqual(outer);
    const failing = withTenant(async (db) => {
      await withTenant(() => Promise.reject(new Error("inner"))).catch(() => undefined);
      return query(db, OWN);
    });
    await expect(failing).rejects.toThrow("inner");
    await expect(withTenant(() => withTenant((db) => query(db, OWN), { expected: globex }))).rejects.toMatchObject({
      code: "organization_mismatch",
    });
  });

  it("joins from no cached function, which would keep one tenant's rows for all", async () => {
    signIn(member(ada, acme));
    const { tenantId } = await currentTenant();
    for (const ask of [() => withTenant((db) => query(db, OWN)), () => can("documents:read"), () => has({ role: "x" })]) {
      await expect(withTenant(() => cached<unknown>(ask))).rejects.toThrow("cached function");
      await expect(withTenantById(tenantId, "a test", () => cached<unknown>(ask))).rejects.toThrow("cached function");
    }
  });

  it("takes no second connection for a tenant by id, but refuses", async () => {
    signIn(member(ada, acme));
    const { tenantId } = await currentTenant();
    const byId = () => withTenantById(tenantId, "a test", (db) => query(db, OWN));
    await expect(withTenant(byId)).rejects.toMatchObject({ code: "tenant_already_set" });
    expect(await withTenant(async () => undefined).then(byId)).toEqual([{ org: acme }]);
  });

  it("commits on Next.js's redirect() and passes it on; rolls back on any other error", async () => {
    signIn(member(ada, acme));
    const redirect = Object.assign(new Error("NEXT_REDIRECT"), { digest: "NEXT_REDIRECT;push;/orgs;307;" });
    const notFound = Object.assign(new Error("NEXT_NOT_FOUND"), { digest: "NEXT_HTTP_ERROR_FALLBACK;404" });
    for (const [thrown, ended] of [
      [redirect, "committed"],
      [notFound, "aborted"],
    ] as const) {
      let began: unknown;
      const ending = withTenant(async (db) => {
        began = (await query(db, "select pg_current_xact_id()::text as id"))[0]?.id;
        throw thrown;
      });
      await expect(ending).rejects.toBe(thrown);
      expect(await queryOutside(`select pg_xact_status('${began}'::xid8) as ended`)).toEqual([{ ended }]);
    }
  });

  it("does not begin twice because the work failed", async () => {
    signIn(member(ada, acme));
    const work = vi.fn(() => Promise.reject(new Error("of the app")));
    await expect(withTenant(work)).rejects.toThrow("of the app");
    expect(work).toHaveBeenCalledTimes(1);
  });

  it("writes nothing in a transaction that only reads", async () => {
    signIn(member(ada, acme));
    await expect(
      withTenant((db) => query(db, "create temporary table kept (id int) on commit drop"), { readOnly: true }),
    ).rejects.toThrow();
  });

  it("answers has() and can() as the database does", async () => {
    const [iat, exp] = [Math.floor(Date.now() / 1000), Math.floor(Date.now() / 1000) + 60];
    signIn(
      member(ada, acme, { iat, exp, fea: "o:documents", o: { id: acme, rol: "member", per: "read,delete", fpm: "1" } }),
    );
    for (const [permission, held] of [
      ["org:documents:read", true],
      ["org:documents:delete", false],
    ] as const) {
      expect(await has({ permission })).toBe(held);
      const asked = `select tenantry.has_permission('${permission}') as held`;
      expect(await withTenant((db) => query(db, asked))).toEqual([{ held }]);
    }
    expect(await withTenant(() => has({ role: "org:member", feature: "documents" }))).toBe(true);
    expect(await has({ role: "org:admin" })).toBe(false);
    expect(await can("documents:read")).toBe(true);
    await expect(requirePermission("org:documents:delete")).rejects.toMatchObject({
      code: "permission_denied",
      status: 403,
    });
    await requirePermission("org:documents:read");
  });

  it("enters by id without a session, for what has none", async () => {
    signIn(member(ada, acme));
    const { tenantId } = await currentTenant();
    signIn(null);
    expect(await withTenantById(tenantId, "a test", (db) => query(db, OWN))).toEqual([{ org: acme }]);
    expect(await withTenantById(tenantId, "a test", (db) => query(db, ID), { userId: ada })).toEqual([
      { id: tenantId },
    ]);
    const stranger = withTenantById(tenantId, "a test", (db) => query(db, OWN), { userId: bob });
    await expect(stranger).rejects.toMatchObject({ code: "not_a_member" });
    const unknown = withTenantById(randomUUID(), "a test", (db) => query(db, OWN));
    expect(codeOf(await unknown.catch((error: unknown) => error))).toBe("unknown_tenant");
  });
});
