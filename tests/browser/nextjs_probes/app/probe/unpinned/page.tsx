import { TenantBoundary } from "../../../clerk-multitenant/TenantBoundary";
import { withTenant } from "../../../clerk-multitenant/tenant";
import { createDocument, listDocuments } from "../../../documents/library";

/** A page whose path names no organization: it is the active one's. */
export default async function Page() {
  const documents = await withTenant((db) => listDocuments(db));

  async function add(form: FormData): Promise<void> {
    "use server";
    const title = String(form.get("title"));
    await withTenant((db) => createDocument(db, { title, body: "", language: "en" }));
  }

  return (
    <TenantBoundary>
      <ul className="list">
        {documents.map(({ id, title }) => (
          <li key={id}>
            <a href={`#${id}`}>{title}</a>
          </li>
        ))}
      </ul>
      <form action={add}>
        <input name="title" aria-label="Title" />
        <button>Add</button>
      </form>
    </TenantBoundary>
  );
}
