"""Lines go into Python files where the syntax tree shows that it is safe; the rest of a file stays as it is."""

from __future__ import annotations

import ast

import pytest

from tenantry.scaffold.python_source import find_app, scope_sessions, wire_app

LINE = "from shop.tenancy import tenancy"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from fastapi import FastAPI\n\napp = FastAPI()\n",
            f"from fastapi import FastAPI\n{LINE}\n\napp = FastAPI(lifespan=tenancy.lifespan)\ntenancy.install(app)\n",
        ),
        (
            'import fastapi\n\napi: fastapi.FastAPI = fastapi.FastAPI(title="Käse")  # ours\nother = 1',
            f'import fastapi\n{LINE}\n\napi: fastapi.FastAPI = fastapi.FastAPI(lifespan=tenancy.lifespan, title="Käse")'
            "  # ours\ntenancy.install(api)\nother = 1",
        ),
        (
            '"""A."""\nfrom fastapi import (\n    FastAPI,\n)\n\napp = FastAPI(\n    title="A",\n    debug=True,\n)\n',
            f'"""A."""\nfrom fastapi import (\n    FastAPI,\n)\n{LINE}\n\napp = FastAPI(\n    lifespan=tenancy.lifespan'
            ',\n    title="A",\n    debug=True,\n)\ntenancy.install(app)\n',
        ),
    ],
)
def test_an_app_is_wired(before: str, after: str) -> None:
    assert wire_app(before, LINE) == after


@pytest.mark.parametrize(
    "source",
    [
        "from fastapi import FastAPI\napp = FastAPI(lifespan=mine)\n",
        "from fastapi import FastAPI\napp = FastAPI(on_startup=[mine])\n",
        "from fastapi import FastAPI\napp = FastAPI(**options)\n",
        'from fastapi import FastAPI\napp = FastAPI()\n@app.on_event("startup")\ndef start(): ...\n',
        "from fastapi import FastAPI\napp = FastAPI()\nadmin = FastAPI()\n",
        "from fastapi import FastAPI\ndef create():\n    app = FastAPI()\n    return app\n",
        "this is no python",
    ],
)
def test_an_app_with_start_up_code_or_made_otherwise_is_left(source: str) -> None:
    assert wire_app(source, LINE) is None


def test_sessions_are_scoped() -> None:
    source = (
        "from db import async_sessionmaker\nSessions = async_sessionmaker[A](\n    engine,\n    a=1,\n)\nother = 1\n"
    )
    scoped = scope_sessions(source, LINE) or ""
    assert "Sessions = tenancy.scoped(async_sessionmaker[A](\n    engine,\n    a=1,\n))\nother = 1\n" in scoped
    ast.parse(scoped)
    assert scope_sessions("def make():\n    return sessionmaker(engine)\n", LINE) is None


def test_the_app_is_found_by_its_name() -> None:
    assert find_app("app = FastAPI()\n") == "app"
    assert find_app("api = fastapi.FastAPI()\n") == "api"
    assert find_app("app = Flask()\n") is None
