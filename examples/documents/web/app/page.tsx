import { OrganizationList } from "@clerk/nextjs";
import { auth } from "@clerk/nextjs/server";
import Link from "next/link";

/** Why somebody was sent here from an organization's page, by the error's code. */
const REFUSALS: Readonly<Record<string, string>> = {
  not_a_member: "You are no longer a member of that organization. Its documents stay with it.",
  organization_deleted: "That organization was deleted.",
  user_banned: "Your account is blocked. Ask an administrator why.",
};

export default async function Home({ searchParams }: PageProps<"/">) {
  const { userId } = await auth();
  if (userId === null) return <Welcome />;
  const { refused } = await searchParams;
  const reason = typeof refused === "string" ? REFUSALS[refused] : undefined;
  return (
    <div className="choose">
      {reason !== undefined && <p className="problem" role="alert">{reason}</p>}
      <h1 className="title">Your organizations</h1>
      <OrganizationList hidePersonal afterSelectOrganizationUrl="/orgs/:id" afterCreateOrganizationUrl="/orgs/:id" />
    </div>
  );
}

function Welcome() {
  return (
    <div className="welcome">
      <h1 className="title">One library for each organization.</h1>
      <p className="lead">Documents that only their own organization can see, with members and roles from Clerk.</p>
      <p className="actions">
        <Link className="button" href="/sign-in">
          Sign in
        </Link>
        <Link className="button quiet" href="/sign-up">
          Create an account
        </Link>
      </p>
    </div>
  );
}
