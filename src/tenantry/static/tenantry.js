// @ts-check
/**
 * Keeps a server-rendered page in step with Clerk: mounts Clerk's components, hides what the server made for another
 * organization than the one that is active now, and sends requests in the name of the organization the page shows.
 *
 *   import { fetch, token } from "/tenantry.js";     // or window.tenantry
 *
 * Events on document.body: `tenantry:switched` (where the page updates itself), `tenantry:denied`.
 *
 * @typedef {{userId: string, organizationId: string}} Who   empty: nobody; the personal account
 */

const script = /** @type {HTMLScriptElement} */ (document.querySelector("script[data-tenantry]"));
const settings = script.dataset;
const EXPECTED = "Tenantry-Expected-Org";
const EXPECTED_IN_QUERY = "tenantry_expected_org";
const MOST_TRIES = 2;
const PATIENCE = 10_000; // ms until a page that stays hidden explains itself
const OUT = "not_a_member no_organization organization_deleted user_deleted user_banned wrong_instance".split(" ");
const TEXT = {
  slow: "The page takes long to follow the switch.",
  refused: "The server does not accept your session. If you just signed in, check this computer's clock.",
  mismatch: "This tab shows {organization}, and the last request was for another organization. Nothing was changed.",
  denied: "Your access to {organization} has ended.",
  failed: "The page could not be updated.",
  reload: "Reload",
  close: "Close",
  personal: "your personal account",
  ...JSON.parse(settings.messages ?? "{}"),
};

/** Whom the page shows. @type {Who} */
let shown = { userId: settings.userId ?? "", organizationId: settings.organizationId ?? "" };
/** Aborted when the page turns to another tenant: what was asked for the old one is not wanted any more. */
let turn = new AbortController();
/** What the page does; until it is settled it stays hidden. @type {"settled" | "leaving" | "updating" | "denied"} */
let phase = "settled";
/** What a component goes on with by itself, such as inviting members to a new organization. @type {Who | null} */
let deferred = null;
/** @type {Set<string> | null} the organizations there were when the page came */
let known = null;
/** Whether the page was for whom Clerk has: what differs later is a change, not a server that sees somebody else. */
let wasInStep = false;
/** @type {any} */
let Clerk;

/* ---- who is active, and who the page is for ---------------------------------------------------------------------- */

/** @returns {Who | null} null while Clerk is between two states */
function active({ client, session, organization } = Clerk) {
  if (session === undefined || (session === null && isStillSignedIn(client))) return null;
  if (session?.status !== "active") return { userId: "", organizationId: "" };
  return { userId: session.user.id, organizationId: organization?.id ?? "" };
}

/** While Clerk goes to another page it has no session; a token that comes then has it tell that nobody is signed in. */
function isStillSignedIn(/** @type {any} */ client) {
  const last = client?.sessions.find((/** @type {any} */ { id }) => id === client.lastActiveSessionId);
  return last?.status === "active" && last.user.id === shown.userId && Boolean(readCookie());
}

const key = (/** @type {Who} */ who) => `${who.userId} ${who.organizationId}`;
const isSame = (/** @type {Who} */ one, /** @type {Who} */ other) => key(one) === key(other);

/** Runs with every change of Clerk's state, before the browser paints it. @param {any} state */
function compare(state) {
  const now = active(state);
  const memberships = state.user?.organizationMemberships ?? [];
  known ??= now && new Set(memberships.map((/** @type {any} */ found) => found.organization.id));
  if (now && isSame(now, shown)) {
    deferred = null;
    wasInStep = true;
    if (phase === "settled") reveal();
  } else {
    hide();
    deferred = now && isBeingCreated(now) ? now : null;
    if (now && !deferred) void follow(now);
  }
  offerCreation();
}

