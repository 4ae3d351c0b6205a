"""Every variant of the Next.js suite is strict TypeScript and lints, with each set of versions that is supported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from docs.nextjs_app import API, DATABASE, read_section, write_files
from scaffold.node import SETS, Failed, furnish, run
from tenantry import roles
from tenantry.scaffold import nextjs_generated, nextjs_suite
from tenantry.scaffold.nextjs_suite import Choice, render_suite

TREE = Path(nextjs_suite.__file__).with_name("nextjs")
CHOICES = {
    "pg": Choice("pg"),
    "drizzle": Choice("drizzle"),
    "prisma": Choice("prisma"),
    "slug": Choice(by="slug"),
    "api": Choice(api="http://localhost:8000"),
}
OF_AN_APP = """
[roles."org:member"]
permissions = ["documents:read", "*:read"]
[roles."org:admin"]
permissions = ["documents:*", "comments:create"]
"""
SCHEMA = """
generator client {
  provider = "prisma-client"
  output   = "generated/prisma"
}
datasource db {
  provider = "postgresql"
}
model Document {
  id    Int    @id
  title String
}
"""
RULES = {"@next/next/no-html-link-for-pages": "off"}  # it looks for the Pages Router
LINT = {
    "next16": """
import next from "eslint-config-next/core-web-vitals";
import typescript from "eslint-config-next/typescript";
import strict from "typescript-eslint";
export default [...next, ...typescript, ...strict.configs.strict, { ignores: ["**/generated/**"] }, RULES];
""",
    "next15": """
import { FlatCompat } from "@eslint/eslintrc";
const compat = new FlatCompat({ baseDirectory: import.meta.dirname });
export default [...compat.extends("next/core-web-vitals", "next/typescript"), { ignores: ["**/generated/**"] }, RULES];
""",
}
OLD_LINT = {
    "root": True,
    "extends": ["next/core-web-vitals"],
    "ignorePatterns": ["generated"],
    "rules": RULES,
}

pytestmark = pytest.mark.requires("node", "npm")


@pytest.fixture(scope="module", params=SETS)
def laid_out(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a set's packages and a folder for each variant, as an app would have it: with the page's files."""
    name: str = request.param
    project = furnish(tmp_path_factory.mktemp(name) / name, name)
    shutil.copy(TREE / "tsconfig.json", project)
    client = generate_prisma(tmp_path_factory.mktemp("prisma"))
    for variant, choice in CHOICES.items():
        for path, text in render_suite(choice, roles.parse(OF_AN_APP)).items():
            target = project / variant / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    for variant, title in (("pg", DATABASE), ("api", API)):
        write_files(project / variant, read_section(title).files)
    shutil.copytree(client, project / "prisma" / "generated" / "prisma")
    config = LINT.get(next_of(name))
    if config is not None:
        (project / "eslint.config.mjs").write_text(config.replace("RULES", json.dumps({"rules": RULES})))
    else:
        (project / ".eslintrc.json").write_text(json.dumps(OLD_LINT))
    return project


def next_of(name: str) -> str:
    """The set's Next.js; behind a hyphen stands another version of Clerk than the usual one."""
    return name.partition("-")[0]


def generate_prisma(folder: Path) -> Path:
    """The client that Prisma generates from a schema of one table."""
    furnish(folder / "app", "next16")
    (folder / "app" / "schema.prisma").write_text(SCHEMA)
    run(folder / "app", "prisma", "generate", "--schema", "schema.prisma")
    return folder / "app" / "generated" / "prisma"


def test_every_variant_is_strict_typescript(laid_out: Path) -> None:
    assert run(laid_out, "tsc", "--noEmit", "--pretty", "false") == ""


@pytest.mark.parametrize("target", ["ES2017", None])
def test_every_variant_compiles_for_the_target_that_next_sets(laid_out: Path, target: str | None) -> None:
    """Next.js writes ES2017 into a new tsconfig.json; older releases named none."""
    config = json.loads((laid_out / "tsconfig.json").read_text())
    config["compilerOptions"] |= {"target": target}
    if target is None:
        del config["compilerOptions"]["target"]
    (laid_out / "tsconfig.default.json").write_text(json.dumps(config))
    assert run(laid_out, "tsc", "--project", "tsconfig.default.json", "--pretty", "false") == ""


def test_every_variant_lints_without_a_warning(laid_out: Path) -> None:
    endings = () if next_of(laid_out.name) in LINT else ("--ext", ".ts,.tsx")
    assert run(laid_out, "eslint", "--max-warnings", "0", *endings, *CHOICES).strip() == ""


def test_the_templates_compile_as_they_stand(tmp_path: Path) -> None:
    project = furnish(tmp_path / "tree", "next16")
    shutil.copytree(TREE, project, dirs_exist_ok=True)
    shutil.copytree(generate_prisma(tmp_path / "prisma"), project / "generated" / "prisma")
    assert run(project, "tsc", "--noEmit", "--pretty", "false") == ""


def test_a_type_error_would_be_found(laid_out: Path) -> None:
    wrong = laid_out / "pg" / "wrong.ts"
    wrong.write_text(
        'import { can } from "./clerk-multitenant/tenant";\n\nexport const may: boolean = can("documents:read");\n'
    )
    try:
        with pytest.raises(Failed, match=r"pg/wrong.ts\(3,14\): error TS2322"):
            run(laid_out, "tsc", "--noEmit", "--pretty", "false")
    finally:
        wrong.unlink()


@pytest.mark.parametrize("name", CHOICES)
def test_no_variant_shows_a_marker_or_another_variant(name: str) -> None:
    texts = render_suite(CHOICES[name], roles.DEFAULT)
    assert not [path for path in texts if re.search(r"\.(drizzle|prisma|api)\.", path)]
    assert not [path for path, text in texts.items() if re.search(r"tenantry:(if|end)\b", text)]


def test_the_permissions_are_those_of_the_roles_file() -> None:
    text = render_suite(Choice(), roles.parse(OF_AN_APP))["clerk-multitenant/permissions.ts"]
    assert 'export const roles = ["org:admin", "org:member"] as const;' in text
    assert 'export const permissions = ["*:read", "comments:create", "documents:*", "documents:read"] as const;' in text


def test_a_long_list_is_laid_out_a_line_each() -> None:
    many = roles.parse(
        '[roles."org:admin"]\npermissions = [' + ", ".join(f'"things{n}:create"' for n in range(9)) + "]"
    )
    text = render_suite(Choice(), many)["clerk-multitenant/permissions.ts"]
    assert 'export const permissions = [\n  "things0:create",\n  "things1:create",\n' in text


def test_the_schema_is_what_the_command_prints() -> None:
    from tenantry import schema

    for orm, transactions in (("pg", True), ("drizzle", False), ("prisma", False)):
        text = nextjs_generated.write_sync(orm)  # type: ignore[arg-type]
        head, script = text[: -len(schema.sql(transactions=transactions))], schema.sql(transactions=transactions)
        assert text == head + script
        assert all(line.startswith("--") or not line for line in head.splitlines())


def test_the_proxy_says_what_it_cannot_do() -> None:
    assert "does not isolate" in render_suite(Choice(), roles.DEFAULT)["proxy.ts"]
