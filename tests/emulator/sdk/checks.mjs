// What Clerk's official SDK for Node makes of a running emulator. A check is a sentence; test_sdk.py reads them here.
//
// node checks.mjs < world.json prints {sentence: null, or how it failed}.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createClerkClient, verifyToken } from "@clerk/backend";
import { isClerkAPIResponseError } from "@clerk/backend/errors";
import { verifyWebhook } from "@clerk/backend/webhooks";

console.log = console.error; // the SDK's own words; standard output is for the verdicts
const world = JSON.parse(readFileSync(0, "utf8"));
const { tokens, users, organizations } = world;
const checks = new Map();
const check = (sentence, run) => checks.set(sentence, run);

const clerk = createClerkClient({
  publishableKey: world.publishableKey,
  secretKey: world.secretKey,
  apiUrl: world.url,
  telemetry: { disabled: true },
});
const offline = { jwtKey: world.pem, proxyUrl: "/__clerk" };

const bearing = (token) => new Request(`${world.app}/`, { headers: { authorization: `Bearer ${token}` } });
const authenticate = (request, options = offline) => clerk.authenticateRequest(request, options);

async function authOf(token, options) {
  const state = await authenticate(bearing(token), options);
  assert.ok(state.isAuthenticated, `${state.reason}: ${state.message}`);
  return state.toAuth();
}

const segment = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const read = (part) => JSON.parse(Buffer.from(part, "base64url"));

/** The token with other claims or another header under the same signature. */
function tamper(token, { header = {}, claims = {} }) {
  const [first, second, signature] = token.split(".");
  return [segment({ ...read(first), ...header }), segment({ ...read(second), ...claims }), signature].join(".");
}

// Tokens

/** Once with the key at hand and once with the keys that the Backend API publishes. */
const withEitherKey = (run) => async () => {
  await run({ jwtKey: world.pem });
  await run({ secretKey: world.secretKey, apiUrl: world.url });
};

check("a token verifies", withEitherKey(async (key) => {
  const claims = await verifyToken(tokens.organization, key);
  assert.equal(claims.sub, users.ada);
  assert.deepEqual([claims.o.id, claims.o.rol, claims.v], [organizations.acme, "admin", 2]);
}));

check("a token of version 1 verifies", withEitherKey(async (key) => {
  const claims = await verifyToken(tokens.legacy, key);
  assert.deepEqual([claims.org_id, claims.org_role], [organizations.acme, "org:admin"]);
}));

check("a tampered token is refused", withEitherKey(async (key) => {
  const forged = tamper(tokens.organization, { claims: { sub: users.grace } });
  await assert.rejects(verifyToken(forged, key), { reason: "token-invalid-signature" });
}));

check("a token that names no algorithm is refused", withEitherKey(async (key) => {
  const forged = tamper(tokens.organization, { header: { alg: "none" } });
  await assert.rejects(verifyToken(forged, key), { reason: "token-invalid-algorithm" });
}));

check("an expired token is refused", withEitherKey(async (key) => {
  await assert.rejects(verifyToken(tokens.expired, key), { reason: "token-expired" });
}));

check("a token of another instance is refused", withEitherKey(async (key) => {
  await assert.rejects(verifyToken(tokens.stranger, key), /signature is invalid|Unable to find a signing key/);
}));

check("a token of another page's origin is refused", () =>
  assert.rejects(verifyToken(tokens.organization, { jwtKey: world.pem, authorizedParties: ["http://127.0.0.1:9"] }), {
    reason: "token-invalid-authorized-parties",
  }));

// Requests

check("a Bearer token signs in with its organization", async () => {
  const auth = await authOf(tokens.organization);
  assert.deepEqual([auth.userId, auth.orgId, auth.orgRole], [users.ada, organizations.acme, "org:admin"]);
  assert.equal(auth.orgSlug, "acme");
  assert.match(auth.sessionId, /^sess_/);
});

check("a Bearer token of version 1 says the same", async () => {
  const [now, before] = [await authOf(tokens.organization), await authOf(tokens.legacy)];
  for (const name of ["userId", "orgId", "orgRole", "orgSlug", "sessionId"]) assert.equal(before[name], now[name]);
  assert.deepEqual(before.orgPermissions.sort(), now.orgPermissions.sort());
});