/** Shows the buttons that create an organization to who may. */
function offerCreation() {
  for (const button of document.querySelectorAll("[data-clerk-open=CreateOrganization]")) {
    /** @type {HTMLElement} */ (button).hidden = !Clerk.user?.createOrganizationEnabled;
  }
}

/** A component that creates an organization makes it active before it is done, and goes to the next page itself. */
function isBeingCreated(/** @type {Who} */ { organizationId }) {
  return organizationId && !known?.has(organizationId) && document.querySelector(".cl-createOrganization-root");
}

/** Turns the page to who is active now. @param {Who} now */
async function follow(now) {
  if (phase === "leaving") return;
  if (settings.onSwitch === "event" && now.userId && now.userId === shown.userId) return announce(now);
  phase = "leaving";
  const tries = JSON.parse(recall("tries") ?? "{}");
  const count = tries.who === key(now) ? tries.count + 1 : 1;
  const isCounted = remember("tries", JSON.stringify({ who: key(now), count }));
  if (count > MOST_TRIES || !(isCounted || wasInStep)) return notice("refused"); // or nobody would count
  try {
    await settleCookie(now);
  } catch {
    return notice("failed");
  }
  const isTurn = now.userId && now.userId === shown.userId;
  go(isTurn && settings.onSwitch?.startsWith("/") ? destination(now, settings.onSwitch) : null, count);
}

/** @param {Who} now @param {string} template */
function destination({ organizationId }, template) {
  if (!organizationId) return /:(id|slug)\b/.test(template) ? "/" : template;
  const name = Clerk.organization?.slug || organizationId;
  return template.replace(/:id\b/g, encodeURIComponent(organizationId)).replace(/:slug\b/g, encodeURIComponent(name));
}

