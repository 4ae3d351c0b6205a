// @vitest-environment jsdom
/** What a tab shows, hides and sends while Clerk's active organization changes under it. Clerk and the router are stand-ins. */

import { QueryClient, QueryClientProvider, useQuery } from "@tanstack/react-query";
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import * as React from "react";
import { useState, type ComponentType, type ReactNode } from "react";
import { createPortal } from "react-dom";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import useSWR from "swr";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { codeOf } from "../errors";
import { CreateOrganizationButton, OrgSwitcher } from "../OrgSwitcher";
import { tenantFetch } from "../tenant-fetch";
import { tenantKey } from "../tenant-key";
import { TenantGate, TurnTo } from "../TenantGate";
import { useTenant, type ShownTenant } from "../use-tenant";

const world = vi.hoisted(() => {
  const listeners = new Set<() => void>();
  const organizations = ["org_acme", "org_globex"].map((id) => ({ id, slug: id.slice(4), name: id }));
  const clerk = {
    loaded: true,
    user: { createOrganizationEnabled: true, organizationMemberships: organizations.map((organization) => ({ organization })) },
    organization: undefined as { id: string; slug: string } | null | undefined,
    session: undefined as unknown,
    client: { lastActiveSessionId: "sess_1", sessions: [] as object[] },
    addListener(changed: () => void) {
      listeners.add(changed);
      return () => listeners.delete(changed);
    },
    setActive: async (_: { organization: string | null }) => undefined as void,
    openCreateOrganization: (_: object) => undefined as void,
    become(userId: string | undefined, orgId = "") {
      clerk.organization = organizations.find(({ id }) => id === orgId) ?? (orgId ? { id: orgId, slug: "new" } : null);
      const getToken = async (asked: { organizationId?: string }) => `token of ${userId} ${asked.organizationId ?? ""}`;
      clerk.session = userId === undefined ? undefined : userId && { status: "active", user: { id: userId }, getToken };
      if (userId === "") clerk.session = null;
      listeners.forEach((tell) => tell());
    },
  };
  const router = { refresh: () => undefined, replace: (_: string) => undefined };
  const list = {
    isLoaded: true,
    setActive: async (_: object) => undefined as void,
    createOrganization: async ({ name }: { name: string }) => ({ id: "org_new", slug: null, name }),
  };
  return { clerk, router, list };
});

vi.mock("@clerk/nextjs", () => ({
  useClerk: () => world.clerk,
  useOrganizationList: () => world.list,
  OrganizationSwitcher: Object.assign(({ children, ...props }: { children?: ReactNode }) => <div data-testid="switcher" title={JSON.stringify(props)}>{children}</div>, {
    OrganizationProfilePage: ({ label }: { label: string }) => <i>{label}</i>,
    OrganizationProfileLink: () => null,
  }),
}));
vi.mock("next/navigation", () => ({
  useRouter: () => world.router,
  notFound: () => {
    throw new Error("not found");
  },
}));

const { clerk, router, list } = world;
const acme: ShownTenant = { userId: "user_ada", orgId: "org_acme", orgSlug: "acme", role: "org:admin", permissions: [] };
const globex: ShownTenant = { ...acme, orgId: "org_globex", orgSlug: "globex" };
const personal: ShownTenant = { ...acme, orgId: "", orgSlug: null, role: null };

function Page({ tenant, org, children }: { tenant: ShownTenant; org?: string; children?: ReactNode }) {
  return (
    <TenantGate tenant={tenant} org={org} fallback={<p>turning</p>}>
      <p>data of {tenant.orgSlug ?? "nobody else"}</p>
      {children}
    </TenantGate>
  );
}

function Note() {
  const [text, setText] = useState("");
  return <input aria-label="note" value={text} onChange={(event) => setText(event.target.value)} />;
}

const Whose = () => <p>{`for ${useTenant().orgId}`}</p>;

