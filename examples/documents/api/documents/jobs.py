"""Work after the answer: counts a document's words. A job has no token, and names its tenant instead."""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy import select

from documents.database import Sessions
from documents.models import Document
from tenantry.context import tenant_context
from tenantry.errors import AccessDenied

log = logging.getLogger("documents")


async def count_words(sessions: Sessions, tenant_id: UUID, document_id: UUID) -> None:
    """Writes the number of words of the document as it is now; nothing when it is gone meanwhile.

    It acts for the app and for no user: the count is due also when the author has just left the organization.
    """
    with tenant_context(tenant_id, reason="count the words of a saved document"):
        try:
            async with sessions.begin() as session:
                # Locked, so that of two jobs the one that writes last has read last.
                query = select(Document).where(Document.id == document_id).with_for_update()
                if document := await session.scalar(query):
                    document.words = len(document.body.split())
        except AccessDenied as error:  # the organization was deleted before the job ran
            log.info("words of document %s are not counted: %s", document_id, error.code)