/** To a page, or to this one anew: as a GET, since a reload would send a form a second time, for another tenant. */
function go(/** @type {string | null} */ path, count = 1) {
  if (path) return location.assign(path);
  const url = new URL(location.href);
  if (count > 1) return location.reload(); // by now it was a GET: past whatever the browser keeps
  url.hash = "";
  location.replace(url.href.replace(/#$/, ""));
}

/* ---- hiding ------------------------------------------------------------------------------------------------------ */

const CLERK = "[data-clerk-component], [data-clerk-component] *, .cl-modalBackdrop, .cl-modalBackdrop *";
const hides = (/** @type {string} */ name, /** @type {string} */ selector) =>
  `[data-tenantry-hides=${name}] :is(${selector}, ${selector} *):not(${CLERK}, .tenantry-notice, .tenantry-notice *)`;
const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  ${hides("content", "[data-tenantry-content]")}, ${hides("main", "main")}, ${hides("body", "body")} {
    visibility: hidden !important; transition: none !important; animation: none !important;
  }
  [data-tenantry-hides] :is([data-clerk-component], .cl-modalBackdrop) { visibility: visible; }
  .tenantry-notice {
    position: fixed; z-index: 2147483647; inset: auto 1rem 1rem; max-width: 36rem; margin: 0 auto; padding: 1rem;
    border: 1px solid; border-radius: .5rem; background: Canvas; color: CanvasText; font: 1rem/1.4 system-ui;
    visibility: visible; box-shadow: 0 .25rem 1rem rgb(0 0 0 / .3);
  }
  .tenantry-notice p { margin: 0 0 .75rem; color: inherit; font: inherit; }
  .tenantry-notice button { all: revert; font: inherit; padding: .25rem .75rem; margin: 0 .5rem 0 0; }
`);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

/** The parts of the page that hold a tenant's data. @returns {["content" | "main" | "body", NodeListOf<Element>]} */
function contents() {
  const marked = document.querySelectorAll("[data-tenantry-content]");
  if (marked.length) return ["content", marked];
  const main = document.querySelectorAll("main");
  return main.length ? ["main", main] : ["body", document.querySelectorAll("body")];
}

const isHidden = () => "tenantryHides" in document.documentElement.dataset;
let patience = 0;
/** The title of a page that is hidden. */
let title = "";

/** The title stays in a page that the browser keeps: it is what the browser's history shows. */
function hide(isKept = false) {
  const [name, parts] = contents();
  document.documentElement.dataset.tenantryHides = name;
  for (const part of parts) part.setAttribute("aria-busy", "true");
  if (!isKept) [title, document.title] = [document.title || title, ""];
  if (!patience) patience = window.setTimeout(() => deferred || notice("slow"), PATIENCE);
}

function reveal(/** @type {typeof phase} */ next = "settled") {
  clearTimeout(patience);
  patience = 0;
  delete document.documentElement.dataset.tenantryHides;
  for (const part of contents()[1]) part.removeAttribute("aria-busy");
  if (title) document.title ||= title; // a page that updates itself may have a new one by now
  title = "";
  document.querySelector(".tenantry-notice[data-passes]")?.remove();
  phase = next;
}

/** Says something without taking the focus, so that nothing typed is lost. @param {keyof TEXT} what */
function notice(what) {
  if (what === "refused" && !shown.userId) reveal("leaving"); // it shows nobody's data
  document.querySelector(".tenantry-notice")?.remove();
  const box = document.createElement("div");
  box.className = "tenantry-notice";
  box.setAttribute("role", "alert");
  if (isHidden() || what === "failed") box.dataset.passes = "";
  const text = document.createElement("p");
  text.textContent = TEXT[what].replace("{organization}", () => nameOf(shown));
  const reload = document.createElement("button");
  reload.textContent = TEXT.reload;
  reload.addEventListener("click", () => {
    remember("tries", "{}");
    go(null);
  });
  const close = document.createElement("button");
  close.textContent = TEXT.close;
  close.addEventListener("click", () => box.remove());
  box.append(text, reload, ...(isHidden() ? [] : [close]));
  document.body.append(box);
}

function nameOf(/** @type {Who} */ { organizationId }) {
  if (!organizationId) return TEXT.personal;
  const memberships = Clerk?.user?.organizationMemberships ?? [];
  const found = memberships.find((/** @type {any} */ membership) => membership.organization.id === organizationId);
  return found?.organization.name ?? organizationId;
}

/* ---- pages that update themselves -------------------------------------------------------------------------------- */

/** @typedef {{open: Set<unknown>, isAsked: boolean, isSwapped: boolean, isFailed: boolean}} Swapping */
/** htmx's part in a switch. @type {Swapping | null} */
let swapping = null;

/** @param {Who} now */
function announce(now) {
  phase = "updating";
  turn.abort();
  turn = new AbortController();
  shown = now;
  remember("shown", key(shown));
  const promises = /** @type {Promise<unknown>[]} */ ([]);
  const detail = { ...now, waitUntil: (/** @type {Promise<unknown>} */ promise) => promises.push(promise) };
  const mine = (swapping = { open: new Set(), isAsked: false, isSwapped: false, isFailed: false });
  document.body.dispatchEvent(new CustomEvent("tenantry:switched", { bubbles: true, detail }));
  const isCurrent = () => swapping === mine;
  if (promises.length) {
    swapping = null;
    const signal = turn.signal;
    Promise.all(promises).then(
      () => signal.aborted || reveal(),
      () => signal.aborted || notice("failed"),
    );
  } else {
    setTimeout(() => isCurrent() && !mine.isAsked && (swapping = null, go(null)), 1000); // nobody took it up
  }
}

/** Shows the page when every request of the switch is over and something was swapped. */
function settle() {
  if (!swapping || swapping.open.size || !(swapping.isSwapped || swapping.isFailed)) return;
  const { isFailed } = swapping;
  swapping = null;
  isFailed ? notice("failed") : reveal();
}

/* ---- tokens and requests ----------------------------------------------------------------------------------------- */

/** The claims of the session cookie, which clerk-js writes. */
function readCookie() {
  const names = [settings.sessionCookie, "__session"];
  const pairs = document.cookie.split("; ").map((pair) => pair.split(/=(.*)/s));
  const jwt = names.map((name) => pairs.find((pair) => pair[0] === name)?.[1]).find(Boolean);
  try {
    return jwt ? JSON.parse(atob(jwt.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))) : null;
  } catch {
    return null;
  }
}

/** Whether these claims are `who`'s, and not about to expire. @param {any} claims @param {Who} who */
function isFor(claims, { userId, organizationId }) {
  if (!claims || claims.sub !== userId || claims.exp * 1000 < Date.now() + 3000) return false;
  return (claims.o?.id ?? claims.org_id ?? "") === organizationId;
}

/** Makes the cookie of all tabs `who`'s; clerk-js writes it, as long as this tab has the focus. @param {Who} who */
async function settleCookie(who) {
  // Who is left without an organization they must have: their token says so, and the server can.
  if (Clerk.session?.status === "pending") return within(PATIENCE, Clerk.session.getToken({ skipCache: true }));
  if (!who.userId) return readCookie() && Clerk.setActive({ session: null }); // a token outlives its session
  if (!isFor(readCookie(), who)) await within(PATIENCE, tokenFor(who));
  if (!isFor(readCookie(), who) && !document.hasFocus()) {
    await new Promise((resolve) => window.addEventListener("focus", resolve, { once: true }));
    await within(PATIENCE, tokenFor(who));
  }
}

/** clerk-js goes on trying for minutes. @param {number} ms @param {Promise<any>} promise */
function within(ms, promise) {
  return Promise.race([promise, new Promise((_, reject) => setTimeout(reject, ms, new Error("It took too long.")))]);
}

/** The latest token, for whom it is, and when clerk-js gave it away, which it does not shortly before it expires. */
let latest = { bearer: "", who: "", at: 0 };
const isFresh = () => latest.who === key(shown) && performance.now() - latest.at < 5000;

/** @param {Who} who @returns {Promise<string>} */
async function tokenFor(who) {
  await loaded;
  if (Clerk.session?.user.id !== who.userId) return "";
  const found = await Clerk.session.getToken({ organizationId: who.organizationId || null });
  if (found) latest = { bearer: found, who: key(who), at: performance.now() };
  return found ?? "";
}

/** A session token for the organization this page shows, of 60 s: for sockets, and clients other than `fetch`. */
export function token() {
  return tokenFor(shown);
}

/** Whether an address is this site's, read as the browser reads it, `<base>` included. */
const isOwn = (/** @type {string} */ address) => new URL(address, document.baseURI).origin === location.origin;

/** `fetch` in the name of the organization this page shows, whatever other tabs do; elsewhere, plain `fetch`.
 * @param {RequestInfo | URL} input @param {RequestInit} [init] */
async function fetchForTenant(input, init) {
  const request = new Request(input, init);
  const who = shown;
  if (!isOwn(request.url) || !who.userId) return window.fetch(request);
  const signal = AbortSignal.any([turn.signal, request.signal]);
  const headers = new Headers(request.headers);
  headers.set(EXPECTED, who.organizationId);
  const bearer = await within(PATIENCE, tokenFor(who)).catch(() => ""); // then the server decides by the cookie
  if (bearer && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${bearer}`);
  signal.throwIfAborted();
  const response = await window.fetch(new Request(request, { headers, signal }));
  if (isRefusal(response) && examine(response.status, await response.clone().text())) told.add(response);
  return response;
}
export { fetchForTenant as fetch };

