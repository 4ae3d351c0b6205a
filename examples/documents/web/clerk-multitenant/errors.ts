/**
 * Every way tenancy says no: a code for programs, a sentence for people, a next step, an HTTP status.
 *
 * Codes, statuses and SQLSTATEs are the same in every language that uses this database. Nothing is imported here, so
 * that the browser can use it too.
 */

interface Known {
  readonly status: number;
  readonly title: string;
  readonly sqlstate?: string;
  readonly hint?: string;
}

const KNOWN = {
  tenantry_error: { status: 500, title: "Something went wrong in Tenantry." },
  configuration: { status: 500, title: "A setting is missing or contradicts another." },
  schema: { status: 500, title: "The database's tenantry schema and this release do not fit." },
  database_unavailable: {
    status: 503,
    title: "The database did not answer.",
    hint: "See that PostgreSQL runs, that DATABASE_URL is its address and login, and that no work holds connections.",
  },
  database_refused: { status: 503, title: "The database could not run this call." },

  no_tenant: { status: 500, sqlstate: "TY001", title: "No tenant is set for this transaction." },
  tenant_already_set: {
    status: 500,
    sqlstate: "TY002",
    title: "This transaction already has a tenant or the bypass.",
  },
  leftovers: {
    status: 500,
    sqlstate: "TY003",
    title: "This connection still holds what an earlier tenant left on it.",
  },
  invalid_argument: {
    status: 500,
    sqlstate: "TY010",
    title: "A database function got an argument it cannot read.",
  },
  not_provisioned: {
    status: 500,
    sqlstate: "TY011",
    title: "The mirror has not seen this organization or user yet.",
  },
  unknown_tenant: { status: 500, sqlstate: "TY020", title: "No tenant has this id." },
  table_not_isolable: { status: 500, sqlstate: "TY030", title: "This table cannot be isolated or shared as asked." },
  no_organization_id: {
    status: 500,
    sqlstate: "TY040",
    title: "This tenant is a personal account and has no organization id.",
  },

  unauthenticated: { status: 401, title: "Sign in to continue." },
  missing_token: { status: 401, title: "The request carries no session token." },
  invalid_token: { status: 401, title: "The session token is not valid." },
  token_expired: { status: 401, sqlstate: "TY019", title: "The session token has expired." },
  session_pending: { status: 401, title: "The session has tasks to finish before it may be used." },
  wrong_token_kind: { status: 401, title: "This is a token of another kind, not a session token." },
  session_ended: { status: 401, sqlstate: "TY016", title: "This session has ended." },

  no_organization: { status: 403, sqlstate: "TY017", title: "The session has no active organization." },
  not_a_member: { status: 403, sqlstate: "TY012", title: "You are not a member of this organization." },
  organization_deleted: { status: 403, sqlstate: "TY013", title: "This organization has been deleted." },
  user_deleted: { status: 403, sqlstate: "TY014", title: "This user has been deleted." },
  user_banned: { status: 403, sqlstate: "TY015", title: "This user is banned." },
  wrong_instance: {
    status: 403,
    sqlstate: "TY018",
    title: "The session belongs to another Clerk instance than this database.",
  },
  untrusted_origin: {
    status: 403,
    title: "This request comes from a page that is not the app's.",
    hint: "Send the session token as `Authorization: Bearer`, or add the page's origin to CLERK_AUTHORIZED_PARTIES.",
  },
  permission_denied: { status: 403, title: "Your role in this organization does not permit this." },
  organization_mismatch: {
    status: 409,
    title: "The active organization is not the one this request expects.",
  },

  webhook: { status: 400, title: "The webhook delivery was not recorded." },
  bad_signature: { status: 400, title: "The webhook delivery could not be verified." },
  delivery_refused: {
    status: 400,
    title: "The webhook delivery is another instance's, or repeats a known id with other content.",
  },
  payload_too_large: { status: 413, title: "The webhook delivery is larger than accepted." },
  webhook_not_configured: { status: 503, title: "No webhook signing secret is configured." },
} as const satisfies Record<string, Known>;

export type Code = keyof typeof KNOWN;

const BY_CODE: ReadonlyMap<string, Known> = new Map(Object.entries<Known>(KNOWN));
const BY_SQLSTATE: ReadonlyMap<string, string> = new Map(
  Array.from(BY_CODE).flatMap(([code, { sqlstate }]) => (sqlstate ? [[sqlstate, code]] : [])),
);
const DIGEST = "tenantry:";

export interface Explanation {
  /** What happened, with the values in it; the code's own sentence if left out. */
  readonly message?: string | undefined;
  /** For the server's log alone. */
  readonly detail?: string | undefined;
  /** The next step. */
  readonly hint?: string | undefined;
  /** For codes that only an API of yours knows. */
  readonly status?: number | undefined;
}

export class TenancyError extends Error {
  override readonly name = "TenancyError";
  readonly code: string;
  readonly status: number;
  readonly title: string;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  /** Next.js keeps it where it hides the message: an error boundary and a caller of an action can read the code. */
  readonly digest: string;

