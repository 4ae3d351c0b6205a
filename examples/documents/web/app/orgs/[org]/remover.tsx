"use client";

import { useActionState } from "react";

import type { Outcome } from "./writer";

/** The button that deletes a document. */
export function Remover({ action }: { action: (before: Outcome) => Promise<Outcome> }) {
  const [{ problem }, send, isSending] = useActionState(action, {});
  return (
    <form action={send}>
      {problem !== undefined && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <button className="danger" disabled={isSending}>
        Delete this document
      </button>
    </form>
  );
}