const isRefusal = (/** @type {{status: number}} */ { status }) => [401, 403, 409].includes(status);
/** Answers that the page has been told about. @type {WeakSet<Response>} */
const told = new WeakSet();

/** Looks for a refusal of Tenantry's in an answer; the answer goes to whoever asked all the same.
 * @param {number} status @param {string} text @returns {boolean} whether the page has been told */
function examine(status, text) {
  let code = "";
  try {
    const problem = JSON.parse(text);
    if (problem.type === `urn:tenantry:${problem.code}`) code = problem.code;
  } catch {} // not a problem document: the app's own
  if (code === "organization_mismatch") return phase === "settled" && notice("mismatch"), true;
  if (status !== 401 && status !== 403) return false;
  const event = new CustomEvent("tenantry:denied", { bubbles: true, cancelable: true, detail: { status, code } });
  if (!document.body.dispatchEvent(event) || !(OUT.includes(code) || (status === 401 && code))) return false;
  if (code === "token_expired") return phase === "settled" && notice("failed"), true; // until Clerk gives a new one
  hide();
  phase = "denied";
  notice("denied");
  return true;
}

/** htmx's requests: 2.x has events like `htmx:configRequest` and sends its own, 4.x has `htmx:config:request`. */
const HTMX = {
  /** @param {any} event */
  "htmx:confirm"(event) {
    const { issueRequest, elt } = event.detail;
    if (!elt || event.defaultPrevented || !shown.userId) return; // 4.x, or a dialog of the app's own
    if (swapping) swapping.isAsked = true;
    if (isFresh()) return;
    event.preventDefault();
    const { signal } = turn;
    within(PATIENCE, token()).catch(() => "").then(() => signal.aborted || issueRequest());
  },
  /** @param {any} event */
  "htmx:configRequest"({ detail }) {
    if (!shown.userId || !isOwn(detail.path)) return;
    detail.headers[EXPECTED] = shown.organizationId;
    if (isFresh()) detail.headers.Authorization = `Bearer ${latest.bearer}`;
  },
  "htmx:beforeRequest": (/** @type {any} */ { detail }) => swapping?.open.add(detail.xhr),
  /** @param {any} event */
  "htmx:beforeSwap"(event) {
    const { xhr, requestConfig } = event.detail;
    const stated = requestConfig?.headers[EXPECTED];
    if (stated !== undefined && stated !== shown.organizationId) return event.preventDefault();
    if (isRefusal(xhr)) examine(xhr.status, xhr.responseText);
  },
  /** @param {any} event */
  "htmx:afterSwap"({ detail }) {
    if (swapping) swapping.isSwapped = true;
    finish(detail.xhr, false);
  },
  /** @param {any} event */
  "htmx:afterRequest"({ detail: { xhr, target, successful } }) {
    const isSwappedLater = successful && target?.classList.contains("htmx-swapping"); // `hx-swap="innerHTML swap:1s"`
    if (!isSwappedLater) finish(xhr, !successful);
  },

  /** @param {any} event */
  "htmx:config:request"({ detail: { ctx } }) {
    if (swapping) swapping.isAsked = true;
    ctx.fetch ??= fetchForTenant;
  },
  "htmx:before:request": (/** @type {any} */ { detail: { ctx } }) => swapping?.open.add(ctx),
  /** @param {any} event */
  "htmx:before:response"(event) {
    if (told.has(event.detail.ctx.response.raw)) event.preventDefault();
  },
  "htmx:after:swap"() {
    if (swapping) swapping.isSwapped = true;
    settle();
  },
  "htmx:before:history:restore": (/** @type {any} */ event) => event.preventDefault(), // see `avoidSnapshot`
  "htmx:finally:request": (/** @type {any} */ { detail: { ctx } }) => finish(ctx, ctx.status !== "swapped"),
};