/** Without React's test helpers, which would wait: what stands there when the task of the change is over. */
async function inTheSameTask(change: () => void) {
  Reflect.set(globalThis, "IS_REACT_ACT_ENVIRONMENT", false);
  change();
  await Promise.resolve(); // microtasks run before the browser paints
  await Promise.resolve();
}

function token(claims: object): string {
  return `h.${btoa(JSON.stringify({ iat: Date.now() / 1000, exp: Date.now() / 1000 + 60, ...claims }))}.s`;
}

let sent: { url: string; headers: Headers; signal: AbortSignal | null }[] = [];
let answer = () => new Response("{}");
let hold: Promise<void> | undefined;

beforeEach(() => {
  sent = [];
  hold = undefined;
  answer = () => new Response("{}");
  clerk.loaded = true;
  clerk.client.sessions = [];
  clerk.become("user_ada", "org_acme");
  history.replaceState(null, "", "/orgs/org_acme/documents/7");
  document.cookie = `__session=${token({ sub: "user_ada", o: { id: "org_acme" } })}`;
});

afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

// The page's own `fetch`, before the suite wraps it, as it does while a tenant is shown.
window.fetch = async (input, init) => {
  sent.push({ url: String(input), headers: new Headers(init?.headers), signal: init?.signal ?? null });
  await hold;
  init?.signal?.throwIfAborted();
  return answer();
};

