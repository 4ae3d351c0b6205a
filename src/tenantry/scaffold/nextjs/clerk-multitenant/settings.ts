/** The environment, under the names that the Python package reads; asked each time: nothing runs at import. */

import { TenancyError } from "./errors";

/** Where the database is; SQLAlchemy's form `postgresql+asyncpg://` is understood too. */
export function databaseUrl(): string {
  const url = value("DATABASE_URL");
  if (!url) {
    throw new TenancyError("configuration", {
      message: "No database is given.",
      hint: "Set DATABASE_URL to postgresql://user@host/name.",
    });
  }
  return url.replace(/^postgres(ql)?(\+\w+)?:/, "postgresql:");
}

/** The signing secrets of the webhook endpoint: several while one is being rotated. */
export function webhookSecrets(): string[] {
  return list(value("CLERK_WEBHOOK_SIGNING_SECRET") ?? value("CLERK_WEBHOOK_SECRET"));
}

/** The largest delivery that is read, in bytes. */
export function webhookMaxBytes(): number {
  const bytes = Number(value("TENANTRY_WEBHOOK_MAX_BYTES") ?? 1024 * 1024);
  if (!Number.isInteger(bytes) || bytes < 1024) {
    throw new TenancyError("configuration", { message: "TENANTRY_WEBHOOK_MAX_BYTES is no number of bytes from 1024." });
  }
  return bytes;
}

/** The origins of the app's pages, its own too: tokens made for others are refused. Without any, all pass. */
export function authorizedParties(): string[] {
  return list(value("CLERK_AUTHORIZED_PARTIES")).map((origin) => origin.toLowerCase().replace(/\/$/, ""));
}

/** Whether the mirror's denials are ignored: for the day it is wrong. */
export function believesTokensAlone(): boolean {
  return value("TENANTRY_MEMBERSHIP_SOURCE")?.toLowerCase() === "token";
}

/** Whether a user without an organization is a tenant too. */
export function allowsPersonalAccounts(): boolean {
  return value("TENANTRY_PERSONAL_ACCOUNTS")?.toLowerCase() === "allow";
}

/** Whether the app may log in as one whom no policy holds. */
export function allowsPrivilegedLogin(): boolean {
  return flag("TENANTRY_ALLOW_PRIVILEGED_LOGIN");
}

/** Whether private metadata in deliveries is kept. */
export function keepsPrivateMetadata(): boolean {
  return flag("TENANTRY_KEEP_PRIVATE_METADATA");
}

function value(name: string): string | undefined {
  return process.env[name]?.trim() || undefined;
}

function flag(name: string): boolean {
  return ["1", "true", "yes", "on"].includes(value(name)?.toLowerCase() ?? "");
}

function list(text: string | undefined): string[] {
  return Array.from(new Set(text?.split(/[,\s]+/).filter(Boolean)));
}
