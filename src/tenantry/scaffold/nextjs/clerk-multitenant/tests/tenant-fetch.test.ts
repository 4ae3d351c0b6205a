/** What is sent to an API, for whom, and what becomes of its refusals. */

import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

import { codeOf } from "../errors";
import { tenantApi, tenantFetch } from "../tenant-fetch.server";
import * as clerk from "./clerk";

vi.mock("@clerk/nextjs/server", () => ({
  auth: async () => ({ ...(await clerk.auth()), getToken: async () => "the.session.token" }),
}));
vi.mock("next/headers", () => import("./clerk"));

let asked: IncomingMessage[] = [];
let answer: { status: number; body: string; location?: string } = { status: 200, body: "{}" };
const api = createServer((request, response) => {
  asked.push(request);
  const { status, body, location } = answer;
  if (location) answer = { status: 200, body: "{}" };
  response.writeHead(status, { "content-type": "application/problem+json", ...(location && { location }) }).end(body);
});

describe("tenantFetch on the server", () => {
  beforeAll(() => new Promise<void>((resolve) => api.listen(0, "127.0.0.1", resolve)));
  afterAll(() => new Promise<void>((resolve) => void api.close(() => resolve())));
  beforeEach(() => {
    process.env.TENANTRY_API_URL = `http://127.0.0.1:${(api.address() as AddressInfo).port}/`;
    asked = [];
    answer = { status: 200, body: "{}" };
    clerk.signIn(clerk.member("user_ada", "org_acme"));
  });

  it("sends the session's token and states its organization", async () => {
    await tenantFetch("/documents?newest=1", { method: "POST", headers: { "X-Mine": "1", Authorization: "Basic no" } });
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({ method: "POST", url: "/documents?newest=1" });
    expect(asked[0]?.headers).toMatchObject({
      authorization: "Bearer the.session.token",
      "tenantry-expected-org": "org_acme",
      "x-mine": "1",
    });
  });

  it("asks nothing for an organization that is not the session's", async () => {
    const expected = "org_globex";
    await expect(tenantFetch("/documents", { expected })).rejects.toSatisfy(isCode("organization_mismatch"));
    clerk.signIn(clerk.member("user_ada", "org_acme"), { "tenantry-expected-org": "org_acme, org_globex" });
    await expect(tenantFetch("/documents")).rejects.toSatisfy(isCode("organization_mismatch"));
    clerk.signIn(clerk.member("user_ada", "org_acme"), { "tenantry-expected-org": "" }); // the personal account
    await expect(tenantFetch("/documents")).rejects.toSatisfy(isCode("organization_mismatch"));
    expect(asked).toEqual([]);
  });

  it("asks nothing for nobody", async () => {
    clerk.signIn(null);
    await expect(tenantFetch("/documents")).rejects.toSatisfy(isCode("missing_token"));
    expect(asked).toEqual([]);
  });

  it("knows the organization by id or slug, and the personal account", async () => {
    const now = { o: { id: "org_acme", slg: "acme", rol: "admin" } };
    clerk.signIn(clerk.member("user_ada", null, now), { "tenantry-expected-org": "acme" });
    await tenantFetch("/documents", { expected: "org_acme" });
    clerk.signIn(clerk.member("user_ada", null), { "tenantry-expected-org": "" });
    expect(await tenantApi()).toMatchObject({ tenantId: "user_ada", orgId: null });
    await tenantFetch("/documents");
    expect(asked.map(({ headers }) => headers["tenantry-expected-org"])).toEqual(["org_acme", ""]);
  });

  it.each([
    [401, "token_expired"],
    [403, "not_a_member"],
    [409, "organization_mismatch"],
  ])("throws the API's refusal %i %s", async (status, code) => {
    answer = { status, body: JSON.stringify({ type: `urn:tenantry:${code}`, code, status }) };
    await expect(tenantFetch("/documents")).rejects.toMatchObject({ code, status });
  });

  it.each([
    [403, "forbidden"],
    [403, JSON.stringify({ code: "not_a_member" })],
    [409, JSON.stringify({ type: "urn:other:taken", code: "taken" })],
    [404, JSON.stringify({ type: "urn:tenantry:not_a_member", code: "not_a_member" })],
  ])("hands on what is the API's own: %i %s", async (status, body) => {
    answer = { status, body };
    const found = await tenantFetch("/documents");
    expect([found.status, await found.text()]).toEqual([status, body]);
  });

  it("follows a redirect within the API, and none to another host", async () => {
    answer = { status: 307, body: "", location: "/documents/" };
    expect((await tenantFetch("/documents", { method: "POST", body: "{}" })).status).toBe(200);
    expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual(["POST /documents", "POST /documents/"]);
    answer = { status: 307, body: "", location: "http://127.0.0.1:9/elsewhere" };
    await expect(tenantFetch("/documents")).rejects.toThrow("leads elsewhere");
  });

  const strange = ["//evil.example/x", "/\\evil.example", "https://evil.example", "documents", "", "/\t/evil.example", "/\r\\evil.example"];
  it.each(strange)("sends no token to %j", async (path) => {
    await expect(tenantFetch(path)).rejects.toThrow(TypeError);
    expect(asked).toEqual([]);
  });
});

function isCode(code: string): (error: unknown) => boolean {
  return (error) => codeOf(error) === code;
}
