/** No page of a tenant is rendered at build time, for everybody. Reads what `next build` wrote; skipped without it. */

import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, it } from "vitest";

/** The paths that belong to tenants: add those of yours that are not below /orgs. */
const OF_TENANTS = [/^\/orgs\//];

const manifest = resolve(".next/prerender-manifest.json");

it.skipIf(!existsSync(manifest))("renders tenants' pages for each request", () => {
  const { routes, dynamicRoutes } = JSON.parse(readFileSync(manifest, "utf-8"));
  const written = Object.entries<{ renderingMode?: string }>({ ...routes, ...dynamicRoutes });
  const whole = written.filter(([, { renderingMode }]) => renderingMode !== "PARTIALLY_STATIC"); // a shell without data
  const paths = whole.map(([path]) => path);
  expect(paths.filter((path) => OF_TENANTS.some((pattern) => pattern.test(path)))).toEqual([]);
});
