"""One run of the benchmarks: its options, its folder, and the parts that are started when a question needs them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from benchmarks.harness import cpu
from benchmarks.harness.app import App
from benchmarks.harness.clerk import Instance
from benchmarks.harness.load import Load
from benchmarks.harness.postgres import Cluster, Database
from benchmarks.harness.rounds import Contender, Turn, choose

WARM_CONNECTIONS = 16
T = TypeVar("T")


@dataclass
class Bench:
    """A run. `postgres`: the major version; `only`: roles or parts of names. Used inside its `stack`."""

    quick: bool
    only: Sequence[str]
    postgres: int
    folder: Path
    stack: ExitStack
    instance: Instance = field(default_factory=Instance)

    @cached_property
    def cluster(self) -> Cluster:
        cluster = Cluster(self.folder, self.postgres)
        self.stack.callback(cluster.stop)
        cluster.start()
        return cluster

    @property
    def has_cluster(self) -> bool:
        """Whether a question has needed one."""
        return "cluster" in vars(self)

    @cached_property
    def load(self) -> Load:
        return self.stack.enter_context(Load())

    def choose(self, contenders: Sequence[Contender]) -> list[Contender]:
        return choose(contenders, self.only)

    def serve(self, databases: Mapping[T, tuple[Contender, Database]]) -> dict[T, App]:
        """Starts an app for each, with what every app finds in its environment; they stop with the run."""
        apps = {}
        for key, (contender, database) in databases.items():
            surroundings = self.instance.environment | {"DATABASE_URL": database.url(contender.login)}
            apps[key] = self.stack.enter_context(App(contender.make, surroundings, self.folder))
        for app in apps.values():
            app.wait()
        return apps

    def take_turn(self, app: App, requests: Sequence[bytes], connections: int) -> Turn:
        """Sends the requests, and counts what they cost the app and PostgreSQL."""
        server, postgres = app.cpu(), self.cluster.cpu()
        answers = self.load.send(app.port, requests, connections)
        server_ns, postgres_ns = cpu.spent(server, app.cpu()), cpu.spent(postgres, self.cluster.cpu())
        count = len(requests)
        times = tuple(ns / 1000 for ns in answers.times)
        return Turn(times, count / answers.seconds, server_ns / 1000 / count, postgres_ns / 1000 / count)

    def say(self, text: str) -> None:
        """A line on how far the run is, beside the tables."""
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
