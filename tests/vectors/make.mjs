// Writes has.json: what the official @clerk/backend answers to has(), for session tokens it verified itself.
//
// Run in a copy of this folder outside the repository: npm install && npm run make [target file]
// Times are left out of the claims: whoever reads the vectors signs them with its own clock.

import { createSign, generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createClerkClient } from "@clerk/backend";

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048, publicExponent: 65537 });
const jwtKey = publicKey.export({ type: "spki", format: "pem" });
const clerk = createClerkClient({
  publishableKey: `pk_test_${Buffer.from("happy-otter-12.clerk.accounts.dev$").toString("base64")}`,
  secretKey: "sk_test_not_used",
  jwtKey,
  telemetry: { disabled: true },
});

const segment = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function sign(claims) {
  const now = Math.floor(Date.now() / 1000);
  const header = { alg: "RS256", cat: "cl_B7d4PD111AAA", kid: "ins_1", typ: "JWT" };
  const signed = `${segment(header)}.${segment({ ...claims, iat: now, nbf: now - 10, exp: now + 60 })}`;
  return `${signed}.${createSign("RSA-SHA256").update(signed).sign(privateKey).toString("base64url")}`;
}

/** The official answer: null when the token is refused. */
async function authenticate(claims) {
  const request = new Request("https://app.example.com/", { headers: { authorization: `Bearer ${sign(claims)}` } });
  try {
    const state = await clerk.authenticateRequest(request);
    return state.isAuthenticated ? state.toAuth() : null;
  } catch {
    return null;
  }
}

/** The other reading of the masks, as Clerk's manual describes it: mask i belongs to element i of all features. */
function permissionsByElement({ fea = "", o }) {
  if (!o?.per || !o?.fpm) return [];
  const masks = o.fpm.split(",");
  return fea.split(",").flatMap((element, i) => {
    const [scope, name] = element.trim().split(":");
    if (scope === "u" || !/^\d+$/.test((masks[i] ?? "").trim())) return [];
    return o.per.split(",").filter((_, bit) => (BigInt(masks[i].trim()) >> BigInt(bit)) & 1n).map((action) => `org:${name}:${action.trim()}`);
  });
}

const common = { azp: "https://app.example.com", iss: "https://happy-otter-12.clerk.accounts.dev", jti: "0123456789abcdef0123", sid: "sess_1", sub: "user_1" };
const v2 = (claims) => ({ ...common, v: 2, sts: "active", fva: [0, -1], ...claims });
const v1 = (claims) => ({ ...common, fva: [0, -1], ...claims });
const org = (rest = {}) => ({ id: "org_1", slg: "acme", rol: "admin", ...rest });
const manyActions = Array.from({ length: 54 }, (_, i) => `p${i}`).join(",");

