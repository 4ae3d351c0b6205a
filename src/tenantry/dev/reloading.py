"""Serves an app in a process of its own and starts it again when its files change.

The port stays ours: while the app starts again callers wait instead of being refused.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tenantry.dev.app_process import STOP_SECONDS, UP, read_error
from tenantry.dev.screen import Screen
from tenantry.errors import TenantryError

WATCHED = (".py", ".toml")
NOT_WATCHED = {"node_modules", "__pycache__"}
LOOK_SECONDS = 0.4
LARGEST_SHARE = 0.1  # of the time goes into looking, however many files there are


class Files:
    """An app's code and settings as they are now, without hidden folders and virtual environments."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.pause = LOOK_SECONDS
        self._known = self._look()

    def changed(self) -> Path | None:
        """A file that is not as it was, if there is one; relative to the folder."""
        differing = self._look().items() ^ self._known.items()
        return min((path.relative_to(self._folder) for path, _ in differing), default=None)

    def wait(self) -> Path:
        """Returns when a file has changed: which."""
        while (changed := self.changed()) is None:
            time.sleep(self.pause)
        return changed

    def _look(self) -> dict[Path, int]:
        """The time of each file's last change."""
        began = time.monotonic()
        found = {}
        for root, folders, names in os.walk(self._folder):
            here = Path(root)
            if "pyvenv.cfg" in names and here != self._folder:
                folders.clear()
                continue
            folders[:] = [name for name in folders if not name.startswith(".") and name not in NOT_WATCHED]
            for name in names:
                if name.endswith(WATCHED):
                    with suppress(OSError):  # gone since
                        found[here / name] = (here / name).stat().st_mtime_ns
        self.pause = max(LOOK_SECONDS, (time.monotonic() - began) / LARGEST_SHARE)
        return found


class AppProcess:
    """A process that serves the app; `line` is where it tells of itself."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.pid = process.pid
        self._process = process
        self._line = line

    def wait_until_up(self, files: Files) -> Path | None:
        """Returns when it is up, else what changed meanwhile. Raises TenantryError when it cannot be."""
        while (changed := files.changed()) is None:
            if self._hear(files.pause):
                return None
        return changed

    def wait_until_changed(self, files: Files) -> Path:
        """Returns what changed. Raises TenantryError when the process ends before."""
        while (changed := files.changed()) is None:
            self._hear(files.pause)
        return changed

    def stop(self, screen: Screen) -> None:
        """Asks it to end, and sees that it does."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            screen.say(f"The app did not end within {STOP_SECONDS:.0f} s and is killed.")
        finally:  # at once where Ctrl-C is pressed again
            self._process.kill()
            self._process.wait()

    def _hear(self, seconds: float) -> bool:
        """Whether it told within this time that it is up. Raises TenantryError when it told why not, or is gone."""
        readable, _, _ = select.select([self._line], [], [], seconds)
        if not readable:
            return False
        told = self._line.recv(65536)
        if told == UP:
            return True
        while more := self._line.recv(65536):
            told += more
        raise read_error(told) if told else self._ended()

    def _ended(self) -> TenantryError:
        code = self._process.wait(STOP_SECONDS)
        return TenantryError(f"The app's process ended with exit code {code}.")


def serve_reloading(
    name: str,
    folder: Path,
    claimed: socket.socket,
    *,
    prepare: Callable[[], None],
    on_ready: Callable[[], None],
    screen: Screen,
) -> None:
    """Serves the app `module:attribute` until an exception, such as Ctrl-C's, ends it; the app has ended then, too.

    Calls `prepare` before each start, and `on_ready` when the app is up for the first time. Raises TenantryError when
    it never is; later a failure is told, and the next change starts it again.
    """
    was_up = False
    while True:
        files = Files(folder)
        try:
            prepare()
            with running(name, folder, claimed, screen) as app:
                changed = app.wait_until_up(files)
                if changed is None:
                    screen.say("The app is up again.") if was_up else on_ready()
                    was_up = True
                    changed = app.wait_until_changed(files)
        except TenantryError as error:
            if not was_up:
                raise
            screen.complain(error)
            screen.say("It starts again when a file changes.")
            changed = files.wait()
        screen.say(f"{changed} changed: starting the app again ...")


@contextmanager
def running(name: str, folder: Path, claimed: socket.socket, screen: Screen) -> Iterator[AppProcess]:
    """The app's process, which has ended when the block is left."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            passed = (claimed.fileno(), theirs.fileno())
            arguments = [name, str(folder), *map(str, passed)]
            # -P: the app's folder is searched for the app alone. -u: what it prints shows at once, in a pipe as well.
            process = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", "tenantry.dev.app_process", *arguments],
                pass_fds=passed,
                preexec_fn=_ignore_ctrl_c,
            )
        app = AppProcess(process, ours)
        try:
            yield app
        finally:
            app.stop(screen)


def _ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until it can answer: see `app_process`
