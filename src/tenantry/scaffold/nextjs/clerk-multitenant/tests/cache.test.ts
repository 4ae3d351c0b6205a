/** What the server caches is kept apart by tenant and by person, and expires for one tenant alone. */

import { beforeEach, describe, expect, it, vi } from "vitest";

import { cacheForTenant, cacheKey, expireForTenant, tenantTags } from "../cache";
import { vouchFor } from "../session";

const kept = new Map<string, { value: Promise<unknown>; tags: readonly string[] }>();

vi.mock("@clerk/nextjs/server", () => import("./clerk"));
vi.mock("next/headers", () => import("./clerk"));
// Next.js's cache needs its server. This keeps what it would keep: by key, under tags.
vi.mock("next/cache", () => ({
  unstable_cache: (work: () => Promise<unknown>, [key]: [string], { tags }: { tags: readonly string[] }) => () => {
    const found = kept.get(key) ?? { value: work(), tags };
    kept.set(key, found);
    return found.value;
  },
  revalidateTag: (tag: string) => {
    kept.forEach(({ tags }, key) => tags.includes(tag) && kept.delete(key));
  },
}));

const plain = { tenantId: "t1", userId: "user_ada", role: "org:admin" };
const ada = vouchFor({ ...plain }); // as withTenant does with its own
const adaElsewhere = vouchFor({ ...plain, tenantId: "t2" });
const adaAsMember = vouchFor({ ...plain, role: "org:member" });
const bob = vouchFor({ ...plain, userId: "user_bob", role: "org:member" });

let runs = 0;
const work = async ({ tenantId }: { tenantId: string }, ...args: readonly string[]) => {
  runs += 1;
  return `${tenantId} ${args.join()} ${runs}`;
};

describe("cacheForTenant", () => {
  beforeEach(() => {
    kept.clear();
    runs = 0;
  });

  it("asks once for the same tenant, person and arguments", async () => {
    const list = cacheForTenant("list", work);
    expect(await list(ada, "a")).toBe("t1 a 1");
    expect(await list(vouchFor({ ...plain }), "a")).toBe("t1 a 1");
    expect(await list(ada, "b")).toBe("t1 b 2");
  });

  it("gives no tenant what another was given", async () => {
    const list = cacheForTenant("list", work, { isShared: true });
    expect(await list(ada)).toBe("t1  1");
    expect(await list(adaElsewhere)).toBe("t2  2");
  });

  it("gives no person, and nobody in a new role, what another was given, unless it is shared", async () => {
    const own = cacheForTenant("own", work);
    expect(await own(ada)).not.toBe(await own(bob));
    expect(await own(ada)).not.toBe(await own(adaAsMember));
    const shared = cacheForTenant("shared", work, { isShared: true });
    expect(await shared(ada)).toBe(await shared(bob));
  });

  it("refuses a tenant that the server did not tell, as a server action's arguments may hold one", async () => {
    const list = cacheForTenant("list", work, { isShared: true });
    await list(ada);
    await expect(list({ ...plain })).rejects.toMatchObject({ code: "no_tenant", status: 500 });
    expect(() => expireForTenant({ ...plain })).toThrow(/copy/);
    expect(() => cacheKey({ ...plain })).toThrow(/copy/);
    expect(runs).toBe(1);
  });

  it("confuses no names and arguments", async () => {
    const keys = new Set<string>();
    const list = cacheForTenant("x", work);
    for (const args of [["a", "b"], ["a,b"], ['a","b'], [""], []]) keys.add(await list(ada, ...args));
    keys.add(await cacheForTenant("x,a", work)(ada, "b"));
    expect(keys.size).toBe(6);
  });

  it("forgets for one tenant what a tag names", async () => {
    const list = cacheForTenant("list", work, { tags: ["documents"] });
    const other = cacheForTenant("other", work, { tags: ["members"] });
    const before = [await list(ada), await list(adaElsewhere), await other(ada)];
    expireForTenant(ada, "documents");
    expect([await list(ada), await list(adaElsewhere), await other(ada)]).toEqual(["t1  4", before[1], before[2]]);
    expireForTenant(ada);
    expect([await list(ada), await other(ada), await list(adaElsewhere)]).toEqual(["t1  5", "t1  6", before[1]]);
  });
});

it("names the tenant in every tag, and hands plain values to cached functions", () => {
  expect(tenantTags(ada, "documents")).toEqual(["tenant:t1", "tenant:t1:documents"]);
  expect(cacheKey(vouchFor({ ...plain, permissions: [] }))).toEqual(plain);
});
