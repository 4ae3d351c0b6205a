/**
 * The webhook endpoint: signatures, sizes, times, and what becomes of deliveries in a real database
 * (`TENANTRY_TEST_DATABASE_URL`: one that nothing else uses, empty but for the schema).
 */

import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { receiveWebhook, verify } from "../webhook-handler";
import { deliver, event, join, request, SECRET, signingHeaders } from "./deliveries";

const NOW = 1_760_000_000;
const BODY = JSON.stringify({ type: "user.created", data: { id: "user_1", name: "Zoë" } });
const OTHER = Buffer.from("another key than the tests' own");

function check(headers: Record<string, string>, body: string | Buffer = BODY, secrets = [SECRET]) {
  return verify(secrets, new Headers(headers), Buffer.from(body), NOW);
}

function signed(body: string | Buffer = BODY, more = {}) {
  return signingHeaders(body, { id: "msg_1", at: NOW, ...more });
}

describe("verify", () => {
  it.each(["svix", "webhook"] as const)("reads a genuine delivery with %s- headers", (prefix) => {
    expect(check(signed(BODY, { prefix }))).toEqual({
      messageId: "msg_1",
      sentAt: NOW,
      type: "user.created",
      body: BODY,
    });
  });

  it("takes any of several secrets, and none that is retired", () => {
    const byOther = signed(BODY, { key: OTHER });
    expect(check(byOther, BODY, [SECRET, `whsec_${OTHER.toString("base64")}`]).messageId).toBe("msg_1");
    expect(() => check(byOther)).toThrow(/not signed/);
  });

  it("takes any of several signatures", () => {
    const own = signed()["svix-signature"] ?? "";
    const listed = `v1a,AAAA v1,AAAA v2,${own.slice(3)} ${own}`;
    expect(check({ ...signed(), "svix-signature": listed }).messageId).toBe("msg_1");
    expect(() => check({ ...signed(), "svix-signature": listed.slice(0, -own.length - 1) })).toThrow(/not signed/);
  });

  it("refuses each changed byte of the body", () => {
    const body = Buffer.from(BODY);
    for (let index = 0; index < body.length; index += 1) {
      const changed = Buffer.from(body);
      changed[index] = (body[index] ?? 0) ^ 1;
      expect(() => check(signed(), changed)).toThrow(/not signed/);
    }
    expect(() => check(signed(), `${BODY}\n`)).toThrow(/not signed/);
  });

  it.each([
    [-301, false],
    [-300, true],
    [300, true],
    [301, false],
  ])("tolerates five minutes: %i s", (distance, accepted) => {
    const given = () => check(signed(BODY, { at: NOW + distance }));
    if (accepted) expect(given().sentAt).toBe(NOW + distance);
    else expect(given).toThrow("301 s");
  });

  it.each(["NaN", "inf", "-1", "+1760000000", "1760000000.0", "1.76e9", "0x68E77800", "9".repeat(5000)])(
    "refuses the timestamp %s",
    (timestamp) => {
      expect(() => check({ ...signed(), "svix-timestamp": timestamp })).toThrow(/timestamp/);
    },
  );

  it.each(["msg 1", "msg.1", "m".repeat(256)])("refuses the message id %s", (id) => {
    expect(() => check({ ...signed(), "svix-id": id })).toThrow(/message id/);
  });

  it.each(["svix-id", "svix-timestamp", "svix-signature"])("refuses where %s is missing or repeated", (name) => {
    const complete = signed();
    const without = Object.fromEntries(Object.entries(complete).filter(([known]) => known !== name));
    expect(() => check(without)).toThrow(/carry/);
    const twice = new Headers(complete);
    twice.append(name, complete[name] ?? "");
    expect(() => verify([SECRET], twice, Buffer.from(BODY), NOW)).toThrow(/repeats/);
  });

  it.each([
    "",
    "null",
    "[]",
    '"user.created"',
    "{",
    '{"type": 1}',
    '{"type": ""}',
    "{}",
    '{"type": "a"} x',
    '{"type": "a", "data": NaN}',
    "\ufeff{}",
  ])("refuses the signed body %j, which is no event", (body) => {
    expect(() => check(signed(body), body)).toThrow(/body/);
  });

  it("refuses a signed body that is not UTF-8", () => {
    const body = Buffer.concat([Buffer.from('{"type": "a", "data": "'), Buffer.from([0xff]), Buffer.from('"}')]);
    expect(() => check(signed(body), body)).toThrow(/UTF-8/);
  });

  it.each([
    ["a\\u0000b", "a\ufffdb"],
    ["\\ud800", "\ufffd"],
    ["\\uDC00\\ud800", "\ufffd\ufffd"],
  ])("replaces %s, which PostgreSQL cannot hold", (text, kept) => {
    const body = `{"type": "user.updated", "data": "${text}"}`;
    expect(JSON.parse(check(signed(body), body).body)).toEqual({ type: "user.updated", data: kept });
  });

  it("keeps harmless escapes byte for byte", () => {
    const body = String.raw`{"type": "user.updated",  "data": "\u003cb\u003e \ud83d\ude00 \\u0000"}`;
    expect(check(signed(body), body).body).toBe(body);
  });

  it.each(["whsec_", "whsec_AAAA", "whsec_?", "k".repeat(32)])(
    "takes %s for no secret, and does not show it",
    (secret) => {
      try {
        check(signed(), BODY, [secret]);
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: "webhook_not_configured", status: 503 });
        expect(secret.length < 7 || !String(error).includes(secret)).toBe(true);
      }
    },
  );
});

