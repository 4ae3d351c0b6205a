/**
 * The webhook endpoint: verifies a delivery of Clerk, records it in the mirror, and answers.
 *
 * 200: stored, whatever became of it; 400: not Clerk's; 413: too large; 503: send again. Clerk sends through Svix,
 * which speaks Standard Webhooks v1. Clerk's own `verifyWebhook` drops `timestamp` and `instance_id`, by which the
 * mirror tells late events from new ones and this instance from others: so the raw body is verified here, and stored as
 * it came.
 */

import { createHmac, timingSafeEqual } from "node:crypto";

import { callFunction } from "./database";
import { explainDatabase, TenancyError, toResponse } from "./errors";
import { isRecord } from "./json";
import { announceChanges, readOutcome, recordEvent, type Call, type Delivery } from "./mirror";
import { keepsPrivateMetadata, webhookMaxBytes, webhookSecrets } from "./settings";

const TOLERANCE = 300; // seconds
const BODY_MS = 10_000; // a sender slower than this is not Svix
const ANSWER_MS = 12_000; // under the 15 s after which Svix counts a delivery as failed
const ANNOUNCE_MS = 2_000;
const LONGEST_SIGNATURES = 4096; // characters; Svix sends under 50 for each secret

/** Answers Clerk's POST. */
export async function receiveWebhook(request: Request): Promise<Response> {
  try {
    const body = await readBody(request, webhookMaxBytes());
    const delivery = verify(webhookSecrets(), request.headers, body);
    const outcome = await record(delivery);
    return Response.json({ outcome, message_id: delivery.messageId });
  } catch (error) {
    const known = error instanceof TenancyError ? error : new TenancyError("tenantry_error", { detail: nameOf(error) });
    say(known);
    return toResponse(known);
  }
}

/** Checks size, headers, time and signature, in this order, then reads. `now` in Unix seconds. */
export function verify(
  secrets: readonly string[],
  headers: Headers,
  body: Uint8Array,
  now: number = Date.now() / 1000,
): Delivery {
  const keys = readKeys(secrets);
  const { messageId, timestamp, signatures } = readHeaders(headers);
  checkTime(timestamp, now);
  checkSignature(keys, `${messageId}.${timestamp}.`, body, signatures);
  return { messageId, sentAt: Number(timestamp), ...readEvent(body) };
}

async function record(delivery: Delivery): Promise<string> {
  const call = recordEvent(delivery, keepsPrivateMetadata());
  const late = new TenancyError("database_unavailable", { message: "The delivery was not recorded in time." });
  const answer = await within(ANSWER_MS, ask(call), late);
  const { outcome, code, error } = readOutcome(answer);
  const level = outcome === "failed" || outcome === "refused" ? "warn" : "info";
  console[level](`tenantry webhook ${delivery.messageId} ${JSON.stringify(delivery.type)}: ${code ?? outcome}`);
  if (outcome === "refused") {
    throw new TenancyError("delivery_refused", { message: `The delivery was refused: ${error}.` });
  }
  // Readers of changes ask at an interval too: they only hear sooner.
  if (outcome === "applied") await within(ANNOUNCE_MS, ask(announceChanges()), late).catch(() => undefined);
  return outcome;
}

/** What the operator can mend is said with its next step. No message: PostgreSQL's quote what they could not read. */
function say({ code, status, detail, hint }: TenancyError): void {
  if (status < 500) return console.info(`tenantry webhook: ${code}`);
  const known = detail && /^\w{1,40}$/.test(detail) ? ` (${detail})` : ""; // a SQLSTATE, or what JavaScript calls it
  console.error(`tenantry webhook: ${code}${known}${hint ? `. ${hint}` : ""}`);
}

function nameOf(error: unknown): string | undefined {
  return error instanceof Error ? error.name : undefined;
}

async function ask(call: Call): Promise<string> {
  try {
    return await callFunction(call);
  } catch (error) {
    throw explainDatabase(error);
  }
}

// --- the body ---------------------------------------------------------------------------------------------------------

/** The raw body; refused as soon as it is known to be larger than `limit`, or takes too long to come. */
async function readBody(request: Request, limit: number): Promise<Uint8Array> {
  const announced = request.headers.get("content-length") ?? "";
  if (/^[0-9]+$/.test(announced) && Number(announced) > limit) throw tooLarge(limit);
  const broken = new TenancyError("webhook", {
    message: `The webhook body broke off, or took more than ${BODY_MS / 1000} s to arrive.`,
  });
  const reader = request.body?.getReader();
  const chunks: Uint8Array[] = [];
  const read = async (): Promise<void> => {
    let size = 0;
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      size += part.value.length;
      if (size > limit) throw tooLarge(limit);
      chunks.push(part.value);
    }
  };
  try {
    await within(BODY_MS, read(), broken);
  } catch (error) {
    reader?.cancel().catch(() => undefined);
    throw error instanceof TenancyError ? error : broken;
  }
  return Buffer.concat(chunks);
}

