import Link from "next/link";
import { notFound } from "next/navigation";

import { can, has } from "../../../../../clerk-multitenant/tenant";
import { findDocument, listLanguages } from "../../../../../documents/library";
import { listMembers, nameOf } from "../../../../../documents/members";
import { visit } from "../../../../../documents/visit";
import { edit, remove } from "../../actions";
import { Facts } from "../../facts";
import { Remover } from "../../remover";
import { Writer } from "../../writer";

export const metadata = { title: "Document" };

export default async function DocumentPage({ params }: PageProps<"/orgs/[org]/documents/[id]">) {
  const { org, id } = await params;
  // Editing asks a permission given in Clerk's dashboard, deleting the app's own map in tenantry.toml.
  const { tenant, document, languages, members, mayEdit, mayDelete } = await visit(org, async (db, tenant) => ({
    tenant,
    document: await findDocument(db, id),
    languages: await listLanguages(db),
    members: await listMembers(db),
    mayEdit: await has({ permission: "org:documents:update" }),
    mayDelete: await can("documents:delete"),
  }));
  if (document === null) notFound();
  return (
    <article className="reading">
      <Link className="back" href={`/orgs/${org}`}>
        All documents
      </Link>
      <h1 className="title">{document.title}</h1>
      <Facts document={document} author={nameOf(document.author, members, tenant.userId)} />
      <div className="text">{document.body}</div>
      <div className="tools">
        {mayEdit && (
          <Writer summary="Edit" save="Save changes" languages={languages} before={document} action={edit.bind(null, org, id)} />
        )}
        {mayDelete && <Remover action={remove.bind(null, org, id)} />}
      </div>
    </article>
  );
}