check("a Bearer token signs in to the personal account", async () => {
  const auth = await authOf(tokens.personal);
  assert.deepEqual([auth.userId, auth.orgId, auth.orgRole], [users.ada, undefined, undefined]);
});

check("a Bearer token verifies by keys from the Backend API", async () => {
  assert.equal((await authOf(tokens.organization, { proxyUrl: "/__clerk" })).userId, users.ada);
});

check("has() answers for every role and permission as Tenantry does", async () => {
  const counts = Object.fromEntries(world.roles.map(({ role, held }) => [role, held.length]));
  assert.deepEqual(counts, { "org:admin": 4, "org:editor": 3, "org:member": 1, "org:auditor": 2 });
  for (const { role, token, held, lacked } of world.roles) {
    const auth = await authOf(token);
    assert.equal(auth.has({ role }), true);
    for (const permission of held) assert.equal(auth.has({ permission }), true, `${role} ${permission}`);
    for (const permission of lacked) assert.equal(auth.has({ permission }), false, `${role} ${permission}`);
    assert.deepEqual(auth.orgPermissions.sort(), held.sort());
  }
});

check("a pending session is signed out, unless asked otherwise", async () => {
  const state = await authenticate(bearing(tokens.pending));
  assert.equal(state.toAuth().userId, null);
  const pending = state.toAuth({ treatPendingAsSignedOut: false });
  assert.deepEqual([pending.userId, pending.sessionStatus], [users.ada, "pending"]);
});

check("a request without a token is signed out", async () => {
  const state = await authenticate(new Request(`${world.app}/api`, { headers: { cookie: "__clerk_db_jwt=dvb_1" } }));
  assert.deepEqual([state.status, state.reason], ["signed-out", "session-token-and-uat-missing"]);
});

check("a request with a tampered or expired Bearer token is signed out", async () => {
  for (const token of [tamper(tokens.organization, { claims: { sub: users.grace } }), tokens.expired]) {
    assert.equal((await authenticate(bearing(token))).status, "signed-out");
  }
});

// The handshake: how a server gets fresh cookies for the page it is asked for

class Browser {
  cookies = new Map();

