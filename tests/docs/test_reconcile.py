"""The page on backfill and drift names every option of the command and every cause of a drift."""

from __future__ import annotations

import re
from importlib import resources

import typer.main

from snippets import ROOT
from tenantry.cli import app

PAGE = (ROOT / "docs" / "reconcile.md").read_text(encoding="utf-8")


def test_the_page_names_every_option() -> None:
    command = typer.main.get_group(app).commands["reconcile"]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    told = set(re.findall(r"(--[a-z]+(?:-[a-z]+)*)", re.sub(r"`tenantry events [^`]*`", "", PAGE)))
    assert told == options - {"--help"}


def test_the_page_names_every_cause() -> None:
    source = resources.files("tenantry").joinpath("sql", "functions", "explain_drift_v1.sql").read_text()
    causes = set(re.findall(r"(?:then|else) '([a-z ]+)'", source))
    assert causes == set(re.findall(r"^\| `([a-z ]+)` \| (?:the|an|it)", PAGE, re.MULTILINE))
    assert len(causes) == 5
