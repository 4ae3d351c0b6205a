import { listMembers, nameOfRole } from "../../../../documents/members";
import { visit } from "../../../../documents/visit";
import { Heading } from "../heading";

export const metadata = { title: "Members" };

export default async function MembersPage({ params }: PageProps<"/orgs/[org]/members">) {
  const { org } = await params;
  const { tenant, members } = await visit(org, async (db, tenant) => ({
    tenant,
    members: await listMembers(db),
  }));
  return (
    <>
      <Heading org={org} tenant={tenant} tab="Members" />
      {members.length === 0 ? (
        <p className="empty">They appear with Clerk's next webhook. You can already work.</p>
      ) : (
        <ul className="card list people">
          {members.map((member) => (
            <li key={member.userId}>
              <span className="name">
                {member.name}
                {member.email !== null && member.email !== member.name && <small>{member.email}</small>}
              </span>
              <span className="role">{nameOfRole(member.role)}</span>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