const worked = { fea: "o:dashboard,o:teams", o: org({ per: "manage,read", fpm: "3,2" }) };
const organizations = {
  "v2 worked example": v2(worked),
  "v2 three scopes": v2({ fea: "o:repositories,uo:projects,u:goldprofileborder", o: org({ per: "read,create,update,delete,revoke", fpm: "7,21,0" }) }),
  "v2 five features": v2({ fea: "o:billing,o:email,o:fraud,o:instance,o:staging_plans", o: org({ per: "manage,read", fpm: "3,3,3,3,1" }) }),
  "v2 a mask of zero": v2({ fea: "o:repositories,o:projects,o:webhooks,o:impersonation", o: org({ per: "read,manage", fpm: "1,2,3,0" }) }),
  "v2 a mask beyond 2^53": v2({ fea: "o:f", o: org({ per: manyActions, fpm: "9007199254740993" }) }),
  "v2 blanks around elements": v2({ fea: " o:dashboard , o:teams ", o: org({ per: " manage , read ", fpm: " 3 , 2 " }) }),
  "v2 more masks than features": v2({ fea: "o:dashboard", o: org({ per: "manage,read", fpm: "1,3,3" }) }),
  "v2 fewer masks than features": v2({ fea: "o:dashboard,o:teams", o: org({ per: "manage,read", fpm: "3" }) }),
  "v2 more bits than actions": v2({ fea: "o:teams", o: org({ per: "manage,read", fpm: "255" }) }),
  "v2 leading zeros": v2({ fea: "o:teams", o: org({ per: "manage,read", fpm: "0002" }) }),
  "v2 user feature last": v2({ fea: "o:dashboard,u:themes", o: org({ per: "manage,read", fpm: "3,3" }) }),
  "v2 user feature first": v2({ fea: "u:themes,o:dashboard,o:teams", o: org({ per: "manage,read", fpm: "0,3,2" }) }),
  "v2 user feature between": v2({ fea: "o:dashboard,u:themes,o:teams", o: org({ per: "manage,read", fpm: "1,3,3" }) }),
  "v2 user feature first, masks of organization features only": v2({ fea: "u:themes,ou:dashboard,o:teams", o: org({ per: "manage,read", fpm: "3,2" }) }),
  "v2 no permissions": v2({ fea: "o:dashboard", o: org() }),
  "v2 actions without masks": v2({ fea: "o:dashboard", o: org({ per: "manage,read" }) }),
  "v2 masks without actions": v2({ fea: "o:dashboard", o: org({ fpm: "3" }) }),
  "v2 role with prefix": v2({ ...worked, o: org({ rol: "org:admin" }) }),
  "v2 custom role": v2({ ...worked, o: org({ rol: "billing_manager" }) }),
  "v2 no slug": v2({ ...worked, o: { id: "org_1", rol: "member", per: "manage,read", fpm: "2,2" } }),
  "v2 no organization": v2({ fea: "u:dashboard", pla: "u:free" }),
  "v2 custom claims that look like v1": v2({ org_id: "org_9", org_role: "org:admin", org_permissions: ["org:teams:manage"] }),
  "v2 system action names": v2({ fea: "o:sys_memberships", o: org({ per: "manage,read", fpm: "3" }) }),
  "v1 admin": v1({ org_id: "org_1", org_slug: "acme", org_role: "org:admin", org_permissions: ["org:dashboard:manage", "org:teams:read"] }),
  "v1 legacy role": v1({ org_id: "org_1", org_slug: "acme", org_role: "admin", org_permissions: [] }),
  "v1 no permissions": v1({ org_id: "org_1", org_role: "org:member" }),
  "v1 permissions of another type": v1({ org_id: "org_1", org_role: "org:member", org_permissions: "org:teams:read" }),
  "v1 permission without prefix": v1({ org_id: "org_1", org_role: "org:member", org_permissions: ["teams:read"] }),
  "v1 no organization": v1({}),
  "v1 custom claims that look like v2": v1({ org_id: "org_1", org_role: "org:member", ...worked }),
};
const organizationQueries = [
  {}, { role: "org:admin" }, { role: "admin" }, { role: "org:org:admin" }, { role: "org:member" }, { role: "member" },
  { role: "org:billing_manager" }, { role: "" }, { role: "org:" }, { role: 1 },
  { permission: "org:dashboard:manage" }, { permission: "dashboard:manage" }, { permission: "org:org:dashboard:manage" },
  { permission: "org:dashboard:read" }, { permission: "org:teams:manage" }, { permission: "org:teams:read" },
  { permission: "org:themes:manage" }, { permission: "org:repositories:read" }, { permission: "org:projects:revoke" },
  { permission: "org:staging_plans:read" }, { permission: "org:f:p53" }, { permission: "org:f:p1" },
  { permission: "org:sys_memberships:manage" }, { permission: "teams:read" }, { permission: "" }, { permission: 7 },
  { role: "org:admin", permission: "org:teams:read" }, { role: "org:member", permission: "org:teams:read" },
  { role: "org:admin", permission: "org:teams:nothing" }, { role: "org:admin", feature: "dashboard" },
  { permission: "org:teams:read", plan: "pro" }, { role: "org:admin", reverification: "lax" },
];

