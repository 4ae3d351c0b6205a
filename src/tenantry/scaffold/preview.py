"""Shows a plan: what is done with each file and why, and its diff; in colour on a terminal, plain elsewhere."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from tenantry.scaffold.plan import Action, Plan, Step

if TYPE_CHECKING:
    from rich.console import Console

_TITLES = {"create": "Create", "change": "Change", "keep": "Keep", "merged": "Keep", "merge": "Keep, for you to merge"}
_LOOK = {
    "create": ("+", "green"),
    "change": ("~", "yellow"),
    "merge": ("!", "magenta"),
    "keep": ("=", "cyan"),
    "merged": ("=", "cyan"),
}


def show(console: Console, plan: Plan, diffs_of: Container[Action] = ("change",)) -> None:
    """The steps by what is done, what is for the user to merge, and the diffs of steps with these actions."""
    for action, title in _TITLES.items():
        steps = [step for step in plan.steps if step.action == action]
        if steps:
            console.print(f"{title}:", style="bold")
        for step in steps:
            _show_step(console, step)
    if same := sum(step.action == "same" for step in plan.steps):
        console.print(f"{same} files are as they would be written.", style="dim")
    for path in plan.dropped:
        console.print(f"- {path} is no longer part of it: delete it when nothing of yours uses it.", markup=False)
    for step in plan.steps:
        if step.action == "merge":
            _show_merge(console, step)
        elif step.action in diffs_of and not step.wanted.bulky:
            _show_diff(console, step)


def _show_step(console: Console, step: Step) -> None:
    from rich.text import Text

    mark, style = _LOOK[step.action]
    console.print(Text.assemble((f"  {mark} {step.path}", style), f"  {step.reason}"), soft_wrap=True)


def _show_merge(console: Console, step: Step) -> None:
    from rich.text import Text

    if step.wanted.merge is not None:
        console.print(Text(f"\nMerge into {step.path}:\n", style="bold"), soft_wrap=True)
        console.print(Text(_indent(step.wanted.merge.lines)), soft_wrap=True)


def _show_diff(console: Console, step: Step) -> None:
    from rich.text import Text

    console.print()
    for line in step.diff():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        console.print(Text(line, style=style), soft_wrap=True)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
