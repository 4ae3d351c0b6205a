"""What is to be done to a project's files, each step with its reason; a file that its owner changed is never written.

What was written is remembered beside it (`tenantry.json`: the options, and a digest of each file). So a second run
with the same options changes nothing, a newer release replaces what nobody edited, and what was edited is kept.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tenantry.errors import ConfigurationError, TenantryError

Action = Literal["create", "change", "keep", "merge", "merged", "same"]


@dataclass(frozen=True)
class Merge:
    """What a file that was there before must say too: the lines, and the word by which to see that it does."""

    lines: str
    sign: str


@dataclass(frozen=True)
class Wanted:
    """A file as it would be written. `path` is relative to the project, with slashes."""

    path: str
    text: str
    reason: str
    merge: Merge | None = None  # for a file that may be somebody else's
    adds: bool = False  # the text is the one that is there, and more
    bulky: bool = False  # generated, and nothing to read through in a preview


@dataclass(frozen=True)
class Step:
    """What is done with one file, and why."""

    action: Action
    wanted: Wanted
    reason: str
    before: str | None

    @property
    def path(self) -> str:
        return self.wanted.path

    @property
    def writes(self) -> bool:
        return self.action in ("create", "change")

    @property
    def differs(self) -> bool:
        """Whether the project is not what would be written: by what is missing, outdated, edited or to be merged."""
        return self.action not in ("same", "merged")

    def diff(self) -> list[str]:
        """From what is there to what is wanted, as unified diff lines."""
        before = (self.before or "").splitlines()
        source = f"a/{self.path}" if self.before is not None else "/dev/null"
        return list(difflib.unified_diff(before, self.wanted.text.splitlines(), source, f"b/{self.path}", lineterm=""))


@dataclass(frozen=True)
class Record:
    """What an earlier run wrote: its options, and the digest of each file as it was then."""

    options: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        about = "Written by `tenantry init`: it knows by this what you chose, and what you have edited. Commit it."
        content = {"about": about, "options": dict(self.options), "files": dict(sorted(self.digests.items()))}
        return json.dumps(content, indent=2) + "\n"


def read_record(path: Path) -> Record:
    """The record in a file, or an empty one where there is none. Raises ConfigurationError."""
    text = read_text(path)
    if text is None:
        return Record()
    try:
        content = json.loads(text)
        options, files = content["options"], content["files"]
        return Record({str(k): str(v) for k, v in options.items()}, {str(k): str(v) for k, v in files.items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        hint = "Bring it back from git, or delete it: then every file that differs counts as edited by you."
        raise ConfigurationError(f"{path} is not as `tenantry init` wrote it.", hint=hint) from None


@dataclass(frozen=True)
class Plan:
    """The steps of one run in a project's folder, in the order in which they are shown and done."""

    root: Path
    steps: tuple[Step, ...]
    dropped: tuple[str, ...] = ()  # files of an earlier run that are no longer part of it

    @property
    def to_write(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.writes)

    @property
    def differences(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.differs)


def make_plan(root: Path, wanted: Iterable[Wanted], earlier: Record | None = None) -> Plan:
    """Compares what is wanted with what is there, in the light of what an earlier run wrote."""
    earlier = earlier or Record()
    steps = tuple(_compare(root, file, earlier) for file in wanted)
    paths = {step.path for step in steps}
    dropped = tuple(path for path in sorted(earlier.digests) if path not in paths and (root / path).exists())
    return Plan(root, steps, dropped)


def remember(plan: Plan, earlier: Record, options: Mapping[str, str], path: str) -> Plan:
    """The plan with the new record as its last file."""
    text = Record(options, dict(_digests(plan.steps, earlier))).dump()
    before = read_text(plan.root / path)
    action: Action = "create" if before is None else "same" if before == text else "change"
    wanted = Wanted(path, text, "What you chose, and what you have edited, for the next run.", bulky=True)
    step = Step(action, wanted, wanted.reason, before)
    return replace(plan, steps=(*plan.steps, step))


def write(plan: Plan) -> None:
    """Creates and changes the plan's files. Raises TenantryError; what was written by then stays."""
    for step in plan.to_write:
        path = plan.root / step.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # `x`: a file that appeared since the plan was made is not ours to replace.
            with path.open("x" if step.action == "create" else "w", encoding="utf-8", newline="\n") as file:
                file.write(step.wanted.text)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise TenantryError(f"{path} cannot be written: {reason}.", hint="Mend that, and run it again.") from None


def read_text(path: Path) -> str | None:
    """A file's text with `\\n` between its lines; None where there is no file. Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{path} cannot be read: {reason}.", hint="Move it out of the way.") from None


def _compare(root: Path, wanted: Wanted, earlier: Record) -> Step:
    before = read_text(root / wanted.path)
    if before is None:
        return Step("create", wanted, wanted.reason, None)
    if before == wanted.text:
        return Step("same", wanted, "is as it would be written", before)
    if wanted.adds:
        return Step("change", wanted, wanted.reason, before)
    if earlier.digests.get(wanted.path) == _digest(before):
        return Step("change", wanted, "nobody edited it since it was written", before)
    if wanted.merge is not None and wanted.path not in earlier.digests:
        if wanted.merge.sign in before:
            return Step("merged", wanted, "yours, and it has the lines that it needs", before)
        return Step("merge", wanted, "yours: merge these lines into it", before)
    if wanted.path in earlier.digests:
        return Step("keep", wanted, "you edited it; delete it to have it written anew", before)
    return Step("keep", wanted, "it was there before; move it to have it written", before)


def _digests(steps: Iterable[Step], earlier: Record) -> Iterator[tuple[str, str]]:
    """Of what is written or is as it would be; of what is kept, that of the earlier run."""
    for step in steps:
        if step.wanted.adds:
            continue
        if step.action in ("create", "change", "same"):
            yield step.path, _digest(step.wanted.text)
        elif step.path in earlier.digests:
            yield step.path, earlier.digests[step.path]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
