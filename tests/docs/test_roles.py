"""The page on roles: its Python runs, its file is one that can be applied, and its tables say what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from databases import APP, Database
from snippets import ROOT, blocks
from tenantry import roles

PAGE = "docs/roles.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under that first column; what is in backquotes, of each."""
    _, _, rest = (ROOT / PAGE).read_text().partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[",".join(re.findall("`(.*?)`", cell)) for cell in line.strip("|").split("|")] for line in lines]


def test_the_python_of_the_page_runs() -> None:
    [code] = blocks(PAGE, "python")
    exec(compile(code, PAGE, "exec"), {})


def test_the_file_of_the_page_gives_what_it_says() -> None:
    [file] = blocks(PAGE, "toml")
    role_map = roles.parse(file)
    assert role_map.permissions("org:member") == {"documents:read", "documents:create"}
    assert role_map.permissions("admin") == {"documents:read", "documents:create", "documents:*", "billing:*"}


def test_the_file_of_the_page_is_applied_by_the_commands_of_the_page(database: Database, tmp_path: Path) -> None:
    (tmp_path / "tenantry.toml").write_text(blocks(PAGE, "toml")[0])
    [commands] = blocks(PAGE, "console")
    exits = []
    for line in [*commands.splitlines(), "tenantry roles show"]:
        command = [str(Path(sys.executable).parent / "tenantry"), *line.split()[1:]]
        ran = subprocess.run([*command, "--database-url", database.dsn(APP)], cwd=tmp_path, capture_output=True)
        exits.append(ran.returncode)
    assert exits == [1, 0, 0], "the two differ, are made alike, and are alike"


@pytest.mark.parametrize(("pattern", "covered", "not_covered"), rows("pattern"))
def test_a_pattern_covers_what_the_table_says(pattern: str, covered: str, not_covered: str) -> None:
    examples = covered.split(",") if covered else ["documents:read", "a:b:c"]
    assert [text for text in examples if not roles.matches(pattern, text)] == []
    assert [text for text in not_covered.split(",") if roles.matches(pattern, text)] == []


def test_before_the_first_apply_roles_hold_what_the_table_says() -> None:
    stated = {role: {pattern} for named, pattern in rows("role") for role in named.split(",")}
    assert stated == dict(roles.DEFAULT.grants)