  /** The page at `path` as the app's server sees it, all redirects followed. */
  async open(path, options = {}) {
    const visited = [];
    let url = new URL(path, world.app);
    for (let hops = 0; hops < 8; hops++) {
      const headers = { cookie: this.#header, accept: "text/html", "sec-fetch-dest": "document" };
      const state = await clerk.authenticateRequest(new Request(url, { headers }), { ...offline, ...options });
      this.#take(state.headers);
      visited.push(state);
      const next = state.headers.get("location");
      if (!next) return { state, visited };
      url = new URL(state.status === "handshake" ? await this.#follow(next) : next);
    }
    assert.fail(`The page redirects too often: ${visited.map(({ reason }) => reason).join(", ")}`);
  }

  async signIn(userId) {
    const { token } = await clerk.signInTokens.createSignInToken({ userId, expiresInSeconds: 60 });
    const answer = await this.#ask("v1/client/sign_ins", { strategy: "ticket", ticket: token });
    return answer.client.sessions.at(-1).id;
  }

  activate(session, organization) {
    return this.#ask(`v1/client/sessions/${session}/touch`, { active_organization_id: organization });
  }

  async #ask(path, form) {
    const headers = { cookie: this.#header, origin: world.app };
    const body = new URLSearchParams(form);
    const response = await fetch(`${world.url}/__clerk/${path}`, { method: "POST", headers, body });
    const answer = await response.json();
    assert.equal(response.status, 200, JSON.stringify(answer));
    this.#take(response.headers);
    return answer;
  }

  /** To the Frontend API and back, as through the app's proxy. */
  async #follow(location) {
    assert.ok(location.startsWith(`${world.app}/__clerk/v1/client/handshake?`), location);
    const headers = { cookie: this.#header };
    const response = await fetch(location.replace(world.app, world.url), { headers, redirect: "manual" });
    assert.equal(response.status, 307, await response.text());
    this.#take(response.headers);
    return response.headers.get("location");
  }

  get #header() {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  }

  #take(headers) {
    for (const line of headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      const gone = value === "" || /;\s*max-age=0\b/i.test(line) || /expires=thu, 01 jan 1970/i.test(line);
      gone ? this.cookies.delete(name) : this.cookies.set(name, value);
    }
  }
}

check("an expired cookie asks for a handshake", async () => {
  const cookie = `__session=${tokens.expired}; __client_uat=1; __clerk_db_jwt=dvb_1`;
  const headers = { cookie, accept: "text/html", "sec-fetch-dest": "document" };
  const state = await authenticate(new Request(`${world.app}/documents`, { headers }));
  assert.deepEqual([state.status, state.reason.startsWith("session-token-expired")], ["handshake", true]);
  const location = new URL(state.headers.get("location"));
  assert.equal(location.pathname, "/__clerk/v1/client/handshake");
  assert.equal(location.searchParams.get("redirect_url"), `${world.app}/documents`);
});

check("a handshake at a browser that nobody signed in at ends signed out", async () => {
  const browser = new Browser();
  const { state, visited } = await browser.open("/documents");
  assert.deepEqual(visited.map(({ status }) => status), ["handshake", "signed-out", "signed-out"]);
  assert.equal(state.toAuth().userId, null);
});

check("a handshake gives a new browser the session of its client, and its organization", async () => {
  const browser = new Browser();
  await browser.activate(await browser.signIn(users.ada), organizations.globex);
  const { state, visited } = await browser.open("/documents?page=2");
  assert.deepEqual(visited.map(({ status }) => status), ["handshake", "signed-in", "signed-in"]);
  const auth = state.toAuth();
  assert.deepEqual([auth.userId, auth.orgId, auth.orgRole], [users.ada, organizations.globex, "org:member"]);
  assert.equal(new URL(visited[1].headers.get("location")).href, `${world.app}/documents?page=2`);
});

check("a handshake renews an expired cookie", async () => {
  const browser = new Browser();
  await browser.activate(await browser.signIn(users.ada), organizations.acme);
  await browser.open("/");
  for (const name of browser.cookies.keys()) {
    if (name.startsWith("__session")) browser.cookies.set(name, tokens.expired);
    if (name.startsWith("__client_uat")) browser.cookies.set(name, "1");
  }
  const { state, visited } = await browser.open("/");
  assert.match(visited[0].reason, /^session-token-expired/);
  assert.deepEqual([state.status, state.toAuth().orgId], ["signed-in", organizations.acme]);
  assert.equal((await browser.open("/")).visited.length, 1);
});

check("a handshake without a session takes a stale cookie away", async () => {
  const browser = new Browser();
  for (const [name, value] of [["__session", tokens.expired], ["__client_uat", "1"]]) browser.cookies.set(name, value);
  const { visited } = await browser.open("/");
  assert.deepEqual(visited.map(({ status }) => status), ["handshake", "signed-out", "signed-out"]);
  assert.equal(browser.cookies.has("__session"), false);
});

check("a handshake activates the organization that the path names", async () => {
  const organizationSyncOptions = { organizationPatterns: ["/orgs/:id", "/orgs/:id/(.*)"] };
  const browser = new Browser();
  await browser.activate(await browser.signIn(users.ada), organizations.acme);
  await browser.open("/");
  const { state } = await browser.open(`/orgs/${organizations.globex}/documents`, { organizationSyncOptions });
  assert.equal(state.toAuth().orgId, organizations.globex);
});

check("a handshake activates no organization of others", async () => {
  // The SDK asks three times before it shows the page all the same.
  const organizationSyncOptions = { organizationPatterns: ["/orgs/:id"] };
  const browser = new Browser();
  await browser.activate(await browser.signIn(users.grace), organizations.acme);
  await browser.open("/");
  const { state } = await browser.open(`/orgs/${organizations.globex}`, { organizationSyncOptions });
  assert.equal(state.toAuth().userId, users.grace);
  assert.notEqual(state.toAuth().orgId, organizations.globex);
});

// Webhooks

const delivery = ({ headers, body } = {}) =>
  new Request(`${world.app}/webhooks/clerk`, {
    method: "POST",
    headers: { ...world.webhook.headers, ...headers },
    body: body ?? world.webhook.body,
  });
const signingSecret = world.webhookSecret;

check("a delivery verifies", async () => {
  const event = await verifyWebhook(delivery(), { signingSecret });
  const sent = JSON.parse(world.webhook.body);
  assert.deepEqual([event.type, event.instance_id, event.timestamp], [sent.type, world.instanceId, sent.timestamp]);
  assert.deepEqual(event.data, sent.data);
});

check("a tampered delivery is refused", async () => {
  const forged = [
    { body: world.webhook.body.replace("example.test", "example.com") },
    { headers: { "svix-id": "msg_another" } },
    { headers: { "svix-timestamp": String(Number(world.webhook.headers["svix-timestamp"]) + 1) } },
  ];
  for (const change of forged) await assert.rejects(verifyWebhook(delivery(change), { signingSecret }));
});

check("a delivery under another secret is refused", () =>
  assert.rejects(verifyWebhook(delivery(), { signingSecret: `whsec_${Buffer.alloc(24).toString("base64")}` })));

// The Backend API

const failing = (status, code) => (error) => {
  assert.ok(isClerkAPIResponseError(error), String(error));
  assert.deepEqual([error.status, error.errors[0].code], [status, code]);
  assert.ok(error.clerkTraceId && error.errors[0].longMessage);
  return true;
};
const ids = ({ data }) => data.map(({ id }) => id).sort();

check("people are listed, found and counted", async () => {
  const list = await clerk.users.getUserList({ limit: 100, orderBy: "+created_at" });
  assert.equal(list.totalCount, await clerk.users.getCount());
  assert.deepEqual(list.data.slice(0, 3).map(({ firstName }) => firstName), ["Ada", "Grace", "Alan"]);
  const [ada] = (await clerk.users.getUserList({ emailAddress: ["ada@example.test"] })).data;
  assert.deepEqual([ada.id, ada.fullName], [users.ada, "Ada Lovelace"]);
  assert.equal(ada.primaryEmailAddress.emailAddress, "ada@example.test");
  assert.equal(ada.primaryEmailAddress.verification.status, "verified");
  assert.deepEqual((await clerk.users.getUser(users.ada)).raw, ada.raw);
});

check("organizations are listed and found", async () => {
  const list = await clerk.organizations.getOrganizationList({ includeMembersCount: true, orderBy: "+created_at" });
  assert.deepEqual(
    list.data.slice(0, 2).map(({ name, slug, membersCount }) => [name, slug, membersCount]),
    [["Acme", "acme", 4], ["Globex", "globex", 2]],
  );
  assert.ok(list.totalCount >= 2);
  const acme = await clerk.organizations.getOrganization({ slug: "acme" });
  assert.deepEqual([acme.id, acme.createdBy], [organizations.acme, users.ada]);
});

check("memberships are listed by organization and by person", async () => {
  const of = { organizationId: organizations.acme };
  const members = await clerk.organizations.getOrganizationMembershipList(of);
  assert.equal(members.totalCount, 4);
  const grace = members.data.find(({ publicUserData }) => publicUserData.userId === users.grace);
  assert.deepEqual([grace.role, grace.organization.id], ["org:editor", organizations.acme]);
  assert.ok(grace.permissions.includes("org:documents:update"));
  const only = await clerk.organizations.getOrganizationMembershipList({ ...of, role: ["org:admin"] });
  assert.deepEqual(only.data.map(({ publicUserData }) => publicUserData.userId), [users.ada]);
  const joined = await clerk.users.getOrganizationMembershipList({ userId: users.ada });
  assert.deepEqual(
    joined.data.map(({ organization }) => organization.id).sort(),
    [organizations.acme, organizations.globex].sort(),
  );
});

check("roles and permissions are listed", async () => {
  const roles = await clerk.organizationRoles.getOrganizationRoleList();
  assert.ok(roles.data.some(({ key }) => key === "org:editor"));
  const permissions = await clerk.organizationPermissions.getOrganizationPermissionList({ limit: 100 });
  assert.ok(permissions.data.some(({ key }) => key === "org:documents:delete"));
});

check("an organization is created, changed and deleted", async () => {
  const api = clerk.organizations;
  const { id } = await api.createOrganization({ name: "Initech", slug: "initech", createdBy: users.ada });
  assert.deepEqual(ids(await api.getOrganizationMembershipList({ organizationId: id })).length, 1);
  assert.equal((await api.updateOrganization(id, { name: "Initrode", maxAllowedMemberships: 3 })).name, "Initrode");
  const changed = await api.updateOrganizationMetadata(id, { publicMetadata: { plan: "pro" }, privateMetadata: {} });
  assert.deepEqual(changed.publicMetadata, { plan: "pro" });
  await assert.rejects(
    api.createOrganization({ name: "Another", slug: "initech" }),
    failing(422, "form_identifier_exists"),
  );
  await api.deleteOrganization(id);
  await assert.rejects(api.getOrganization({ organizationId: id }), failing(404, "resource_not_found"));
});

check("a membership is created, changed and deleted", async () => {
  const api = clerk.organizations;
  const { id: organizationId } = await api.createOrganization({ name: "Hooli", createdBy: users.ada });
  const who = { organizationId, userId: users.alan };
  const joined = await api.createOrganizationMembership({ ...who, role: "org:member" });
  assert.deepEqual([joined.role, joined.publicUserData.identifier], ["org:member", "alan@example.test"]);
  assert.equal((await api.updateOrganizationMembership({ ...who, role: "org:admin" })).role, "org:admin");
  assert.equal((await api.deleteOrganizationMembership(who)).id, joined.id);
  await assert.rejects(api.deleteOrganizationMembership(who), failing(404, "resource_not_found"));
  await api.deleteOrganization(organizationId);
});

check("an invitation is sent, listed and revoked", async () => {
  const api = clerk.organizations;
  const { id: organizationId } = await api.createOrganization({ name: "Pied Piper", createdBy: users.ada });
  const sent = await api.createOrganizationInvitation({
    organizationId,
    inviterUserId: users.ada,
    emailAddress: "kay@example.test",
    role: "org:member",
  });
  assert.deepEqual([sent.status, sent.emailAddress], ["pending", "kay@example.test"]);
  const pending = await api.getOrganizationInvitationList({ organizationId, status: ["pending"] });
  assert.deepEqual(ids(pending), [sent.id]);
  const gone = await api.revokeOrganizationInvitation({
    organizationId,
    invitationId: sent.id,
    requestingUserId: users.ada,
  });
  assert.equal(gone.status, "revoked");
  assert.equal((await api.getOrganizationInvitationList({ organizationId, status: ["pending"] })).totalCount, 0);
  await api.deleteOrganization(organizationId);
});

check("a domain is added, listed and removed", async () => {
  const of = { organizationId: organizations.globex };
  const api = clerk.organizations;
  const made = await api.createOrganizationDomain({ ...of, name: "globex.test", enrollmentMode: "manual_invitation" });
  assert.deepEqual(ids(await api.getOrganizationDomainList(of)), [made.id]);
  await api.deleteOrganizationDomain({ ...of, domainId: made.id });
  assert.equal((await api.getOrganizationDomainList(of)).totalCount, 0);
});

check("a person is created, changed and deleted", async () => {
  const made = await clerk.users.createUser({ emailAddress: ["kay@example.test"], firstName: "Kay" });
  assert.equal((await clerk.users.updateUser(made.id, { lastName: "McNulty" })).fullName, "Kay McNulty");
  const merged = await clerk.users.updateUserMetadata(made.id, { publicMetadata: { theme: "dark" } });
  assert.deepEqual(merged.publicMetadata, { theme: "dark" });
  assert.equal((await clerk.users.banUser(made.id)).banned, true);
  await clerk.users.deleteUser(made.id);
  await assert.rejects(clerk.users.getUser(made.id), failing(404, "resource_not_found"));
});

check("a session is created, gives tokens and is revoked", async () => {
  const session = await clerk.sessions.createSession({ userId: users.alan });
  const { jwt } = await clerk.sessions.getToken(session.id);
  assert.equal((await verifyToken(jwt, { jwtKey: world.pem })).sid, session.id);
  assert.equal((await clerk.sessions.revokeSession(session.id)).status, "revoked");
  await assert.rejects(clerk.sessions.getToken(session.id), isClerkAPIResponseError);
});

check("a wrong secret key is refused", async () => {
  const stranger = createClerkClient({ secretKey: "sk_test_nobody", apiUrl: world.url, telemetry: { disabled: true } });
  await assert.rejects(stranger.users.getUserList(), failing(401, "clerk_key_invalid"));
});

const verdicts = {};
for (const [sentence, run] of checks) {
  try {
    await run();
    verdicts[sentence] = null;
  } catch (error) {
    verdicts[sentence] = error.stack ?? String(error);
  }
}
process.stdout.write(JSON.stringify(verdicts));
