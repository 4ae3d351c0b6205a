"use client";
/** Clerk's organization switcher, with what it lacks: a callback. And a button that creates an organization. */
import { OrganizationSwitcher, useClerk, useOrganizationList } from "@clerk/nextjs";
import { useEffect, useRef, useState, type ComponentProps, type ReactNode } from "react";

import type { Who } from "./tab";
import { useActive } from "./use-tenant";

export type OrgSwitcherProps = ComponentProps<typeof OrganizationSwitcher> & {
  /** Called when another organization, or the personal account (""), has become active in this tab. */
  readonly onSwitch?: (now: Who, before: Who) => void;
};

/**
 * `<OrganizationSwitcher/>` with all of its properties and pages. What a `<TenantBoundary>` holds follows the switch by
 * itself, from wherever it comes: this one, another component of Clerk's, `setActive`.
 */
function SwitcherWithCallback({ onSwitch, ...props }: OrgSwitcherProps): ReactNode {
  useSwitch(onSwitch);
  return <OrganizationSwitcher {...props} />;
}

export const OrgSwitcher = Object.assign(SwitcherWithCallback, {
  OrganizationProfilePage: OrganizationSwitcher.OrganizationProfilePage,
  OrganizationProfileLink: OrganizationSwitcher.OrganizationProfileLink,
});

/** Calls `onSwitch` once for each change of this tab's organization, however it came about. */
export function useSwitch(onSwitch: OrgSwitcherProps["onSwitch"]): void {
  const active = useActive();
  const before = useRef<Who | null>(null);
  useEffect(() => {
    if (active === "unknown" || active === "turning") return;
    const last = before.current;
    before.current = active;
    if (last?.userId && last.userId === active.userId && last.orgId !== active.orgId) onSwitch?.(active, last);
  }, [active, onSwitch]);
}

export interface CreateOrganizationButtonProps extends Omit<ComponentProps<"button">, "name" | "onClick" | "type"> {
  /** Given, the organization is created at once; without it, Clerk's dialog asks for the name and for members. */
  readonly name?: string;
  /** A path, where `:id` and `:slug` are the new organization's. */
  readonly afterCreateOrganizationUrl?: string;
  readonly onError?: (error: unknown) => void;
}

/** A button for who may create an organization; nothing for others. The new organization becomes the active one. */
export function CreateOrganizationButton(given: CreateOrganizationButtonProps): ReactNode {
  const { name, afterCreateOrganizationUrl, onError, children = "New organization", ...props } = given;
  const clerk = useClerk();
  const { isLoaded, createOrganization, setActive } = useOrganizationList();
  const [isBusy, setBusy] = useState(false);
  if (!isLoaded || !clerk.user?.createOrganizationEnabled) return null;

  const create = async (wanted: string) => {
    setBusy(true);
    try {
      const organization = await createOrganization({ name: wanted });
      const redirectUrl = afterCreateOrganizationUrl
        ?.replace(/:id\b/g, organization.id)
        .replace(/:slug\b/g, organization.slug ?? organization.id);
      await setActive({ organization: organization.id, ...(redirectUrl === undefined ? {} : { redirectUrl }) });
    } catch (error) {
      if (onError === undefined) throw error;
      onError(error);
    } finally {
      setBusy(false);
    }
  };
  const open = () => clerk.openCreateOrganization(afterCreateOrganizationUrl ? { afterCreateOrganizationUrl } : {});
  return (
    <button
      {...props}
      type="button"
      disabled={isBusy || props.disabled}
      onClick={() => (name ? void create(name) : open())}
    >
      {children}
    </button>
  );
}
