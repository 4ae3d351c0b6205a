import Link from "next/link";

import type { Tenant } from "../../../clerk-multitenant/tenant";
import { nameOfRole } from "../../../documents/members";

interface Props {
  readonly org: string;
  readonly tenant: Tenant;
  readonly tab: "Documents" | "Members";
}

/** Whose page it is, and the way to the other one. */
export function Heading({ org, tenant, tab }: Props) {
  const tabs = [
    { label: "Documents", href: `/orgs/${org}` },
    { label: "Members", href: `/orgs/${org}/members` },
  ] as const;
  return (
    <>
      <p className="where">
        {tenant.name ?? "Your organization"} <span className="pill">{nameOfRole(tenant.role)}</span>
      </p>
      <h1 className="title">{tab}</h1>
      <nav className="tabs" aria-label="Organization">
        {tabs.map(({ label, href }) => (
          <Link key={label} href={href} aria-current={label === tab ? "page" : undefined}>
            {label}
          </Link>
        ))}
      </nav>
    </>
  );
}
