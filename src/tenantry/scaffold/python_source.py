"""Adds lines to Python files where the syntax tree shows that it is safe; everything else of a file stays as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_SESSION_MAKERS = ("async_sessionmaker", "sessionmaker")

Insertion = tuple[int, int, str]  # line (from 1), column in bytes, text


def find_app(source: str) -> str | None:
    """The name of the one FastAPI app that a module makes at its top level."""
    names = [name for name, _, _ in _assigned_calls(source, ("FastAPI",))]
    return names[0] if len(names) == 1 else None


def wire_app(source: str, import_line: str) -> str | None:
    """The module with Tenantry installed in its app; None where start-up code of its own is to be merged by hand."""
    found = list(_assigned_calls(source, ("FastAPI",)))
    # Given a lifespan, FastAPI runs no handler of `on_event`.
    if len(found) != 1 or "on_event" in source or "add_event_handler" in source:
        return None
    name, statement, call = found[0]
    given = {keyword.arg for keyword in call.keywords}
    if call.args or given & {"lifespan", "on_startup", "on_shutdown", None}:
        return None
    return _insert(
        source,
        [_after_imports(source, statement, import_line), _first_argument(source, call, "lifespan=tenancy.lifespan")],
        [(_end(statement), len(_lines(source)[_end(statement) - 1]), f"\ntenancy.install({name})")],
    )


def scope_sessions(source: str, import_line: str) -> str | None:
    """The module with its session factories scoped to the tenant; None where it makes none at its top level."""
    found = list(_assigned_calls(source, _SESSION_MAKERS))
    if not found:
        return None
    around = [
        edit
        for _, _, call in found
        for edit in (
            (call.lineno, call.col_offset, "tenancy.scoped("),
            (call.end_lineno or call.lineno, call.end_col_offset or 0, ")"),
        )
    ]
    return _insert(source, [_after_imports(source, found[0][1], import_line)], around)


def mentions_sessions(source: str) -> bool:
    """Whether a module calls a session factory's class anywhere."""
    return any(isinstance(node, ast.Call) and _called(node) in _SESSION_MAKERS for node in ast.walk(_parse(source)))


def _assigned_calls(source: str, names: tuple[str, ...]) -> Iterator[tuple[str, ast.stmt, ast.Call]]:
    for statement in _parse(source).body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target: ast.expr = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        if isinstance(target, ast.Name) and isinstance(statement.value, ast.Call) and _called(statement.value) in names:
            yield target.id, statement, statement.value


def _called(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Subscript):  # async_sessionmaker[AsyncSession](...)
        function = function.value
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", None)


def _parse(source: str) -> ast.Module:
    """The tree; an empty one for what is no Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _after_imports(source: str, before: ast.stmt, line: str) -> Insertion:
    """Below the last import that stands above a statement."""
    imports = [node for node in _parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    ends = [_end(node) for node in imports if node.lineno < before.lineno]
    end = max(ends, default=0)
    return (end, len(_lines(source)[end - 1]), f"\n{line}") if end else (before.lineno, 0, f"{line}\n\n")


def _first_argument(source: str, call: ast.Call, argument: str) -> Insertion:
    """In front of the first argument, on a line of its own where that has one."""
    if call.keywords:
        first = call.keywords[0]
        own_line = first.lineno != call.lineno
        return first.lineno, first.col_offset, argument + (f",\n{' ' * first.col_offset}" if own_line else ", ")
    return call.end_lineno or call.lineno, (call.end_col_offset or 0) - 1, argument


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _lines(source: str) -> list[bytes]:
    return source.encode().split(b"\n")


def _insert(source: str, *groups: list[Insertion]) -> str | None:
    """The source with the insertions; None should the result be no Python after all."""
    lines = _lines(source)
    for line, column, text in sorted((edit for group in groups for edit in group), reverse=True):
        whole = lines[line - 1]
        lines[line - 1] = whole[:column] + text.encode() + whole[column:]
    result = b"\n".join(lines).decode()
    return result if _parse(result).body else None
