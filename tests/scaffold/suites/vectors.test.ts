/** The shared vectors: `has()` over what Clerk's own SDK verified, and `can()`, as every other language answers them. */

import { createClerkClient } from "@clerk/backend";
import { createSign, generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, vi } from "vitest";

import { covers, holds, identityToJson, type Check, type Claims } from "../identity";
import { readSession } from "../session";

interface Vector {
  name: string;
  claims: Claims;
  role: string | null;
  permissions: string[];
  by_element?: string[];
  readings_differ?: boolean;
  cases: [Check, boolean][];
}

const clerk = vi.hoisted(() => ({ auth: vi.fn() }));
vi.mock("@clerk/nextjs/server", () => clerk);
vi.mock("next/headers", () => ({ headers: async () => new Headers() }));

const FOLDER = process.env.TENANTRY_VECTORS ?? "";
const { sessions }: { sessions: Vector[] } = JSON.parse(readFileSync(join(FOLDER, "has.json"), "utf8"));
const patterns: [string, string, boolean][] = JSON.parse(readFileSync(join(FOLDER, "can.json"), "utf8"));

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048, publicExponent: 65537 });
const sdk = createClerkClient({
  publishableKey: `pk_test_${Buffer.from("happy-otter-12.clerk.accounts.dev$").toString("base64")}`,
  secretKey: "sk_test_not_used",
  jwtKey: publicKey.export({ type: "spki", format: "pem" }).toString(),
  telemetry: { disabled: true },
});

function sign(claims: Claims): string {
  const now = Math.floor(Date.now() / 1000);
  const segment = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const header = { alg: "RS256", cat: "cl_B7d4PD111AAA", kid: "ins_1", typ: "JWT" };
  const signed = `${segment(header)}.${segment({ ...claims, iat: now, nbf: now - 10, exp: now + 60 })}`;
  return `${signed}.${createSign("RSA-SHA256").update(signed).sign(privateKey).toString("base64url")}`;
}

/** Has `auth()` answer as Clerk's middleware would for a token of these claims. */
async function signIn(claims: Claims): Promise<void> {
  const headers = { authorization: `Bearer ${sign(claims)}` };
  const state = await sdk.authenticateRequest(new Request("https://app.example.com/", { headers }));
  clerk.auth.mockResolvedValue(state.toAuth());
}

const ordinary = sessions.filter(({ name }) => !name.startsWith("malformed"));

it.each(ordinary)("$name", async (vector) => {
  await signIn(vector.claims);
  const { identity } = await readSession();
  expect(identity.role).toBe(vector.role && `org:${vector.role.split("org:").at(-1)}`);
  const other = new Set(vector.readings_differ ? vector.by_element : vector.permissions);
  expect(new Set(identity.permissions)).toEqual(new Set(vector.permissions.filter((one) => other.has(one))));
  expect(identity.instanceId).toBe("ins_1");
  for (const [query, answer] of vector.cases) {
    if (vector.readings_differ && "permission" in query) continue;
    expect([query, holds(identity, query)]).toEqual([query, answer]);
  }
});

it.each(["malformed: a negative mask", "malformed: a hexadecimal mask", "malformed: an empty mask"])(
  "refuses %s",
  async (name) => {
    await signIn(sessions.find((one) => one.name === name)?.claims ?? {});
    await expect(readSession()).rejects.toMatchObject({ code: "invalid_token", status: 401 });
  },
);

it.each(patterns)("whether %s covers %s: %s", (pattern, permission, answer) => {
  expect(covers(["never:this", pattern], permission)).toBe(answer);
});

it("tells a pending session from none", async () => {
  await signIn({ ...ordinary[0]?.claims, sts: "pending" });
  await expect(readSession()).rejects.toMatchObject({ code: "session_pending" });
  const state = await sdk.authenticateRequest(new Request("https://app.example.com/"));
  clerk.auth.mockResolvedValue(state.toAuth());
  await expect(readSession()).rejects.toMatchObject({ code: "missing_token" });
});

it("hands the facts to the database in the words it knows", async () => {
  await signIn({ ...ordinary[0]?.claims });
  const { identity } = await readSession();
  expect(JSON.parse(identityToJson(identity))).toEqual({
    user_id: "user_1",
    org_id: "org_1",
    org_slug: "acme",
    role: "org:admin",
    permissions: ["org:dashboard:manage", "org:dashboard:read", "org:teams:read"],
    features: ["dashboard", "teams"],
    session_id: "sess_1",
    issued_at: identity.issuedAt,
    expires_at: identity.issuedAt + 60,
    instance_id: "ins_1",
  });
  expect(() => identityToJson({ ...identity, orgSlug: "a\0b" })).toThrow(/characters/);
});
