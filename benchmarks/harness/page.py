"""Puts what was measured into docs/performance.md, between the two marks of its question."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def write(question: str, answer: str, page: Path = PAGE) -> None:
    """Replaces the question's part of the page. Raises LookupError where the page has no marks for it."""
    text = page.read_text(encoding="utf-8")
    opening, closing = f"<!-- {question}: written by make bench ARGS=--write -->", f"<!-- end of {question} -->"
    before, found, rest = text.partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended:
        raise LookupError(f"{page.name} has no place for {question}: {opening} … {closing}")
    page.write_text(f"{before}{opening}\n\n{answer}\n\n{closing}{after}", encoding="utf-8")