/** @param {unknown} request @param {boolean} isFailed */
function finish(request, isFailed) {
  if (swapping?.open.delete(request)) swapping.isFailed ||= isFailed;
  settle();
}

/* ---- forms that the browser sends itself ------------------------------------------------------------------------- */

// Not by way of the form: a field of it may be named so.
const { getAttribute, setAttribute } = Element.prototype;
const { requestSubmit, submit } = HTMLFormElement.prototype;
/** Those that wait for a cookie of this tab's. @type {WeakSet<HTMLFormElement>} */
const waiting = new WeakSet();
/** The one that has waited. @type {HTMLFormElement | null} */
let resent = null;

/** Who says where a form goes. @param {HTMLFormElement} form @param {Element | null} button */
function addressOf(form, button) {
  const isButtons = button?.hasAttribute("formaction");
  const [sender, name] = isButtons ? [/** @type {Element} */ (button), "formaction"] : [form, "action"];
  return { sender, name, address: getAttribute.call(sender, name) || location.href };
}

/** @param {HTMLFormElement} form @param {Element | null} button */
function isGuarded(form, button) {
  const method = button?.getAttribute("formmethod") ?? getAttribute.call(form, "method") ?? "";
  return shown.userId && method.toLowerCase() === "post" && isOwn(addressOf(form, button).address);
}