const billing = {
  "both scopes": v2({ fea: "o:dashboard,u:themes,uo:export,ou:import", pla: "o:pro,u:free", o: org() }),
  "the organization's plan": v2({ fea: "o:dashboard", pla: "o:pro", o: org() }),
  "the user's plan": v2({ fea: "u:themes", pla: "u:free" }),
  "no claims": v2({ o: org() }),
  "empty claims": v2({ fea: "", pla: "", o: org() }),
  "an unknown scope": v2({ fea: "x:dashboard,o:teams", pla: "x:pro", o: org() }),
  "names with colons": v2({ fea: "o:a:b", pla: "o:pro:yearly", o: org() }),
  "names like scopes": v2({ fea: "o:org,u:o", pla: "o:user,u:u", o: org() }),
  "empty names": v2({ fea: "o:", pla: "u:", o: org() }),
  "blanks": v2({ fea: " o:dashboard , u:themes ", pla: " o:pro ", o: org() }),
  "a plan without scope": v2({ fea: "o:dashboard", pla: "pro", o: org() }),
  "a plan of another type": v2({ fea: "o:dashboard", pla: 5, o: org() }),
  "version 1 with features": v1({ org_id: "org_1", org_role: "org:member", fea: "o:dashboard", pla: "u:free" }),
  "version 1 with a malformed feature": v1({ org_id: "org_1", org_role: "org:member", fea: "dashboard" }),
};
const names = ["dashboard", "themes", "export", "import", "teams", "a", "b", "a:b", "org", "o", ""];
const scopes = ["", "o:", "org:", "organization:", "u:", "user:", "ou:", "x:"];
const billingQueries = [
  ...["dashboard", "themes", "export"].flatMap((name) => scopes.map((scope) => ({ feature: scope + name }))),
  ...names.slice(3).flatMap((name) => ["", "o:", "user:"].map((scope) => ({ feature: scope + name }))),
  ...["pro", "free", "pro:yearly", "user", "u", ""].flatMap((name) => ["", "org:", "u:"].map((scope) => ({ plan: scope + name }))),
  { feature: 3 }, { plan: 3 }, { feature: "dashboard", plan: "pro" }, { feature: "dashboard", plan: "gold" },
  { feature: "nothing", plan: "pro" }, { feature: "org:dashboard", plan: "org:pro", role: "org:admin" },
];

const ages = [
  [0, -1], [9, -1], [10, -1], [59, 9], [9, 59], [10, 10], [9, 9], [60, 60], [1439, 1439], [1440, 1440], [5, 2000],
  [-1, 5], [-1, 100], [-1, -1], [1.5, 2.5], [-2, 5], [5, -2], ["1", 2], [1], [1, 2, 3], [true, 1], [null, 1], "1,2", null,
];
const reverifications = Object.fromEntries(ages.map((fva) => [`ages ${JSON.stringify(fva)}`, v2({ fva, o: org() })]));
const levels = ["first_factor", "second_factor", "multi_factor"];
const reverificationQueries = [
  "strict_mfa", "strict", "moderate", "lax", "bogus", "",
  ...levels.flatMap((level) => [1, 10, 60].map((afterMinutes) => ({ level, afterMinutes }))),
  { level: "first_factor", afterMinutes: 0 }, { level: "first_factor", afterMinutes: -5 }, { level: "first_factor", afterMinutes: 1.6 },
  { level: "first_factor", afterMinutes: "10" }, { level: "third_factor", afterMinutes: 10 }, { level: "first_factor" }, { afterMinutes: 10 }, {},
].map((reverification) => ({ reverification }));

const malformed = {
  "a feature without scope": v2({ fea: "dashboard", o: org({ per: "read", fpm: "1" }) }),
  "a negative mask": v2({ fea: "o:teams,o:dashboard", o: org({ per: "read,manage", fpm: "-1,3" }) }),
  "a hexadecimal mask": v2({ fea: "o:teams", o: org({ per: "read,manage", fpm: "0x3" }) }),
  "a fractional mask": v2({ fea: "o:teams", o: org({ per: "read,manage", fpm: "1.5" }) }),
  "an empty mask": v2({ fea: "o:teams,o:dashboard", o: org({ per: "read,manage", fpm: "1," }) }),
};

async function answer(group, sessions, queries) {
  const rows = [];
  for (const [name, claims] of Object.entries(sessions)) {
    const auth = await authenticate(claims);
    const byElement = permissionsByElement(claims);
    const official = auth?.orgPermissions ?? [];
    rows.push({
      name: `${group}: ${name}`,
      claims,
      refused: auth === null,
      role: auth?.orgRole ?? null,
      permissions: Array.isArray(official) ? official : [],
      ...(claims.v === 2 && { by_element: byElement, readings_differ: String([...official].sort()) !== String(byElement.sort()) }),
      cases: auth ? queries.map((query) => [query, auth.has(query)]) : [],
    });
  }
  return rows;
}

const sessions = [
  ...(await answer("organization", organizations, organizationQueries)),
  ...(await answer("billing", billing, billingQueries)),
  ...(await answer("reverification", reverifications, reverificationQueries)),
  ...(await answer("malformed", malformed, [])),
];
const text = sessions.map((session) => JSON.stringify(session)).join(",\n");
writeFileSync(process.argv[2] ?? "has.json", `{"by": "@clerk/backend 3.16.10, make.mjs", "sessions": [\n${text}\n]}\n`);
console.log(`${sessions.length} sessions, ${sessions.reduce((sum, { cases }) => sum + cases.length, 0)} cases`);
