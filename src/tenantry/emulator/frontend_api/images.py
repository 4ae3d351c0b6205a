"""Uploaded images, kept and shown as data: URLs: nothing here may need a network or a folder."""

from __future__ import annotations

import base64
import binascii
from email import policy
from email.parser import BytesParser

from tenantry.emulator import errors
from tenantry.emulator.errors import ClerkError

_LIMIT = 64 * 1024  # bytes: it stands in every answer about its organization, and in webhooks
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}


def read_upload(raw: bytes, content_type: str) -> str:
    """The image of a form's `file`, or of a body in base64, as a data: URL. ClerkError when there is none of use."""
    content = _read_file(raw, content_type) if "multipart" in content_type else _read_base64(raw)
    if not content:
        raise errors.refused("form_param_missing", "There was no image file present in the request.", status=400)
    if len(content) > _LIMIT:
        message = f"The image being uploaded is more than {_LIMIT // 1024} kB. Please choose a smaller one."
        raise ClerkError(413, "image_too_large", message)
    return f"data:image/{_kind(content)};base64,{base64.b64encode(content).decode()}"


def _read_file(raw: bytes, content_type: str) -> bytes:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", errors="replace")
    message = BytesParser(policy=policy.HTTP).parsebytes(head + raw)
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            return content if isinstance(content, bytes) else b""
    return b""


def _read_base64(raw: bytes) -> bytes:
    """Also when it is a data: URL already."""
    try:
        return base64.b64decode(raw.rpartition(b",")[2].strip(), validate=True)
    except binascii.Error:
        return b""


def _kind(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    for signature, kind in _SIGNATURES.items():
        if content.startswith(signature):
            return kind
    message = "Images of this type are not supported. Please upload a PNG, JPEG, GIF or WEBP image."
    raise errors.refused("request_body_invalid", message, status=400)
