"""Pictures for whoever uploaded none: initials, drawn, since nothing here may need a network."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote
from zlib import crc32


@lru_cache(4096)
def draw(name: str) -> str:
    """A data: URL of an SVG: at most two initials, and a colour that is always the same for the name."""
    initials = "".join(word[0] for word in re.findall(r"[^\W_]+", name)[:2]).upper()
    picture = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'>"
        f"<rect width='40' height='40' fill='hsl({crc32(name.encode(errors='replace')) % 360},42%,46%)'/>"
        "<text x='20' y='26' text-anchor='middle' font-family='sans-serif' font-size='16' fill='white'>"
        f"{initials}</text></svg>"
    )
    return "data:image/svg+xml," + quote(picture, safe="='/:,()")
