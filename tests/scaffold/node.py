"""Node projects for tests: locked sets of npm packages in the user's cache, and projects that stand on them.

    folder = tmp_path / "app"
    furnish(folder, "next16")                       # package.json, package-lock.json, node_modules
    run(folder, "tsc", "--noEmit")                  # a program of node_modules/.bin; raises Failed with its output

The sets are `packages/<name>`; `installed(name)` is the folder of one, made from its lock on first use. Its
node_modules are shared by all tests: never write into them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conftest import lack
from tenantry.emulator.bundles import cache_folder

PACKAGES = Path(__file__).parent / "packages"
SETS = tuple(sorted(path.parent.name for path in PACKAGES.glob("*/package.json")))

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "npm_config_registry", "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY")
_QUIET = {
    "CI": "1",
    "NO_COLOR": "1",
    "CHECKPOINT_DISABLE": "1",
    "CLERK_TELEMETRY_DISABLED": "1",
    "NEXT_PUBLIC_CLERK_TELEMETRY_DISABLED": "1",
    "NEXT_PUBLIC_CLERK_KEYLESS_DISABLED": "1",
    "NEXT_TELEMETRY_DISABLED": "1",
    # `prisma generate` needs no engine, but would download one unless it is told where it is.
    "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",
}


class Failed(Exception):
    """A program of Node's ended with an error; the message holds all it printed."""


def environment(**more: str) -> dict[str, str]:
    """A shell's variables for Node programs: none of this test run, no telemetry, no $HOSTNAME (Next hangs with it)."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | _QUIET | more


def installed(name: str) -> Path:
    """The folder with package.json and node_modules of a set; skips the test where it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            lack(f"{program} is not installed on this machine")
    source = PACKAGES / name
    folder = _cache() / f"{name}-{_fingerprint(source)}"
    if not folder.exists():
        with _alone(folder):
            if not folder.exists():
                _install(source, folder)
    return folder


def furnish(folder: Path, name: str, *, copy: bool = False) -> Path:
    """Gives a folder a set's package.json, lock and node_modules, and returns it.

    node_modules is a link; `copy=True` makes it a tree of hard links, as `next build` refuses packages outside the
    project's own folder.
    """
    source = installed(name)
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(source / file, folder / file)
    if copy:
        shutil.copytree(source / "node_modules", folder / "node_modules", symlinks=True, copy_function=_link)
    else:
        (folder / "node_modules").symlink_to(source / "node_modules")
    return folder


def run(folder: Path, program: str, *arguments: str, timeout: float = 180, env: Mapping[str, str] | None = None) -> str:
    """What a program of the project's node_modules printed, run in the project; raises Failed."""
    return _run(folder, str(folder / "node_modules/.bin" / program), *arguments, timeout=timeout, env=env)


def _run(folder: Path, *command: str, timeout: float, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{Path(command[0]).name} {' '.join(command[1:])}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def _install(source: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{source.name}-unfinished-") as name:
        unfinished = Path(name) / source.name
        shutil.copytree(source, unfinished)
        flags = ("--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error")
        try:
            _run(unfinished, "npm", "ci", *flags, timeout=540)
        except (Failed, subprocess.TimeoutExpired) as error:
            lack(f"The npm packages of {source.name} could not be installed: {str(error)[-400:]}")
        unfinished.rename(folder)


def _fingerprint(source: Path) -> str:
    digest = hashlib.sha256()
    for file in ("package.json", "package-lock.json"):
        digest.update((source / file).read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock between processes: parallel tests install a set once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    return cache_folder() / "node"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the cache is on another disk
        shutil.copy2(source, target)
