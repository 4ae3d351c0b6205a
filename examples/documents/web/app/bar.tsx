import { Show, UserButton } from "@clerk/nextjs";
import Link from "next/link";

import { OrgSwitcher } from "../clerk-multitenant/OrgSwitcher";

/** The line at the top: the organization, and who is signed in. */
export function Bar() {
  return (
    <header className="bar">
      <Link className="brand" href="/">
        <img src="/icon.svg" alt="" width={26} height={26} />
        <span>Documents</span>
      </Link>
      <Show when="signed-in">
        <OrgSwitcher
          hidePersonal
          afterSelectOrganizationUrl="/orgs/:id"
          afterCreateOrganizationUrl="/orgs/:id"
          afterLeaveOrganizationUrl="/"
        />
        <span className="gap" />
        <span className="person">
          <UserButton />
        </span>
      </Show>
      <Show when="signed-out">
        <span className="gap" />
        <Link className="plain" href="/sign-in">
          Sign in
        </Link>
        <Link className="button" href="/sign-up">
          Sign up
        </Link>
      </Show>
    </header>
  );
}
