"""The page of settings names every variable that is read, and no other."""

from __future__ import annotations

import re

from snippets import ROOT
from tenantry.settings import _READERS


def test_the_page_of_settings_is_complete() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(\w+)`)?", page, re.MULTILINE)
    told = dict(rows)
    read = {variable: name for name, reader in _READERS.items() for variable in reader.variables}
    assert told.keys() == read.keys()
    assert {variable: name for variable, name in told.items() if name}.items() <= read.items()
