import { withTenant } from "../../../../clerk-multitenant/tenant";
import { listDocuments } from "../../../../documents/library";

export const dynamic = "force-static"; // wrong on purpose: what is rendered for one would be given to all

export default async function Page() {
  const documents = await withTenant((db) => listDocuments(db));
  return <ul>{documents.map(({ id, title }) => <li key={id}>{title}</li>)}</ul>;
}
