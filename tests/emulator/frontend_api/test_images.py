"""Uploaded images: kept as data: URLs, or refused in Clerk's shape, whatever comes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.emulator.errors import ClerkError
from tenantry.emulator.frontend_api.images import read_upload

FORM = "multipart/form-data; boundary=x"
BASE64 = "application/octet-stream"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n and more", "png"),
        (b"\xff\xd8\xff and more", "jpeg"),
        (b"GIF89a and more", "gif"),
        (b"RIFF----WEBP and more", "webp"),
    ],
)
def test_the_type_of_an_image_is_read_off_its_first_bytes(content: bytes, kind: str) -> None:
    head = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.svg"\r\nContent-Type: image/svg+xml\r\n\r\n'
    )
    kept = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    assert read_upload(head + content + b"\r\n--x--\r\n", FORM) == kept
    assert read_upload(kept.encode(), BASE64) == kept


@given(
    raw=st.binary(max_size=200) | st.binary(max_size=60).map(lambda inner: b"--x\r\n" + inner + b"\r\n--x--\r\n"),
    content_type=st.sampled_from(
        [FORM, BASE64, "multipart/form-data", 'multipart/"; boundary', "multipart/x; boundary="]
    )
    | st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=40).map("multipart/".__add__),
)
@example(raw=b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n<svg/>\r\n--x--\r\n', content_type=FORM)
def test_whatever_is_no_image_is_refused(raw: bytes, content_type: str) -> None:
    with pytest.raises(ClerkError) as raised:
        read_upload(raw, content_type)
    assert raised.value.status == 400
