"""The Next.js suite as Node.js runs it without Next.js: compiled to CommonJS, with stand-ins for Clerk and Next.js."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tenantry import roles
from tenantry.scaffold.nextjs_suite import Choice, render_suite

COMPILE_SECONDS = 120
_STANDINS = {
    # Who is signed in, as the caller of `signIn` says: Clerk's own verification is not what is looked at.
    "@clerk/nextjs/server.js": """
let session = { sessionClaims: null, getToken: async () => null };
exports.signIn = (sessionClaims, token = null) => { session = { sessionClaims, getToken: async () => token }; };
exports.auth = async () => session;
""",
    "next/headers.js": "exports.headers = async () => new Headers();\n",
}


def compile_suite(project: Path, entries: Sequence[str] = ("tenant",)) -> Path:
    """Compiles modules of the suite, on `pg`, in a project that has node_modules with pg and TypeScript.

    Returns the folder of the JavaScript, from where node_modules are found. Types are not checked.
    """
    for path, text in render_suite(Choice(), roles.DEFAULT).items():
        source = project / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
    settings = {
        "compilerOptions": {
            **{"target": "es2022", "module": "commonjs", "moduleResolution": "node10", "esModuleInterop": True},
            **{"noCheck": True, "skipLibCheck": True, "types": [], "rootDir": ".", "outDir": "compiled"},
        },
        "files": [f"clerk-multitenant/{name}.ts" for name in entries],
    }
    (project / "tsconfig.compiled.json").write_text(json.dumps(settings), encoding="utf-8")
    compiler = project / "node_modules/.bin/tsc"
    subprocess.run(
        [compiler, "-p", "tsconfig.compiled.json"],
        cwd=project,
        check=True,
        timeout=COMPILE_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    compiled = project / "compiled"
    (compiled / "package.json").write_text('{"type": "commonjs"}', encoding="utf-8")
    for name, text in _STANDINS.items():
        standin = compiled / "node_modules" / name
        standin.parent.mkdir(parents=True, exist_ok=True)
        standin.write_text(text, encoding="utf-8")
    return compiled