/** Writes into a form's address which organization it means.
 * @param {HTMLFormElement} form @param {Element | null} button */
function state(form, button) {
  if (!isGuarded(form, button)) return;
  const { sender, name, address } = addressOf(form, button);
  const url = new URL(address, document.baseURI);
  const others = url.search.slice(1).split("&").filter((part) => part && !part.startsWith(`${EXPECTED_IN_QUERY}=`));
  url.search = [...others, `${EXPECTED_IN_QUERY}=${shown.organizationId}`].join("&"); // the rest as it was written
  setAttribute.call(sender, name, url.href);
}

/** Sends a form when the cookie is this tab's, unless the page has turned to another tenant by then.
 * @param {HTMLFormElement} form @param {() => void} send */
function sendLater(form, send) {
  if (waiting.has(form)) return;
  waiting.add(form);
  const { signal } = turn;
  const proceed = () => {
    waiting.delete(form);
    if (!signal.aborted) send();
  };
  settleCookie(shown).catch(() => {}).then(() => setTimeout(proceed)); // not within the event: browsers ignore that
}

/** The first of all listeners: the page's own see one submission, the one that goes out. */
function delayForm(/** @type {SubmitEvent} */ event) {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form === resent || !isGuarded(form, event.submitter) || isFor(readCookie(), shown)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  sendLater(form, () => {
    resent = form;
    requestSubmit.call(form, event.submitter);
    resent = null;
  });
}

/** The last of all. */
function stateForm(/** @type {SubmitEvent} */ event) {
  if (!event.defaultPrevented) state(/** @type {HTMLFormElement} */ (event.target), event.submitter);
}

/** Instead of `form.submit()`, of which no event tells. @this {HTMLFormElement} */
function submitByScript() {
  const send = () => {
    state(this, null);
    submit.call(this);
  };
  if (!isGuarded(this, null) || isFor(readCookie(), shown)) send();
  else sendLater(this, send);
}

/* ---- components -------------------------------------------------------------------------------------------------- */

/** @type {Map<HTMLElement, string>} */
const mounted = new Map();

const propsOf = (/** @type {HTMLElement} */ element) => JSON.parse(element.dataset.clerkProps ?? "{}");

/** Mounts what has come, unmounts what has gone, and resumes a switch that a component held up. */
function mount() {
  offerCreation();
  for (const [node, name] of mounted) {
    if (!node.isConnected) mounted.delete(node) && Clerk[`unmount${name}`](node);
  }
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-clerk-component]"))) {
    const name = node.dataset.clerkComponent ?? "";
    if (phase === "leaving" || mounted.has(node)) continue; // a sign-in, for who is signed in, would navigate away
    if (!Clerk[`mount${name}`]) {
      console.error(`Tenantry: Clerk has no component ${name}.`);
      delete node.dataset.clerkComponent; // said once
      continue;
    }
    mounted.set(node, name);
    Clerk[`mount${name}`](node, propsOf(node));
  }
  if (deferred && !isBeingCreated(deferred)) {
    const now = deferred;
    deferred = null;
    void follow(now);
  }
}

