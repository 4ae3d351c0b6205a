"""SUPPORTED.md: every operation of Clerk's specifications, whether the emulator has it, and where its answers differ.

`PYTHONPATH=tests python -m emulator.specs.supported` writes it anew, from the specifications beside the checkout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress, groupby
from pathlib import Path

from emulator.specs import ledger
from emulator.specs.apis import BACKEND, FILES, FRONTEND, Api, Name
from emulator.specs.findings import Kind
from emulator.specs.ledger import Gap
from emulator.specs.recording import operations
from emulator.specs.specification import FOLDER, Operation, same_for_any_name

PAGE = Path(__file__).resolve().parents[3] / "SUPPORTED.md"
MEANING: dict[Kind, str] = {
    "missing": "missing",
    "unknown": "not in the schema",
    "type": "of another type",
    "value": "a value the schema does not list",
    "status": "not declared",
}
INTRODUCTION = """\
<!-- Written by `make supported`; do not edit. -->

# What the emulator supports

Every operation of Clerk's two APIs that the emulator has, every one it has not, and every place where it is known to
answer otherwise than Clerk's specification says. Tests hold this page, and each answer, to the specifications; none of
it was ever compared with the live service.
"""


def render() -> str:
    lines = [INTRODUCTION, *_summary(), *_api(BACKEND), *_api(FRONTEND), *_webhooks()]
    return "\n".join(lines).rstrip() + "\n"


def _summary() -> Iterator[str]:
    yield from ("| | Specification | Operations | Supported |", "|---|---|---|---|")
    for api in (BACKEND, FRONTEND):
        listed = api.specification.operations.values()
        supported = sum(_support(api, operation) == "yes" for operation in listed)
        yield f"| {api.title} | `{FILES[api.name]}` | {len(listed)} | {supported} |"
    yield ""


def _api(api: Api) -> Iterator[str]:
    yield from (f"## {api.title}", "")
    listed = sorted(api.specification.operations.values(), key=lambda operation: operation.tag)
    groups = [(tag, list(tagged)) for tag, tagged in groupby(listed, key=lambda operation: operation.tag)]
    begun = [any(_support(api, operation) != "no" for operation in tagged) for _, tagged in groups]
    for tag, tagged in compress(groups, begun):
        yield from _group(api, tag, tagged)
    yield from ("### Nothing of", "", "| Group | Operations |", "|---|---|")
    for tag, tagged in compress(groups, (not some for some in begun)):
        yield f"| {tag} | {_list(operation.name for operation in tagged)} |"
    yield ""
    yield from _particular(api)
    yield from _differences(api.name)


def _group(api: Api, tag: str, tagged: list[Operation]) -> Iterator[str]:
    """The last column leads to the numbered differences."""
    gaps = _gaps(api.name)
    yield from (f"### {tag}", "", "| Method | Path | Supported | Differs |", "|---|---|---|---|")
    for operation in tagged:
        notes = ", ".join(str(number) for number, gap in enumerate(gaps, 1) if operation.name in gap.where)
        yield f"| {operation.method} | `{operation.path}` | {_support(api, operation)} | {notes} |"
    yield ""


def _particular(api: Api) -> Iterator[str]:
    for kind, title in (("refused", "Refused, in shape"), ("route", "Beyond the specification")):
        gaps = [gap for gap in ledger.gaps(api.name) if gap.kind == kind]
        if gaps:
            yield from (f"### {title}", "", "| Operation | Why |", "|---|---|")
            yield from (f"| `{where}` | {gap.reason} |" for gap in gaps for where in gap.where)
            yield ""


def _webhooks() -> Iterator[str]:
    yield from ("## Webhooks", "", f"Held to `{FILES['webhooks']}`.", "")
    yield from _differences("webhooks")


def _differences(spec: Name) -> Iterator[str]:
    yield from ("### Where answers differ" if spec != "webhooks" else "### Where events differ", "")
    yield from ("| | Where | Field or status | Is | Why |", "|---|---|---|---|---|")
    for number, gap in enumerate(_gaps(spec), 1):
        yield f"| {number} | {_list(gap.where)} | {_list(gap.fields)} | {MEANING[gap.kind]} | {gap.reason} |"
    yield ""


def _gaps(spec: Name) -> list[Gap]:
    return [gap for gap in ledger.gaps(spec) if gap.kind in MEANING]


def _list(names: Iterable[str]) -> str:
    return "<br>".join(f"`{name}`" if name else "the body" for name in names)


def _support(api: Api, operation: Operation) -> str:
    name = same_for_any_name(operation.name)
    if name in map(same_for_any_name, ledger.refused(api.name)):
        return "refused"
    served = (same_for_any_name(f"{method} {path}") for method, path in operations(api.routes))
    return "yes" if name in served else "no"


def main() -> None:
    if not FOLDER.exists():
        raise SystemExit("Clerk's specifications are not beside this checkout: SUPPORTED.md stays as it is.")
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
