"use client";

import type { listForWhomever } from "./action";

export function Caller({ list }: { list: typeof listForWhomever }) {
  return <button onClick={() => void list({ tenantId: "", userId: null, role: null })}>List</button>;
}
