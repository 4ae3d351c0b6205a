/** Webhook signatures, judged by the official package of Standard Webhooks. */

import { randomBytes } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { expect, it } from "vitest";

import { verify } from "../webhook-handler";

const KEY = randomBytes(24).toString("base64");
const OTHER = randomBytes(24).toString("base64");
const BODY = '{"type": "user.created", "data": {"name": "Zoë"}}';

function officialHeaders(body: string, id: string, at: Date, signature?: string): Record<string, string> {
  return {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
    "webhook-signature": signature ?? new Webhook(KEY).sign(id, at, body),
  };
}

it("accepts whatever the official package signs", () => {
  for (let number = 0; number < 200; number += 1) {
    const body = JSON.stringify({ type: "user.updated", data: randomBytes(number).toString("latin1") });
    const at = new Date(Date.now() - number * 1000);
    const headers = officialHeaders(body, `msg_${randomBytes(8).toString("hex")}`, at);
    const { body: kept } = verify([`whsec_${KEY}`], new Headers(headers), Buffer.from(body));
    expect(kept).toBe(body.replaceAll("\\u0000", "\ufffd")); // which PostgreSQL cannot hold
  }
});

it("accepts a list of signatures where the official package accepts it", () => {
  const at = new Date();
  const genuine = new Webhook(KEY).sign("msg_1", at, BODY);
  const foreign = new Webhook(OTHER).sign("msg_1", at, BODY);
  const entries = [genuine, foreign, `v1a,${genuine.slice(3)}`, `v2,${genuine.slice(3)}`, "v1,AAAA", genuine.slice(3)];
  for (let mask = 1; mask < 2 ** entries.length; mask += 1) {
    const listed = entries.filter((_, bit) => (mask >> bit) & 1).join(" ");
    const headers = officialHeaders(BODY, "msg_1", at, listed);
    expect([listed, accepts(() => verify([`whsec_${KEY}`], new Headers(headers), Buffer.from(BODY)))]).toEqual([
      listed,
      accepts(() => new Webhook(KEY).verify(BODY, headers)),
    ]);
  }
});

function accepts(check: () => unknown): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}
