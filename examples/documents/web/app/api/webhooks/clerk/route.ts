/**
 * Where Clerk sends its webhooks; set the same path in its dashboard.
 *
 * It runs on Node.js, which is Next.js's default: the edge has no connection to PostgreSQL. That is not stated by
 * `export const runtime`, which an app with `cacheComponents` may not have.
 */

import { receiveWebhook } from "../../../../clerk-multitenant/webhook-handler";

export const POST = receiveWebhook;
