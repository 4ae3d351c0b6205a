import type { Document } from "../../../documents/library";

const DATE = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeZone: "UTC" });

/** The line below a title. */
export function Facts({ document, author }: { document: Document; author: string }) {
  return (
    <p className="facts">
      <span>{author}</span>
      <time dateTime={document.createdAt.toISOString()}>{DATE.format(document.createdAt)}</time>
      {document.words !== null && <span>{document.words === 1 ? "1 word" : `${document.words} words`}</span>}
    </p>
  );
}