describe("the gate", () => {
  it("shows what the server rendered, before Clerk is there and with it", async () => {
    const page = <Page tenant={acme}><Whose /></Page>;
    expect(renderToString(page)).toContain("for org_acme");
    clerk.loaded = false;
    render(page);
    expect(screen.getByText("data of acme")).toBeTruthy();
    clerk.loaded = true;
    await inTheSameTask(() => clerk.become("user_ada", "org_acme"));
    expect(screen.getByText("data of acme")).toBeTruthy();
  });

  it.each([
    ["another organization", "user_ada", "org_globex"],
    ["the personal account", "user_ada", ""],
    ["another person", "user_bob", "org_acme"],
    ["nobody", "", ""],
    ["a state between two", undefined, ""],
  ])("removes what it holds in the same task when %s becomes active", async (_, userId, orgId) => {
    render(<Page tenant={acme}>{createPortal(<p>a dialog of acme</p>, document.body)}</Page>);
    await inTheSameTask(() => clerk.become(userId, orgId));
    expect(document.body.textContent).toBe("turning");
  });

  it("comes back without any state when the server has rendered it for the active tenant", async () => {
    const { rerender } = render(<Page tenant={acme}><Note /></Page>);
    fireEvent.change(screen.getByLabelText("note"), { target: { value: "of acme" } });
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    rerender(<Page tenant={globex}><Note /><Whose /></Page>);
    await waitFor(() => expect(screen.getByText("for org_globex")).toBeTruthy());
    expect(screen.getByLabelText("note")).toHaveProperty("value", "");
  });

  it("keeps no state of another tenant where Clerk is not there to tell", () => {
    clerk.loaded = false;
    const { rerender } = render(<Page tenant={acme}><Note /></Page>);
    fireEvent.change(screen.getByLabelText("note"), { target: { value: "of acme" } });
    rerender(<Page tenant={globex}><Note /></Page>);
    expect(screen.getByLabelText("note")).toHaveProperty("value", "");
  });

  it("keeps what was typed while nothing switches", async () => {
    const { rerender } = render(<Page tenant={acme}><Note /></Page>);
    fireEvent.change(screen.getByLabelText("note"), { target: { value: "half a sentence" } });
    await inTheSameTask(() => clerk.become("user_ada", "org_acme"));
    rerender(<Page tenant={{ ...acme, role: "org:member" }}><Note /></Page>);
    expect(screen.getByLabelText("note")).toHaveProperty("value", "half a sentence");
  });

  it("asks the server again when nobody else does", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const refresh = vi.spyOn(router, "refresh");
    render(<Page tenant={acme} />);
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    expect(refresh).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(300);
    expect(refresh).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(refresh).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("takes long"));
  });

  it.each([
    ["org_acme", "/orgs/org_acme/documents/7", "org_globex", "/orgs/org_globex"],
    ["acme", "/app/orgs/acme", "org_globex", "/app/orgs/globex"],
    ["org_acme", "/orgs/org_acme", "", "/"],
  ])("goes to the other organization's place where the path names one: %s", async (org, path, orgId, to) => {
    history.replaceState(null, "", path);
    const replace = vi.spyOn(router, "replace");
    render(<Page tenant={acme} org={org} />);
    await inTheSameTask(() => clerk.become("user_ada", orgId));
    await waitFor(() => expect(replace).toHaveBeenCalledExactlyOnceWith(to));
    history.replaceState(null, "", "/elsewhere");
    await new Promise((resolve) => setTimeout(resolve, 100));
  });

  it("leaves an organization as long as its path stands, but not forever", async () => {
    vi.useFakeTimers();
    vi.spyOn(router, "replace");
    const setActive = vi.spyOn(clerk, "setActive");
    const leave = render(<Page tenant={acme} org="org_acme" />);
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    await vi.advanceTimersByTimeAsync(30_000);
    expect(router.replace).toHaveBeenCalledOnce();
    leave.unmount();
    const meanwhile = render(<TurnTo org="org_acme" otherwise={<p>not in</p>} />);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(setActive).not.toHaveBeenCalled();
    meanwhile.unmount();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(vi.getTimerCount()).toBe(0);
    render(<TurnTo org="org_acme" otherwise={<p>not in</p>} />);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(setActive).toHaveBeenCalledWith({ organization: "org_acme" });
  });

  it("turns the tab to the organization that the path of a fresh page names", async () => {
    const setActive = vi.spyOn(clerk, "setActive");
    clerk.become("user_ada", "org_globex");
    render(<Page tenant={acme} org="org_acme" />);
    await waitFor(() => expect(setActive).toHaveBeenCalledWith({ organization: "org_acme" }));
    expect(screen.queryByText("data of acme")).toBeNull();
  });

  it("hides a page that the browser keeps, and shows it again only to the same person in the same place", () => {
    render(<Page tenant={acme} />);
    const { style } = document.documentElement;
    window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    expect(style.visibility).toBe("hidden");
    window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    expect(style.visibility).toBe("");
    window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    sessionStorage.setItem("tenantry.shown", "user_ada org_globex");
    window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })); // made anew by the browser
    expect(style.visibility).toBe("hidden");
    style.visibility = "";
  });

  // Since React 19.2: how Next.js keeps pages that were left, with `cacheComponents`.
  const Activity: ComponentType<{ mode: "visible" | "hidden"; children: ReactNode }> | undefined = Reflect.get(React, "Activity");

  it.runIf(Activity)("of a page that React had kept closes before it is seen again, and turns the tab to its path", async () => {
    if (!Activity) return;
    const setActive = vi.spyOn(clerk, "setActive");
    const replace = vi.spyOn(router, "replace");
    const page = <Page tenant={acme} org="org_acme" />; // the same one: React has nothing to render when it comes back
    const kept = (mode: "visible" | "hidden") => <Activity mode={mode}>{page}</Activity>;
    Reflect.set(globalThis, "IS_REACT_ACT_ENVIRONMENT", false); // a transition, as the router's: its effects come late
    const root = createRoot(document.body.appendChild(document.createElement("div")));
    root.render(kept("visible"));
    await waitFor(() => expect(screen.getByText("data of acme")).toBeTruthy());
    root.render(kept("hidden"));
    await waitFor(() => expect(document.body.innerHTML).toContain("display: none"));
    clerk.become("user_ada", "org_globex");
    const seen: string[] = [];
    const look = new MutationObserver(() => seen.push(document.body.innerHTML));
    look.observe(document.body, { attributes: true, childList: true, subtree: true });
    React.startTransition(() => root.render(kept("visible")));
    await waitFor(() => expect(setActive).toHaveBeenCalledWith({ organization: "org_acme" }));
    expect(screen.queryByText("data of acme")).toBeNull();
    expect(seen.filter((html) => html.includes("data of acme") && !html.includes("display: none"))).toEqual([]);
    expect(replace).not.toHaveBeenCalled();
    await window.fetch("/?_rsc=1", { headers: { RSC: "1" } });
    expect(sent[0]?.headers.get("Tenantry-Expected-Org")).toBe("org_globex");
    root.unmount();
    document.body.replaceChildren();
  });

  it("says so where a hook is used outside of it", () => {
    vi.spyOn(console, "error").mockReturnValue();
    expect(() => render(<Whose />)).toThrow("<TenantBoundary>");
  });
});

