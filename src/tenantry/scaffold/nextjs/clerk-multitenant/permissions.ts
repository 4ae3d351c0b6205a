/**
 * The roles and permissions of this app, as its `tenantry.toml` has them: written by `tenantry init nextjs`, which
 * writes them again when the map has changed. The database decides; these names are for the compiler and for you.
 */

// tenantry.toml: roles
/** Clerk's roles that the map knows. */
export const roles = ["org:admin", "org:basic_member", "org:member"] as const;
// tenantry.toml: permissions
/** What the map grants to any of them; `*` stands for a whole segment, at the end for one or more. */
export const permissions = ["*", "*:read"] as const;
// tenantry.toml: end

export type Role = (typeof roles)[number];

/** A permission of the app's own map, for `can()`. */
export type Permission = Spelled<(typeof permissions)[number]>;

/** A permission of Clerk, for `has()`: `org:documents:delete`. */
export type ClerkPermission = `org:${string}:${string}`;

/** `documents:*` is any text that begins with `documents:`; a `*` alone names nothing that could be told from a slip. */
type Spelled<Pattern extends string> = [Exclude<Pattern, "*">] extends [never] ? string : Open<Exclude<Pattern, "*">>;
type Open<Pattern extends string> = Pattern extends `${infer Before}*${infer After}`
  ? `${Before}${string}${Open<After>}`
  : Pattern;
