"""A fresh Next.js app with Clerk, and what the page on Next.js does to it, step by step."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scaffold.node import furnish, installed
from snippets import ROOT

PAGE = "docs/nextjs.md"
PACKAGES = "next16"
SHARED = ("app/page.tsx", "app/sign-in/[[...sign-in]]/page.tsx", "app/orgs/[org]/layout.tsx")  # by both shapes
DATABASE, API = "From an existing app to isolated rows", "In front of a FastAPI"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r"^// (\S+\.tsx?)\n")

CONFIG = "const config: NextConfig = {"
ROOTED = "turbopack: { root: __dirname },"
FRESH = {
    "next.config.ts": """import type { NextConfig } from "next";

const config: NextConfig = {
};

export default config;
""",
    "app/layout.tsx": """import { ClerkProvider } from "@clerk/nextjs";
import type { ReactNode } from "react";

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <ClerkProvider>{children}</ClerkProvider>
      </body>
    </html>
  );
}
""",
    "app/page.tsx": """export default function Home() {
  return <h1>Home</h1>;
}
""",
    "tsconfig.json": json.dumps(
        {
            "compilerOptions": {
                "target": "ES2017",  # as Next.js writes it
                "lib": ["dom", "dom.iterable", "esnext"],
                "module": "esnext",
                "moduleResolution": "bundler",
                "jsx": "react-jsx",
                "strict": True,
                "noEmit": True,
                "allowJs": True,
                "incremental": True,
                "esModuleInterop": True,
                "isolatedModules": True,
                "resolveJsonModule": True,
                "skipLibCheck": True,
                "plugins": [{"name": "next"}],
            },
            "include": ["next-env.d.ts", ".next/types/**/*.ts", ".next/dev/types/**/*.ts", "**/*.ts", "**/*.tsx"],
            "exclude": ["node_modules"],
        }
    ),
}
INSTALLED = ("next", "react", "react-dom", "@clerk/nextjs", "typescript", "@types/node", "@types/react")


@dataclass(frozen=True)
class Section:
    """What the page says of one shape."""

    commands: list[str]
    files: dict[str, str]  # by path
    sql: str


def read_section(title: str) -> Section:
    """What both shapes share is written down once."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    own = _blocks(text.partition(f"\n## {title}\n")[2].partition("\n## ")[0])
    first = _blocks(text.partition(f"\n## {DATABASE}\n")[2].partition("\n## ")[0])
    [commands] = [code for language, code in own if language == "console"]
    files = _files(own)
    files = {path: _files(first)[path] for path in SHARED} | files
    return Section(commands.splitlines(), files, "".join(code for language, code in own if language == "sql"))


def make_fresh(folder: Path) -> Path:
    """As `create-next-app` leaves it, with Clerk. All packages of the set are at hand, and few are asked for yet."""
    furnish(folder, PACKAGES, copy=True)
    known = _versions()
    manifest = {"name": "fresh", "private": True, "dependencies": {name: known[name] for name in INSTALLED}}
    (folder / "package.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    write_files(folder, FRESH)
    return folder


def write_files(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def follow(folder: Path, section: Section, run_sql: Callable[[str], None], **replaced: str) -> None:
    """Every command but the last, which starts the app; then the files. `replaced` are words of the commands."""
    for command in section.commands[:-1]:
        words = [replaced.get(_key(word), word) for word in command.split()]
        match words:
            case ["pip", "install", "tenantry"]:
                pass  # this very package
            case ["tenantry", *arguments]:
                _call([sys.executable, "-m", "tenantry", *arguments], folder)
            case ["npm", "install", *names]:
                _add(folder, [name for name in names if not name.startswith("--")])
            case ["psql", _, "--file", _]:
                run_sql(section.sql)
            case _:
                raise AssertionError(f"a test does not know how to follow: {command}")
    assert section.commands[-1] == "npm run dev"
    write_files(folder, section.files)
    config = folder / "next.config.ts"  # held to its folder: Next.js looks for lock files in all those above
    config.write_text(config.read_text(encoding="utf-8").replace(CONFIG, f"{CONFIG}\n  {ROOTED}"), encoding="utf-8")


def _key(word: str) -> str:
    return {"postgresql://owner@localhost/app": "owner_url", "http://localhost:8000": "api"}.get(word, word)


def _call(command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _add(folder: Path, names: list[str]) -> None:
    """What `npm install` does to package.json; the package is there already."""
    manifest = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    manifest["dependencies"] |= {name: _versions()[name] for name in names}
    (folder / "package.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = json.loads((installed(PACKAGES) / "package.json").read_text(encoding="utf-8"))
    return {**found["dependencies"], **found["devDependencies"]}


def _blocks(text: str) -> list[tuple[str, str]]:
    return _BLOCK.findall(text)


def _files(blocks: list[tuple[str, str]]) -> dict[str, str]:
    placed = [(_PLACE.match(code), code) for language, code in blocks if language in ("ts", "tsx")]
    return {found[1]: code for found, code in placed if found}