describe("a path of another organization", () => {
  it("turns the tab to it, if the person is in it, and asks the server again", async () => {
    const setActive = vi.spyOn(clerk, "setActive");
    const refresh = vi.spyOn(router, "refresh");
    render(<TurnTo org="globex" otherwise={<p>not in</p>} />);
    await waitFor(() => expect(setActive).toHaveBeenCalledWith({ organization: "org_globex" }));
    expect(document.body.textContent).toBe("");
    clerk.become("user_ada", "org_globex");
    await waitFor(() => expect(refresh).toHaveBeenCalled());
  });

  it("asks in the name of this tab, and again where the answer was another tab's", async () => {
    const refresh = vi.spyOn(router, "refresh").mockImplementation(() => void window.fetch("/", { headers: { RSC: "1" } }));
    clerk.become("user_ada", "org_globex");
    const { unmount } = render(<TurnTo org="globex" otherwise={<p>not in</p>} />);
    await waitFor(() => expect(refresh.mock.calls.length).toBeGreaterThan(1));
    expect(sent.map(({ headers }) => headers.get("Authorization"))).toContain("Bearer token of user_ada org_globex");
    unmount();
    const before = sent.length;
    await window.fetch("/", { headers: { RSC: "1" } });
    expect(sent[before]?.headers.get("Authorization")).toBeNull();
  });

  it("is not found by others", () => {
    const setActive = vi.spyOn(clerk, "setActive");
    render(<TurnTo org="org_secret" otherwise={<p>not in</p>} />);
    expect(document.body.textContent).toBe("not in");
    vi.spyOn(console, "error").mockReturnValue();
    expect(() => render(<TurnTo org="org_secret" otherwise={undefined} />)).toThrow("not found");
    expect(setActive).not.toHaveBeenCalled();
  });

  it("is waited for while Clerk tells of nobody, whose session its client has", () => {
    clerk.client.sessions = [{ id: "sess_1", status: "active" }];
    clerk.become("");
    render(<TurnTo org="org_secret" otherwise={<p>not in</p>} />);
    expect(document.body.textContent).toBe("");
    cleanup();
    document.cookie = "__session=; max-age=0"; // as where the app has ended it
    render(<TurnTo org="org_secret" otherwise={<p>not in</p>} />);
    expect(document.body.textContent).toBe("not in");
  });
});

