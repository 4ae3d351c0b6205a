import { TenantBoundary } from "../../../clerk-multitenant/TenantBoundary";

/** What is inside belongs to the organization that the path names, and is shown while it is the active one. */
export default async function OrganizationLayout({ children, params }: LayoutProps<"/orgs/[org]">) {
  const { org } = await params;
  return <TenantBoundary org={org}>{children}</TenantBoundary>;
}
