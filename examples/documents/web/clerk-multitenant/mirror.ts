/** The database functions as typed calls: the only TypeScript that names them. JSON crosses as text both ways. */

/** A call of a database function: `types` are the SQL types its arguments, all texts, are read as. */
export interface Call {
  readonly name: string;
  readonly types: readonly string[];
  readonly values: readonly string[];
}

/** One verified delivery of a webhook: `body` is the JSON text as it was signed, `sentAt` in Unix seconds. */
export interface Delivery {
  readonly messageId: string;
  readonly sentAt: number;
  readonly type: string;
  readonly body: string;
}

/** What became of one: `applied`, `stale`, `ignored`, `duplicate`, `failed` or `refused`. */
export interface Outcome {
  readonly outcome: string;
  readonly code?: string;
  readonly error?: string;
}

/** Enters the tenant of verified token facts. */
export function setTenant(facts: string): Call {
  return { name: "set_tenant_v1", types: ["jsonb"], values: [facts] };
}

/** Makes the tenant and user of verified token facts known, in a transaction of its own. */
export function provision(facts: string): Call {
  return { name: "provision_v1", types: ["jsonb"], values: [facts] };
}

/** Enters a tenant without a token; with a user the membership is checked. */
export function setTenantById(tenantId: string, reason: string, userId?: string | null): Call {
  const options = JSON.stringify({ user_id: userId ?? null });
  return { name: "set_tenant_by_id_v1", types: ["uuid", "text", "jsonb"], values: [tenantId, reason, options] };
}

/** Records a verified delivery and merges what it tells; `readOutcome` reads the answer. */
export function recordEvent(delivery: Delivery, keepPrivateMetadata: boolean): Call {
  const { messageId, sentAt, body } = delivery;
  const told = { message_id: messageId, sent_at: sentAt, keep_private_metadata: keepPrivateMetadata, body };
  return { name: "record_events_v1", types: ["jsonb"], values: [JSON.stringify([told])] };
}

export function readOutcome(answer: string): Outcome {
  const [outcome]: Outcome[] = JSON.parse(answer);
  if (!outcome) throw new Error("record_events_v1 answered nothing");
  return outcome;
}

/** Has committed changes placed in the feed, and their readers told. */
export function announceChanges(): Call {
  return { name: "announce_changes_v1", types: [], values: [] };
}

/** The statement with `$1` placeholders, or with each argument as `write` puts it; its one column is `answer`. */
export function statement(call: Call, write?: (value: string) => string): string {
  const given = call.types.map((type, n) => `${write?.(call.values[n] ?? "") ?? `$${n + 1}`}::text::${type}`);
  return `select tenantry.${call.name}(${given.join(", ")})::text as answer`;
}