describe("requests of the router and of actions", () => {
  it.each(["RSC", "Next-Action"])("state the tab's organization, in its own name: %s", async (header) => {
    render(<Page tenant={acme} />);
    await window.fetch("/orgs/org_acme?_rsc=1", { headers: { [header]: "1" } });
    expect(sent[0]?.headers.get("Tenantry-Expected-Org")).toBe("org_acme");
    expect(sent[0]?.headers.get("Authorization")).toBe("Bearer token of user_ada org_acme");
    expect(sent[0]?.headers.get(header)).toBe("1");
  });

  it.each(["RSC", "Next-Action"])("wait for no Clerk where the cookie is this tab's: %s", async (header) => {
    clerk.loaded = false;
    render(<Page tenant={acme} />);
    await window.fetch("/orgs/org_acme?_rsc=1", { headers: { [header]: "1" } });
    expect(sent[0]?.headers.get("Tenantry-Expected-Org")).toBe("org_acme");
    expect(sent[0]?.headers.get("Authorization")).toBeNull();
  });

  it.each([
    ["another organization's", { sub: "user_ada", o: { id: "org_globex" } }],
    ["another organization's, version 1", { sub: "user_ada", org_id: "org_globex" }],
    ["another person's", { sub: "user_bob", o: { id: "org_acme" } }],
    ["about to expire", { sub: "user_ada", o: { id: "org_acme" }, exp: Date.now() / 1000 + 1 }],
    ["from before the last sign-in", { sub: "user_ada", o: { id: "org_acme" }, iat: Date.now() / 1000 - 60 }],
    ["not readable", "nonsense"],
  ])("wait for Clerk, and the tab's own token, where the cookie is %s", async (_, claims) => {
    clerk.loaded = false;
    setTimeout(() => (clerk.loaded = true), 60);
    document.cookie = `__client_uat_Ab-_1=${Math.floor(Date.now() / 1000) - 30}`;
    document.cookie = `__session=${typeof claims === "string" ? claims : token(claims)}`;
    render(<Page tenant={acme} />);
    await window.fetch("/?_rsc=1", { headers: { RSC: "1" } });
    expect(sent[0]?.headers.get("Authorization")).toBe("Bearer token of user_ada org_acme");
  });

  it("are for the active organization while the page turns to it", async () => {
    render(<Page tenant={acme} />);
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    await window.fetch("/?_rsc=1", { headers: { RSC: "1" } });
    expect(sent[0]?.headers.get("Tenantry-Expected-Org")).toBe("org_globex");
    expect(sent[0]?.headers.get("Authorization")).toBe("Bearer token of user_ada org_globex");
  });

  it("state the personal account as such", async () => {
    clerk.become("user_ada", "");
    render(<Page tenant={personal} />);
    await window.fetch("/?_rsc=1", { headers: { RSC: "1" } });
    expect(sent[0]?.headers.get("Tenantry-Expected-Org")).toBe("");
  });

  it("are all that is touched, and only while a tenant is shown", async () => {
    const { unmount } = render(<Page tenant={acme} />);
    await window.fetch("https://elsewhere.example/", { headers: { "X-Mine": "1" } });
    unmount();
    await window.fetch("/?_rsc=1", { headers: { RSC: "1" } });
    expect(sent.map(({ headers }) => headers.has("Tenantry-Expected-Org"))).toEqual([false, false]);
  });

  it("are the page's own again when no tenant is shown", () => {
    const own = window.fetch;
    const { unmount } = render(<Page tenant={acme} />);
    expect(window.fetch).not.toBe(own);
    unmount();
    expect(window.fetch).toBe(own);
  });
});

describe("a browser that lacks something", () => {
  it("shows the tenant where storage is blocked", () => {
    const refuse = () => {
      throw new DOMException("The operation is insecure.", "SecurityError");
    };
    vi.spyOn(Storage.prototype, "setItem").mockImplementation(refuse);
    vi.spyOn(Storage.prototype, "getItem").mockImplementation(refuse);
    render(<Page tenant={acme} />);
    expect(document.body.textContent).toContain("data of acme");
  });

  it("breaks a request off by either signal without AbortSignal.any", async () => {
    vi.stubGlobal("AbortSignal", class {});
    const own = new AbortController();
    render(<Page tenant={acme} />);
    await tenantFetch("/documents", { signal: own.signal });
    vi.unstubAllGlobals();
    expect(sent[0]?.signal?.aborted).toBe(false);
    own.abort();
    expect(sent[0]?.signal?.aborted).toBe(true);
    await expect(tenantFetch("/documents", { signal: own.signal })).rejects.toThrow();
  });
});

