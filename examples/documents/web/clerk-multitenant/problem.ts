/** Paths of an API that knows Tenantry, and its refusals as typed errors: they come as problem documents (RFC 9457). */
import { errorFromProblem, type TenancyError } from "./errors";
import { isRecord } from "./json";

/** Refuses what is no path of the API: URL parsers skip tabs and line ends, so only what they make of it counts. */
export function checkPath(path: string): void {
  const api = "http://api.invalid";
  if (!path.startsWith("/") || new URL(path, api).origin !== api) {
    throw new TypeError(`The API is asked for a path like "/documents", not ${JSON.stringify(path)}`);
  }
}

const REFUSALS = [401, 403, 409];

/** The answer, unless it is a refusal of Tenantry's: that is told and thrown. Any other is the API's own. */
export async function refuse(answer: Response, tell?: (error: TenancyError) => void): Promise<Response> {
  if (!REFUSALS.includes(answer.status)) return answer;
  const problem: unknown = await answer
    .clone()
    .json()
    .catch(() => null);
  if (!isOurs(problem)) return answer;
  const error = errorFromProblem(problem, answer.status);
  tell?.(error);
  throw error;
}

function isOurs(problem: unknown): boolean {
  return isRecord(problem) && typeof problem.code === "string" && problem.type === `urn:tenantry:${problem.code}`;
}