  constructor(code: Code | (string & {}), explanation: Explanation = {}) {
    const known = BY_CODE.get(code);
    const title = known?.title ?? "Something went wrong.";
    super(explanation.message ?? title);
    this.code = code;
    this.status = known?.status ?? explanation.status ?? 500;
    this.title = title;
    this.detail = explanation.detail;
    this.hint = explanation.hint ?? known?.hint;
    this.digest = DIGEST + code;
  }
}

/** The code of a TenancyError, or of what Next.js leaves of one on its way to the browser; else undefined. */
export function codeOf(error: unknown): string | undefined {
  if (error instanceof TenancyError) return error.code;
  const digest = read(error, "digest");
  return typeof digest === "string" && digest.startsWith(DIGEST) ? digest.slice(DIGEST.length) : undefined;
}

/**
 * The answer to a request that a TenancyError ended: a problem document (RFC 9457) with its status. Whatever else was
 * thrown is thrown again: it may be Next.js's own `redirect()` or `notFound()`.
 */
export function toResponse(error: unknown): Response {
  if (!(error instanceof TenancyError)) throw error;
  const headers = new Headers({ "content-type": "application/problem+json", "cache-control": "no-store" });
  if (error.status === 401) {
    headers.set("www-authenticate", error.code === "missing_token" ? "Bearer" : 'Bearer error="invalid_token"');
  }
  if (error.status === 503 && error.code !== "webhook_not_configured") headers.set("retry-after", "5");
  return new Response(JSON.stringify(toProblem(error)), { status: error.status, headers });
}

/** What only the operator can mend has no detail. */
function toProblem(error: TenancyError): Record<string, unknown> {
  const told = [error.message === error.title ? "" : error.message, error.hint ?? ""].filter(Boolean).join(" ");
  const shown = told && error.status < 500 && error.code !== "wrong_instance";
  return {
    type: `urn:tenantry:${error.code}`,
    title: error.status === 500 ? "Internal Server Error" : error.title,
    status: error.status,
    code: error.code,
    ...(shown ? { detail: told } : {}),
  };
}

/** The error a problem document tells of; `status` is that of the response it came with. */
export function errorFromProblem(problem: unknown, status: number): TenancyError {
  const code = read(problem, "code");
  const sentence = read(problem, "detail") ?? read(problem, "title");
  return new TenancyError(typeof code === "string" ? code : "unknown", {
    message: typeof sentence === "string" ? sentence : undefined,
    status,
  });
}

/** What the database refused, out of whatever the driver and the ORM wrapped it in; else undefined. */
export function errorFromDatabase(raised: unknown): TenancyError | undefined {
  for (const { sqlstate, message, detail, hint } of saidByDatabase(raised)) {
    const code = BY_SQLSTATE.get(sqlstate);
    if (code) return new TenancyError(code, { message, detail: detail || undefined, hint: hint || undefined });
    if (["3F000", "42883", "42501"].includes(sqlstate) && /schema "?tenantry|function tenantry\./.test(message)) {
      const hint = "Run `tenantry db migrate --app-role <this app's login>` as the role that owns the schema.";
      return new TenancyError("schema", { message, hint });
    }
  }
  return undefined;
}

// Classes of SQLSTATE that say nothing about the call: connection, login, database, resources, shutdown, system.
const OUTAGES = ["08", "28", "3D", "53", "57", "58"];

/** Why a call of the database's functions came to nothing: what it refused, or that it is away (503). */
export function explainDatabase(raised: unknown): TenancyError {
  if (raised instanceof TenancyError) return raised;
  const sqlstate = saidByDatabase(raised)[0]?.sqlstate;
  if (sqlstate === undefined || OUTAGES.includes(sqlstate.slice(0, 2))) {
    // A name and no sentence: those of drivers quote addresses.
    const detail = sqlstate ?? text(read(raised, "code")) ?? text(read(raised, "name"));
    return new TenancyError("database_unavailable", { detail });
  }
  return errorFromDatabase(raised) ?? new TenancyError("database_refused", { detail: sqlstate });
}

interface Said {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
}

/** pg has the fields on its error, Drizzle has pg's error as `cause`, Prisma has a copy under `meta`. */
function saidByDatabase(raised: unknown): Said[] {
  const found: Said[] = [];
  let error = raised;
  for (let depth = 0; depth < 8 && error; depth += 1) {
    const copied = read(read(read(error, "meta"), "driverAdapterError"), "cause") ?? error;
    const sqlstate = read(copied, "originalCode") ?? read(copied, "code");
    if (typeof sqlstate === "string" && /^[0-9A-Z]{5}$/.test(sqlstate)) {
      found.push({
        sqlstate,
        message: text(read(copied, "originalMessage") ?? read(copied, "message")) ?? "",
        detail: text(read(copied, "detail")),
        hint: text(read(copied, "hint")),
      });
    }
    error = read(error, "cause");
  }
  return found.filter(({ sqlstate }) => !/^P[0-9]{4}$/.test(sqlstate)); // Prisma's own codes look like SQLSTATEs
}

function read(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && name in value ? Reflect.get(value, name) : undefined;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
