import { pool } from "../../../clerk-multitenant/database";
import { errorFromDatabase } from "../../../clerk-multitenant/errors";
import { withTenant } from "../../../clerk-multitenant/tenant";

/** What a query finds that forgot `withTenant`, on a connection that was just in a tenant. */
export async function GET(): Promise<Response> {
  await withTenant(async (db) => db.query("select title from documents"));
  try {
    const { rows } = await pool().query("select title from documents");
    return Response.json(rows);
  } catch (error) {
    return Response.json({ code: errorFromDatabase(error)?.code ?? "another error" }, { status: 500 });
  }
}
