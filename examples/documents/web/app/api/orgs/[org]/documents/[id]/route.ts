import { toResponse } from "../../../../../../clerk-multitenant/errors";
import { has, requirePermission, withTenant } from "../../../../../../clerk-multitenant/tenant";
import { BadDraft, checkDraft, readForm } from "../../../../../../documents/draft";
import { editDocument, findDocument } from "../../../../../../documents/library";

type Context = RouteContext<"/api/orgs/[org]/documents/[id]">;

const NOT_FOUND = { detail: "There is no such document." };

/** One document as JSON, and whether who asks may edit it. */
export async function GET(_request: Request, context: Context): Promise<Response> {
  const { org, id } = await context.params;
  return answer(() =>
    withTenant(
      async (db) => {
        const document = await findDocument(db, id);
        if (document === null) return Response.json(NOT_FOUND, { status: 404 });
        return Response.json({ ...document, mayEdit: await has({ permission: "org:documents:update" }) });
      },
      { expected: org, readOnly: true },
    ),
  );
}

/** Replaces title, text and language by those of a form. */
export async function PUT(request: Request, context: Context): Promise<Response> {
  const { org, id } = await context.params;
  return answer(async () => {
    const draft = readForm(await request.formData());
    checkDraft(draft);
    return withTenant(
      async (db) => {
        await requirePermission("org:documents:update");
        const isEdited = await editDocument(db, id, draft);
        return isEdited ? new Response(null, { status: 204 }) : Response.json(NOT_FOUND, { status: 404 });
      },
      { expected: org },
    );
  });
}

async function answer(work: () => Promise<Response>): Promise<Response> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof BadDraft) return Response.json({ detail: error.message }, { status: 422 });
    return toResponse(error);
  }
}
