// Lives transactions by `withTenant`, `withTenantById` and on the bare pool: a line of JSON in, a line out.

const readline = require("node:readline");
const pg = require("pg");
const { signIn } = require("@clerk/nextjs/server");
const { pool } = require("./clerk-multitenant/connection");
const { errorFromDatabase } = require("./clerk-multitenant/errors");
const { withTenant, withTenantById } = require("./clerk-multitenant/tenant");

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
const rolledBack = new Error("no error: how these apps roll back");

async function live(db, { steps, commit }) {
  let rows = null;
  for (const [number, { sql, savepoint }] of steps.entries()) {
    if (savepoint) await db.query(`savepoint step_${number}`);
    const result = await db.query({ text: sql, rowMode: "array" });
    if (result.fields.length > 0) rows = result.rows;
    if (savepoint) await db.query(`${savepoint === "undone" ? "rollback to" : "release"} step_${number}`);
  }
  return { rows, end: commit ? () => undefined : () => Promise.reject(rolledBack) };
}

async function outside(work) {
  const client = await pool().connect();
  try {
    await client.query(work.readOnly ? "begin read only" : "begin");
    const { rows } = await live(client, work);
    await client.query(work.commit ? "commit" : "rollback");
    return { rows };
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

async function transact(work) {
  if (work.raw) return outside(work);
  let outcome;
  const run = async (db, tenant) => {
    const { rows, end } = await live(db, work);
    outcome = { rows, context: tenant };
    await end();
  };
  process.env.TENANTRY_PERSONAL_ACCOUNTS = work.personalAccounts ? "allow" : "refuse";
  const options = { readOnly: work.readOnly };
  const { job } = work;
  const header = Buffer.from(JSON.stringify({ kid: work.instance })).toString("base64url");
  signIn(work.claims ?? null, `${header}..`);
  try {
    await (job
      ? withTenantById(job.id, job.reason, run, { ...options, userId: job.userId })
      : withTenant(run, options));
  } catch (error) {
    if (error !== rolledBack) throw error;
  }
  return outcome;
}

function problemOf(raised) {
  const error = errorFromDatabase(raised) ?? raised;
  return { kind: error.name, code: error.code ?? error.name, message: error.message };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const outcome = await transact(JSON.parse(line)).catch((error) => ({ problem: problemOf(error) }));
    console.log(JSON.stringify(outcome));
  }
  await pool().end();
}

void main();
