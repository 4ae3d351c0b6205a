/** Webhook deliveries as Clerk sends them, signed with a secret of the tests' own. */

import { createHmac, randomUUID } from "node:crypto";

import { receiveWebhook } from "../webhook-handler";

const KEY = Buffer.from("a signing key of the tests");
export const SECRET = `whsec_${KEY.toString("base64")}`;

export interface Sent {
  readonly id?: string;
  readonly key?: Buffer;
  readonly at?: number;
  readonly prefix?: "svix" | "webhook";
}

export function signingHeaders(body: string | Buffer, sent: Sent = {}): Record<string, string> {
  const { id = `msg_${randomUUID()}`, key = KEY, at = Math.floor(Date.now() / 1000), prefix = "svix" } = sent;
  const mac = createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest("base64");
  return { [`${prefix}-id`]: id, [`${prefix}-timestamp`]: String(at), [`${prefix}-signature`]: `v1,${mac}` };
}

export function request(body: string | Buffer | ReadableStream, headers: Record<string, string>): Request {
  const init: RequestInit & { duplex: "half" } = { method: "POST", body: plain(body), headers, duplex: "half" };
  return new Request("https://app.example.com/api/webhooks/clerk", init);
}

function plain(body: string | Buffer | ReadableStream): BodyInit {
  return Buffer.isBuffer(body) ? new Uint8Array(body) : body;
}

/** An event as Clerk words it, true `ago` seconds ago. */
export function event(type: string, data: Record<string, unknown>, ago = 0): Record<string, unknown> {
  return { type, object: "event", data, timestamp: Date.now() - ago * 1000, instance_id: "ins_test" };
}

export async function deliver(told: unknown, sent: Sent = {}): Promise<Response> {
  const body = JSON.stringify(told);
  return receiveWebhook(request(body, signingHeaders(body, sent)));
}

/** An organization with one member, as a webhook of a minute ago tells of it. */
export async function join(orgId: string, userId: string, ago = 60): Promise<void> {
  await tell("organizationMembership.created", orgId, userId, ago);
}

export async function leave(orgId: string, userId: string, ago = 0): Promise<void> {
  await tell("organizationMembership.deleted", orgId, userId, ago);
}

async function tell(type: string, orgId: string, userId: string, ago: number): Promise<void> {
  const at = Date.now() - ago * 1000;
  const data = {
    object: "organization_membership",
    id: `orgmem_${orgId}`,
    role: "org:member",
    permissions: [],
    organization: {
      object: "organization",
      id: orgId,
      name: `Name of ${orgId}`,
      slug: `slug-of-${orgId}`,
      created_at: at,
      updated_at: at,
    },
    public_user_data: { user_id: userId, first_name: null, last_name: null, identifier: `${userId}@example.com` },
    created_at: at,
    updated_at: at,
  };
  const answer = await deliver(event(type, data, ago));
  if (answer.status === 400) throw new Error("The tests take a database whose mirror is of no Clerk instance yet.");
  if (!answer.ok) throw new Error(`${type} was answered ${answer.status}: ${await answer.text()}`);
}
