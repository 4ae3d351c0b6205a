"use client";

import { useActionState } from "react";

import type { Language } from "../../../documents/library";

/** What somebody has typed, before it is checked. */
export interface Typed {
  readonly title: string;
  readonly body: string;
  readonly language: string;
}

/** What an action of this page answers where it does not lead on: why nothing was changed, and what was typed. */
export interface Outcome {
  readonly problem?: string;
  readonly typed?: Typed;
}

interface Props {
  readonly summary: string;
  readonly save: string;
  readonly languages: readonly Language[];
  readonly before?: Typed;
  readonly action: (before: Outcome, form: FormData) => Promise<Outcome>;
}

const EMPTY: Typed = { title: "", body: "", language: "en" };

/** The form for a document, folded. */
export function Writer({ summary, save, languages, before = EMPTY, action }: Props) {
  const [{ problem, typed = before }, send, isSending] = useActionState(action, {});
  return (
    <details className="card composer">
      <summary>{summary}</summary>
      <form action={send}>
        {problem !== undefined && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <label className="field">
          Title
          <input name="title" defaultValue={typed.title} required maxLength={200} />
        </label>
        <label className="field">
          Text
          <textarea name="body" defaultValue={typed.body} rows={8} maxLength={100_000} />
        </label>
        <label className="field">
          Language
          <select key={typed.language} name="language" defaultValue={typed.language}>
            {languages.map(({ code, name }) => (
              <option key={code} value={code}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <button className="primary" disabled={isSending}>
          {save}
        </button>
      </form>
    </details>
  );
}
