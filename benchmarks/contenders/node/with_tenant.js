// Reads the 20 newest documents of a tenant, by `withTenant` and in a plain transaction of pg, in rounds.
//
// stdin: {"rounds", "count", "plain", "isolated", "members": [{"tenantId", "claims"}, ...]}; DATABASE_URL
// stdout: a line a round, {"floor": [microseconds, ...], "ours": [...]}

const { signIn } = require("@clerk/nextjs/server");
const { pool } = require("./clerk-multitenant/connection");
const { withTenant } = require("./clerk-multitenant/tenant");

const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));

const contenders = {
  async floor({ tenantId }) {
    const client = await pool().connect();
    try {
      await client.query("begin");
      const { rows } = await client.query(given.plain, [tenantId]);
      await client.query("commit");
      return rows;
    } finally {
      client.release();
    }
  },
  async ours({ claims }) {
    signIn(claims);
    const { rows } = await withTenant((db) => db.query(given.isolated));
    return rows;
  },
};

async function check() {
  for (const member of given.members.slice(0, 3)) {
    const [floor, ours] = [await contenders.floor(member), await contenders.ours(member)].map((rows) =>
      JSON.stringify(rows),
    );
    if (floor !== ours || JSON.parse(ours).length !== 20) throw new Error("the contenders answer differently");
  }
}

async function takeTurn(run, round) {
  const times = [];
  for (let n = 0; n < given.count; n += 1) {
    const member = given.members[(n * 7 + round) % given.members.length];
    const began = process.hrtime.bigint();
    await run(member);
    times.push(Number(process.hrtime.bigint() - began) / 1000);
  }
  return times;
}

async function main() {
  await check();
  await takeTurn(contenders.floor, 0);
  await takeTurn(contenders.ours, 0);
  for (let round = 0; round < given.rounds; round += 1) {
    const order = round % 2 ? ["ours", "floor"] : ["floor", "ours"];
    const times = {};
    for (const name of order) times[name] = await takeTurn(contenders[name], round);
    console.log(JSON.stringify(times));
  }
  await pool().end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