describe("tenantFetch in the browser", () => {
  it("leaves nothing behind on a page that asks again and again with signals of its own", async () => {
    const listen = vi.spyOn(AbortSignal.prototype, "addEventListener");
    render(<Page tenant={acme} />);
    const own = new AbortController();
    for (let n = 0; n < 3; n += 1) await tenantFetch("/documents", { signal: own.signal });
    expect(listen).not.toHaveBeenCalled();
    own.abort();
    expect(sent.every(({ signal }) => signal?.aborted)).toBe(true);
  });

  it("asks as the tenant that the page shows", async () => {
    render(<Page tenant={acme} />);
    await tenantFetch("/documents", { headers: { "X-Mine": "1" } });
    expect(sent[0]?.url).toBe("/documents");
    const headers = Object.fromEntries(sent[0]?.headers ?? []);
    expect(headers).toEqual({ authorization: "Bearer token of user_ada org_acme", "tenantry-expected-org": "org_acme", "x-mine": "1" });
  });

  it("is broken off when the page turns to another tenant", async () => {
    let release = () => {};
    hold = new Promise((resolve) => (release = resolve));
    const { rerender } = render(<Page tenant={acme} />);
    const late = tenantFetch("/documents");
    const refused = expect(late).rejects.toHaveProperty("name", "AbortError");
    clerk.become("user_ada", "org_globex");
    rerender(<Page tenant={globex} />);
    await waitFor(() => expect(screen.getByText("data of globex")).toBeTruthy());
    release();
    await refused;
  });

  it("throws a refusal, and hides the page from who is out", async () => {
    render(<Page tenant={acme} />);
    answer = () => Response.json({ type: "urn:tenantry:permission_denied", code: "permission_denied" }, { status: 403 });
    await expect(tenantFetch("/documents")).rejects.toSatisfy((error) => codeOf(error) === "permission_denied");
    expect(screen.getByText("data of acme")).toBeTruthy();
    answer = () => Response.json({ type: "urn:tenantry:not_a_member", code: "not_a_member" }, { status: 403 });
    await expect(tenantFetch("/documents")).rejects.toSatisfy((error) => codeOf(error) === "not_a_member");
    await waitFor(() => expect(screen.queryByText("data of acme")).toBeNull());
    expect(screen.getByRole("alert").textContent).toContain("has ended");
  });

  it("sends nothing outside of a boundary, and no token elsewhere", async () => {
    await expect(tenantFetch("/documents")).rejects.toThrow("<TenantBoundary>");
    render(<Page tenant={acme} />);
    for (const path of ["//evil.example", "/\\evil.example", "https://evil.example"]) {
      await expect(tenantFetch(path)).rejects.toThrow(TypeError);
    }
    expect(sent).toEqual([]);
  });
});

describe("client caches", () => {
  const Query = ({ load }: { load: (key: readonly unknown[]) => string }) => {
    const key = tenantKey(useTenant(), "documents");
    const query = useQuery({ queryKey: key, queryFn: () => load(key), staleTime: Infinity });
    const swr = useSWR(key, load, { revalidateIfStale: false });
    return <p>{`${query.data} ${swr.data}`}</p>;
  };

  it("of React Query and SWR give no tenant what another was given", async () => {
    const load = vi.fn((key: readonly unknown[]) => String(key[2]));
    const client = new QueryClient();
    const page = (tenant: ShownTenant) => (
      <QueryClientProvider client={client}>
        <Page tenant={tenant}>
          <Query load={load} />
        </Page>
      </QueryClientProvider>
    );
    const { rerender } = render(page(acme));
    for (const tenant of [acme, globex, acme]) {
      clerk.become(tenant.userId, tenant.orgId);
      rerender(page(tenant));
      await waitFor(() => expect(screen.getByText(`${tenant.orgId} ${tenant.orgId}`)).toBeTruthy());
    }
    expect(load).toHaveBeenCalledTimes(4); // twice each: the first organization's are found again
  });
});