async function click(/** @type {MouseEvent} */ event) {
  const target = /** @type {Element} */ (event.target);
  const button = /** @type {HTMLElement | null} */ (target.closest("[data-clerk-open], [data-clerk-sign-out]"));
  if (!button) return;
  await loaded.catch(() => {}); // a click before that waits
  if (!Clerk?.loaded) return;
  if (button.dataset.clerkOpen) Clerk[`open${button.dataset.clerkOpen}`](propsOf(button));
  else void Clerk.signOut(propsOf(button));
}

/* ---- start ------------------------------------------------------------------------------------------------------- */

/** What this tab remembers from page to page; nothing where the browser blocks storage, which then throws. */
function recall(/** @type {string} */ name) {
  try {
    return sessionStorage.getItem(`tenantry.${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value @returns {boolean} whether it will be remembered */
function remember(name, value) {
  try {
    sessionStorage.setItem(`tenantry.${name}`, value);
    return true;
  } catch {
    return false;
  }
}

/** Whether somebody signed out, or somebody else in, while the browser kept this page. */
let isEnded = false;

/** Registered before clerk-js, which writes the cookie anew from what it remembers. */
function lookForEnd() {
  isEnded ||= document.visibilityState === "visible" && Boolean(shown.userId) && readCookie()?.sub !== shown.userId;
}

/** A page that the browser kept comes back as it was: only if this tab has been nowhere else meanwhile is it shown.
 * Firefox lets it see only what the tab had stored when it was left: there the cookie tells who has come since. */
function comeBack() {
  lookForEnd();
  if (isEnded || phase === "leaving" || recall("shown") !== key(shown)) go(null);
  else if (Clerk?.loaded) compare(Clerk);
  else reveal();
}

/** htmx goes back to what it kept of a page, whoever's it was, or asks by the cookie alone: rather to the page anew. */
function avoidSnapshot(/** @type {PopStateEvent} */ event) {
  if (!event.state?.htmx) return;
  event.stopImmediatePropagation();
  phase = "leaving";
  hide();
  go(null);
}

async function start() {
  Clerk = /** @type {any} */ (window).Clerk;
  if (!Clerk) throw new Error("clerk-js did not load: see the network requests of this page.");
  const ClerkUI = /** @type {any} */ (window).__internal_ClerkUICtor;
  await Clerk.load({ ui: { ClerkUI }, ...JSON.parse(settings.clerkOptions ?? "{}") });
  Clerk.addListener(compare);
  if (isSame(active() ?? shown, shown)) remember("tries", "{}");
  mount();
  new MutationObserver(mount).observe(document.documentElement, { childList: true, subtree: true });
}

const here = new URL(location.href);
if (here.searchParams.has(EXPECTED_IN_QUERY)) {
  here.searchParams.delete(EXPECTED_IN_QUERY); // a form stated it; a bookmark would state it forever
  history.replaceState(history.state, "", here);
}
remember("shown", key(shown));
for (const [name, handle] of Object.entries(HTMX)) document.addEventListener(name, /** @type {any} */ (handle));
document.addEventListener("click", click);
window.addEventListener("submit", delayForm, true);
window.addEventListener("submit", stateForm);
HTMLFormElement.prototype.submit = submitByScript;
window.addEventListener("popstate", avoidSnapshot, true);
window.addEventListener("hashchange", () => isHidden() && !deferred && go(null)); // a component went no further
document.addEventListener("visibilitychange", lookForEnd);
window.addEventListener("pagehide", (event) => event.persisted && hide(true));
window.addEventListener("pageshow", (event) => event.persisted && comeBack());
/** Settled when Clerk is there. */
export const loaded = start();
loaded.catch((error) => console.error("Tenantry:", error.message));
Object.assign(window, { tenantry: { fetch: fetchForTenant, token, loaded } });
