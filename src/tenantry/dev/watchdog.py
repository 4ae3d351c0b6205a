"""Runs one command and interrupts it when standard input closes, which it does when the starting process is gone.

Usage: watchdog.py HELD_FD UID GID COMMAND...  Prints the command's process id. Imports nothing of Tenantry, so that
it starts at once and outlives anything that happens to its parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

STOP_SECONDS = 50.0


def watch(held: int, uid: int, gid: int, command: list[str]) -> None:
    """Returns never: exits with the command's code."""
    other = uid != os.geteuid()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
        pass_fds=(held,),
        user=uid if other else None,
        group=gid if other else None,
        extra_groups=[] if other else None,
    )
    print(child.pid, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: child.send_signal(signal.SIGINT))
    threading.Thread(target=lambda: os._exit(abs(child.wait())), daemon=True).start()
    while sys.stdin.buffer.read(1):
        pass
    _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGQUIT)
        child.wait()


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