function tooLarge(limit: number): TenancyError {
  return new TenancyError("payload_too_large", { message: `The webhook body has more than ${limit} bytes.` });
}

async function within<T>(milliseconds: number, promise: Promise<T>, late: TenancyError): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late), milliseconds);
  });
  return Promise.race([promise, tooLate]).finally(() => clearTimeout(timer));
}

// --- the signature ----------------------------------------------------------------------------------------------------

interface SigningHeaders {
  readonly messageId: string;
  readonly timestamp: string;
  readonly signatures: string;
}

/** One header each, all of one spelling. */
function readHeaders(headers: Headers): SigningHeaders {
  const names = ["id", "timestamp", "signature"];
  const prefix = names.some((name) => headers.has(`svix-${name}`)) ? "svix" : "webhook";
  const [messageId = "", timestamp = "", signatures = ""] = names.map((name) => headers.get(`${prefix}-${name}`) ?? "");
  if (!messageId || !timestamp || !signatures) {
    refuse("does not carry all of svix-id, svix-timestamp and svix-signature");
  }
  // Of a header that came twice, Node.js joins the values: a proxy and we might each believe another one.
  if ([messageId, timestamp, signatures].some((value) => value.includes(", "))) refuse("repeats a signing header");
  // No dot: the signed text joins id, time and body with dots.
  if (!/^[A-Za-z0-9_-]{1,255}$/.test(messageId)) refuse("has a malformed message id");
  if (!/^[1-9][0-9]{0,11}$/.test(timestamp)) refuse("has a timestamp that is not whole Unix seconds");
  if (signatures.length > LONGEST_SIGNATURES) {
    refuse(`has a signature header of ${signatures.length} characters; ${LONGEST_SIGNATURES} are accepted`);
  }
  return { messageId, timestamp, signatures };
}

function checkTime(timestamp: string, now: number): void {
  const distance = Number(timestamp) - now;
  if (Math.abs(distance) <= TOLERANCE) return;
  const side = distance > 0 ? "ahead of" : "behind";
  refuse(
    `is stamped ${Math.abs(distance).toFixed(0)} s ${side} this server's clock; ${TOLERANCE} s are tolerated`,
    "If deliveries are fresh, set this server's clock (NTP).",
  );
}

function checkSignature(keys: readonly Buffer[], prefix: string, body: Uint8Array, signatures: string): void {
  const entries = signatures.split(" ").filter((entry) => entry.startsWith("v1,"));
  const given = entries.map((entry) => Buffer.from(entry.slice(3)));
  const genuine = keys.some((key) => {
    const expected = Buffer.from(createHmac("sha256", key).update(prefix).update(body).digest("base64"));
    return given.some((candidate) => candidate.length === expected.length && timingSafeEqual(candidate, expected));
  });
  if (genuine) return;
  refuse(
    "is not signed with this endpoint's secret",
    "Compare CLERK_WEBHOOK_SIGNING_SECRET with the endpoint in the Clerk dashboard; pass the raw body on.",
  );
}

function readKeys(secrets: readonly string[]): Buffer[] {
  if (secrets.length === 0) {
    throw new TenancyError("webhook_not_configured", {
      hint: "Set CLERK_WEBHOOK_SIGNING_SECRET to the endpoint's signing secret.",
    });
  }
  return secrets.map((secret) => {
    const encoded = secret.startsWith("whsec_") ? secret.slice(6) : "";
    const key = Buffer.from(encoded, "base64");
    if (key.length < 16 || key.toString("base64") !== encoded) {
      throw new TenancyError("webhook_not_configured", {
        message: "A webhook signing secret is not of the form whsec_<base64>.",
        hint: "Copy it whole from the endpoint's page in the Clerk dashboard.",
      });
    }
    return key;
  });
}

// --- the event --------------------------------------------------------------------------------------------------------

function readEvent(body: Uint8Array): { type: string; body: string } {
  const text = decode(body);
  let event: unknown;
  try {
    event = JSON.parse(text);
  } catch {
    refuse("has a body that is not JSON in UTF-8");
  }
  if (!isRecord(event)) refuse("has a body that is not a JSON object");
  const { type } = event;
  if (typeof type !== "string" || type === "" || type.length > 255) refuse("has a body without an event type");
  return { type, body: replaceUnstorable(text) };
}

function decode(body: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    refuse("has a body that is not JSON in UTF-8");
  }
}

/** PostgreSQL can keep no NUL and no lone surrogate; in valid JSON they can stand only as an escape. */
function replaceUnstorable(json: string): string {
  return json.replace(
    /\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})|\\./g,
    (escape) => (/^\\u(0000|d[89a-f]..)$/i.test(escape) ? "\ufffd" : escape),
  );
}

function refuse(problem: string, hint?: string): never {
  throw new TenancyError("bad_signature", { message: `The webhook delivery ${problem}.`, hint });
}
