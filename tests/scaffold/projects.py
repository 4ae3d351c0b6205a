"""Small Next.js projects on disk, as their owners might have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LATEST = {"next": "16.4.5", "@clerk/nextjs": "7.9.17", "react": "19.2.9"}
LAYOUT = "export default function Layout() {\n  return null;\n}\n"


def make_project(
    root: Path,
    packages: dict[str, str] | None = None,
    *,
    source: str = ".",
    files: dict[str, str] | None = None,
    typescript: bool = True,
    **package: Any,
) -> Path:
    """An App Router project with these packages; `files` are paths and texts beside."""
    texts = {
        "package.json": json.dumps(
            {"name": "app", "dependencies": LATEST if packages is None else packages, **package}
        ),
        f"{source}/app/layout.tsx": LAYOUT,
        **({"tsconfig.json": "{}"} if typescript else {}),
        **(files or {}),
    }
    for path, text in texts.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def install(root: Path, name: str, version: str) -> None:
    """A package in node_modules, as far as its version goes."""
    folder = root / "node_modules" / name
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))