describe("the switcher", () => {
  it("hands on every property and child, and keeps Clerk's own pages", () => {
    render(
      <OrgSwitcher hidePersonal afterCreateOrganizationUrl="/orgs/:id/dashboard" onSwitch={() => undefined}>
        <OrgSwitcher.OrganizationProfilePage label="Terms" url="terms" labelIcon={null}>
          x
        </OrgSwitcher.OrganizationProfilePage>
      </OrgSwitcher>,
    );
    const given: unknown = JSON.parse(screen.getByTestId("switcher").title);
    expect(given).toEqual({ hidePersonal: true, afterCreateOrganizationUrl: "/orgs/:id/dashboard" });
    expect(screen.getByText("Terms")).toBeTruthy();
  });

  it("listens to Clerk once, however often it is rendered", () => {
    const listen = vi.spyOn(clerk, "addListener");
    const { rerender } = render(<OrgSwitcher hidePersonal />);
    rerender(<OrgSwitcher />);
    rerender(<OrgSwitcher hidePersonal />);
    expect(listen).toHaveBeenCalledTimes(1);
  });

  it("tells of each change of the organization once, whatever made it, and of no other", async () => {
    const told = vi.fn();
    render(<OrgSwitcher onSwitch={told} />);
    await inTheSameTask(() => clerk.become("user_ada", "org_acme"));
    await inTheSameTask(() => clerk.become(undefined));
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    await inTheSameTask(() => clerk.become("user_ada", "org_globex"));
    await waitFor(() => expect(told).toHaveBeenCalledTimes(1));
    expect(told).toHaveBeenCalledWith({ userId: "user_ada", orgId: "org_globex" }, { userId: "user_ada", orgId: "org_acme" });
    await inTheSameTask(() => clerk.become("user_bob", "org_acme"));
    await inTheSameTask(() => clerk.become("user_bob", ""));
    await waitFor(() => expect(told).toHaveBeenCalledTimes(2));
    expect(told).toHaveBeenLastCalledWith({ userId: "user_bob", orgId: "" }, { userId: "user_bob", orgId: "org_acme" });
  });
});

describe("the button that creates an organization", () => {
  it("opens Clerk's dialog", () => {
    const open = vi.spyOn(clerk, "openCreateOrganization");
    render(<CreateOrganizationButton afterCreateOrganizationUrl="/orgs/:id" className="mine" />);
    const button = screen.getByRole("button", { name: "New organization" });
    fireEvent.click(button);
    expect(open).toHaveBeenCalledWith({ afterCreateOrganizationUrl: "/orgs/:id" });
    expect(button.className).toBe("mine");
  });

  it("creates at once where a name is given, and goes there", async () => {
    const setActive = vi.spyOn(list, "setActive");
    render(<CreateOrganizationButton name="Initech" afterCreateOrganizationUrl="/orgs/:id/of/:slug" />);
    fireEvent.click(screen.getByRole("button"));
    await waitFor(() => expect(setActive).toHaveBeenCalled());
    expect(setActive).toHaveBeenCalledWith({ organization: "org_new", redirectUrl: "/orgs/org_new/of/org_new" });
  });

  it("hands a failure on, and can be pressed again", async () => {
    vi.spyOn(list, "createOrganization").mockRejectedValueOnce(new Error("no more"));
    const failed = vi.fn();
    render(<CreateOrganizationButton name="Initech" onError={failed} />);
    fireEvent.click(screen.getByRole("button"));
    await waitFor(() => expect(failed).toHaveBeenCalled());
    await waitFor(() => expect(screen.getByRole("button")).toHaveProperty("disabled", false));
  });

  it("is not there for who may not, nor before that is known", () => {
    clerk.user.createOrganizationEnabled = false;
    const { container, rerender } = render(<CreateOrganizationButton />);
    expect(container.textContent).toBe("");
    clerk.user.createOrganizationEnabled = true;
    list.isLoaded = false;
    rerender(<CreateOrganizationButton />);
    expect(container.textContent).toBe("");
    list.isLoaded = true;
  });
});