describe("receiveWebhook", () => {
  const said: string[] = [];

  beforeEach(() => {
    process.env.CLERK_WEBHOOK_SIGNING_SECRET = SECRET;
    for (const level of ["info", "warn", "error"] as const) {
      vi.spyOn(console, level).mockImplementation((line: string) => void said.push(line));
    }
  });
  afterEach(() => {
    delete process.env.TENANTRY_WEBHOOK_MAX_BYTES;
    expect(said.join("\n")).not.toMatch(/whsec_|Zanzibar/);
  });

  async function outcome(answer: Response): Promise<[number, unknown]> {
    const told: { outcome?: string; code?: string } = await answer.json();
    if (!answer.ok) expect(answer.headers.get("content-type")).toBe("application/problem+json");
    return [answer.status, told.outcome ?? told.code];
  }

  function endless(taken: number[]): ReadableStream {
    return new ReadableStream(
      { pull: (to) => (taken.push(1), to.enqueue(Buffer.alloc(100, "x"))) },
      { highWaterMark: 0 },
    );
  }

  it("cuts off a body that is too large, and reads none that says so", async () => {
    process.env.TENANTRY_WEBHOOK_MAX_BYTES = "1024";
    const taken: number[] = [];
    expect(await outcome(await receiveWebhook(request(endless(taken), {})))).toEqual([413, "payload_too_large"]);
    expect(taken.length).toBe(11);
    const announced = { "content-length": "1025" };
    expect(await outcome(await receiveWebhook(request(endless(taken), announced)))).toEqual([413, "payload_too_large"]);
    expect(taken.length).toBe(11);
  });

  it("gives up a body that comes too slowly, or breaks off", async () => {
    vi.useFakeTimers();
    const never = receiveWebhook(request(new ReadableStream({ start: () => undefined }), {}));
    await vi.advanceTimersByTimeAsync(10_001);
    expect(await outcome(await never)).toEqual([400, "webhook"]);
    vi.useRealTimers();
    const broken = new ReadableStream({ pull: (to) => to.error(new Error("reset")) });
    expect(await outcome(await receiveWebhook(request(broken, {})))).toEqual([400, "webhook"]);
  });

  it("answers 400 to what is not signed", async () => {
    const body = JSON.stringify(event("organization.created", { id: "org_1", name: "Zanzibar" }));
    const headers = signingHeaders(body);
    for (const [forged, sent] of [
      [{}, body],
      [{ ...headers, "svix-signature": "v1,AAAA" }, body],
      [headers, `${body}\n`],
      [{ ...headers, "svix-id": "msg_other" }, body],
    ] as const) {
      expect(await outcome(await receiveWebhook(request(sent, forged)))).toEqual([400, "bad_signature"]);
    }
  });

  it("answers 503 without a secret, and without a database", async () => {
    delete process.env.CLERK_WEBHOOK_SIGNING_SECRET;
    expect(await outcome(await deliver(event("user.created", {})))).toEqual([503, "webhook_not_configured"]);
    process.env.CLERK_WEBHOOK_SIGNING_SECRET = SECRET;
    delete process.env.DATABASE_URL;
    const refused = await deliver(event("user.created", {}));
    expect(refused.status).toBeGreaterThanOrEqual(500);
    expect(said.at(-1)).toMatch(/Set DATABASE_URL/); // in the log, and not in the answer
    expect(await refused.text()).not.toMatch(/DATABASE_URL/);
  });

  it("logs what it did not expect by its name alone", async () => {
    const taken = request(JSON.stringify(event("user.created", { name: "Zanzibar" })), {});
    taken.body?.getReader(); // by who wrapped the handler
    expect(await outcome(await receiveWebhook(taken))).toEqual([500, "tenantry_error"]);
    expect(said.at(-1)).toBe("tenantry webhook: tenantry_error (TypeError)");
  });

  describe.skipIf(!process.env.TENANTRY_TEST_DATABASE_URL)("on a database", () => {
    let org: string;
    beforeEach(async () => {
      process.env.DATABASE_URL = process.env.TENANTRY_TEST_DATABASE_URL;
      org = `org_${randomUUID().slice(0, 8)}`;
      await join(`${org}_before`, "user_before"); // or says why it cannot
    });

    function told(name = "Zanzibar", more = {}) {
      const at = Date.now();
      const data = { object: "organization", id: org, name, slug: null, created_at: at, updated_at: at };
      return { ...event("organization.created", data), ...more };
    }

    it("stores a delivery once, however often it comes", async () => {
      const delivery = told();
      const id = `msg_${randomUUID()}`;
      expect(await outcome(await deliver(delivery, { id }))).toEqual([200, "applied"]);
      expect(await outcome(await deliver(delivery, { id }))).toEqual([200, "duplicate"]);
      expect(await outcome(await deliver({ ...delivery, other: 1 }, { id }))).toEqual([400, "delivery_refused"]);
    });

    it("keeps what it cannot read as a dead letter, and passes over what the mirror does not use", async () => {
      expect(await outcome(await deliver(event("organization.created", { name: "no id" })))).toEqual([200, "failed"]);
      expect(await outcome(await deliver(event("email.created", { id: "ema_1" })))).toEqual([200, "ignored"]);
    });

    it("refuses another instance's", async () => {
      await deliver(told());
      expect(await outcome(await deliver(told("Zanzibar", { instance_id: "ins_other" })))).toEqual([
        400,
        "delivery_refused",
      ]);
    });
  });
});
