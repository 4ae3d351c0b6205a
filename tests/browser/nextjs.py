"""A Next.js app for tests: built once a run, then served beside the emulator and the FastAPI example."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import pytest

from browser.stage import Person, Stage
from scaffold.node import environment, furnish, run
from tenantry.emulator.instance import derive_instance

WEB = Path(__file__).parents[2] / "examples" / "documents" / "web"
PACKAGES = "next16"
MADE_HERE = shutil.ignore_patterns("node_modules", ".next", "next-env.d.ts", "*.tsbuildinfo", ".env*.local")
BUILD_SECONDS = 400
START_SECONDS = 60
# Addresses in a build, which `next build` writes down with the rewrites; the real ones come when it is served.
_NOWHERE = {"TENANTRY_EMULATOR_URL": "http://127.0.0.1:1", "TENANTRY_API_URL": "http://127.0.0.1:2"}


@dataclass
class Web(Stage):
    """A Next.js app at `url`, with the FastAPI example beside or behind it; each test makes people of its own."""

    url: str = ""

    def token(self, person: Person, organization: str) -> str:
        """Of a session that is in the organization."""
        return self.deployment.clerk.emulator.mint_token(person.id, organization, authorized_party=self.url)

    def ask(self, path: str, token: str = "", method: str = "GET", **request: Any) -> httpx.Response:
        """The app's answer to who has the token, or to nobody."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **request.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, trust_env=False, timeout=30, **request)


def build(name: str, tmp_path_factory: pytest.TempPathFactory, *additions: Path, source: Path = WEB) -> Path:
    """The folder of an app that `next build` has built, with `additions` laid over `source`; the same for all workers.

    Errors of types end it. It holds no address: those come when it is served.
    """
    run_folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run_folder = run_folder.parent
    folder = run_folder / name
    with (run_folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".next" / "BUILD_ID").exists():
            shutil.rmtree(folder, ignore_errors=True)
            furnish(folder, PACKAGES, copy=True)
            for tree in (source, *additions):
                shutil.copytree(tree, folder, dirs_exist_ok=True, ignore=MADE_HERE)
            clerk = derive_instance(1).nextjs_environment(_NOWHERE["TENANTRY_EMULATOR_URL"])
            run(folder, "next", "build", timeout=BUILD_SECONDS, env=clerk | _NOWHERE)
    return folder


@contextmanager
def serve(built: Path, folder: Path, port: int, variables: Mapping[str, str]) -> Iterator[str]:
    """A built app at its URL, in a copy at `folder`; the built one stays as it is."""
    _copy(built, folder, variables)
    with start(folder, "start", {**variables, "NODE_ENV": "production"}, port) as url:
        yield url


@contextmanager
def start(folder: Path, how: str, variables: Mapping[str, str], port: int | None = None) -> Iterator[str]:
    """`next start` or `next dev` of an app, until the block ends; gives its URL when it answers."""
    port = port or free_port()
    url = f"http://localhost:{port}"
    command = [str(folder / "node_modules/.bin/next"), how, "-H", "localhost", "-p", str(port)]
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _await_start(process, port)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
            log.seek(0)
            print(log.read())  # pytest shows it beside a failure


def free_port() -> int:
    """A port that nobody used a moment ago: Next.js takes no socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _copy(built: Path, folder: Path, variables: Mapping[str, str]) -> None:
    shutil.copytree(built, folder, ignore=_leave_out, symlinks=True)
    (folder / "node_modules").symlink_to(built / "node_modules")
    manifest = folder / ".next" / "routes-manifest.json"
    text = manifest.read_text(encoding="utf-8")
    for name, nowhere in _NOWHERE.items():
        text = text.replace(f"{nowhere}/", f"{variables.get(name, nowhere)}/")
    manifest.write_text(text, encoding="utf-8")


def _leave_out(folder: str, _names: list[str]) -> set[str]:
    """The packages, which are linked, and the cache; but not `.next/node_modules`, which is links to packages."""
    return {"cache"} if Path(folder).name == ".next" else {"node_modules"}


def _await_start(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "Next.js ended"
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "Next.js does not answer"
            time.sleep(0.1)
