import Link from "next/link";

import { can } from "../../../clerk-multitenant/tenant";
import { listDocuments, listLanguages } from "../../../documents/library";
import { listMembers, nameOf } from "../../../documents/members";
import { countLibrary } from "../../../documents/statistics";
import { visit } from "../../../documents/visit";
import { create } from "./actions";
import { Facts } from "./facts";
import { Heading } from "./heading";
import { Writer } from "./writer";

export const metadata = { title: "Documents" };

export default async function LibraryPage({ params, searchParams }: PageProps<"/orgs/[org]">) {
  const { org } = await params;
  const { search } = await searchParams;
  const wanted = typeof search === "string" ? search.trim() : "";
  const { tenant, documents, languages, members, mayCreate } = await visit(org, async (db, tenant) => ({
    tenant,
    documents: await listDocuments(db, wanted),
    languages: await listLanguages(db),
    members: await listMembers(db),
    mayCreate: await can("documents:create"),
  }));
  const size = await countLibrary(tenant);
  return (
    <>
      <Heading org={org} tenant={tenant} tab="Documents" />
      <div className="tools">
        <p className="hint">
          {size.documents} {size.documents === 1 ? "document" : "documents"}, {size.words} {size.words === 1 ? "word" : "words"}
        </p>
        <form className="search" role="search">
          <input type="search" name="search" defaultValue={wanted} placeholder="Search titles" aria-label="Search titles" maxLength={200} />
        </form>
      </div>
      {mayCreate && (
        <Writer summary="Write a new document" save="Create document" languages={languages} action={create.bind(null, org)} />
      )}
      {documents.length === 0 ? (
        <p className="empty">{wanted === "" ? "Nothing here yet. What you write, only this organization will see." : "No title holds that."}</p>
      ) : (
        <ul className="card list">
          {documents.map((document) => (
            <li key={document.id}>
              <Link href={`/orgs/${org}/documents/${document.id}`}>{document.title}</Link>
              {document.body !== "" && <p className="excerpt">{document.body.slice(0, 220)}</p>}
              <Facts document={document} author={nameOf(document.author, members, tenant.userId)} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
