/** The organization's people, read from the mirror that Clerk's webhooks keep. Only its own members are visible. */

import type { Db } from "../clerk-multitenant/database";

/** `role` carries `org:`. */
export interface Member {
  readonly userId: string;
  readonly name: string;
  readonly email: string | null;
  readonly role: string;
  readonly since: Date | null;
}

/** In the order they joined. */
export async function listMembers(db: Db): Promise<Member[]> {
  const { rows } = await db.query<Member>(
    `select u.id "userId", m.role, u.primary_email email, m.created_at since,
            coalesce(nullif(concat_ws(' ', u.first_name, u.last_name), ''), u.primary_email, u.id) "name"
     from tenantry.members m join tenantry.users u on u.id = m.user_id
     order by m.created_at, m.user_id`,
  );
  return rows;
}

/** A member's name; the reader's own where the mirror has not seen them yet; else somebody who has left. */
export function nameOf(userId: string, members: readonly Member[], ownId: string | null): string {
  const known = members.find((member) => member.userId === userId);
  return known?.name ?? (userId === ownId ? "You" : "A former member");
}

/** `Admin` for `org:admin`. */
export function nameOfRole(role: string | null): string {
  const name = (role ?? "").replace(/^org:/, "").replaceAll("_", " ");
  return name.charAt(0).toUpperCase() + name.slice(1);
}
