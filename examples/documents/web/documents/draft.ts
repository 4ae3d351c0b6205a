/** What a person writes, read strictly. */

export interface Draft {
  readonly title: string;
  readonly body: string;
  readonly language: string;
}

/** A draft that cannot be kept; the message is for its writer. */
export class BadDraft extends Error {}

const TITLE_LENGTH = 200;
const BODY_LENGTH = 100_000;

/** A form's fields as they are, without the one character that PostgreSQL's text cannot hold. */
export function readForm(form: FormData): Draft {
  const text = (name: string): string => {
    const value = form.get(name);
    return typeof value === "string" ? value.replaceAll("\0", "").trim() : "";
  };
  return { title: text("title"), body: text("body"), language: text("language") || "en" };
}

/** Throws BadDraft. */
export function checkDraft({ title, body, language }: Draft): void {
  if (title === "" || title.length > TITLE_LENGTH) throw new BadDraft(`A title has 1 to ${TITLE_LENGTH} characters.`);
  if (body.length > BODY_LENGTH) throw new BadDraft(`A text has at most ${BODY_LENGTH} characters.`);
  if (!/^[a-z]{2}$/.test(language)) throw new BadDraft("There is no such language.");
}
