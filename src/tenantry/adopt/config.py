"""`adopt.toml`: a plan as a file that a person edits. Mistakes in it are sentences with the line they are in."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tenantry.adopt.catalog import kind_of
from tenantry.adopt.names import format_target, parse_target, plain
from tenantry.adopt.ownership import Proposal
from tenantry.adopt.plan import KINDS, PLACES, THEN, Decision, Plan, Rows, Source
from tenantry.errors import ConfigurationError

FILE = "adopt.toml"

_ROWS = ("to", "organization", "column", "by", "organizations", "csv", "rest")
_SOURCE = ("table", "key", "clerk_id", "email", "csv")
_ORGANIZATIONS = (*_SOURCE, "then", "columns")
_COLUMNS = ("name", "slug", "image_url", "created_at", "updated_at", "deleted_at")
_TABLE = ("tenant", "column", "refers_to", "mode", "keep", "triggers")
_TOP = ("rows", "users", "organizations", "tables")

_HEAD = """\
# Whose the rows of each table are. Written by `tenantry adopt plan`; edit it, then `tenantry adopt apply`.
# Run `tenantry adopt plan` again to see how it differs from the database.
"""

_ROWS_HELP = """\
# Where a user's rows go:
#   to = "personal"                                    to the user's own tenant
#   to = "organization", organization = "org_..."      all to one: the company the app served so far
#   to = "column", column = "company_id"               by a column of the users' table, with [rows.organizations]
#   to = "column", column = "email", by = "domain"     the same, by what stands behind the @
#   to = "csv", csv = "owners.csv"                     by a file of lines: the user's key, org_...
# rest = "org_..." gets the rows of nobody known; without it they have to be settled before isolation.
"""

_ORGANIZATIONS_HELP = """\
# What becomes of this table:
#   then = "leave"    it stays the app's, whose own handler of webhooks goes on filling it
#          "follow"   Tenantry's mirror fills it from `constrain` on, in these columns alone: that handler can go
#          "retire"   from `contract` on no tenant reaches it: for a table that nothing refers to
"""

_TABLES_HELP = """\
# tenant = "owner"         the user (or the app's own organization) that `column` names
#          "reference"     of whose the row is that the foreign key of `column` refers to
#          "organization"  the one in [rows]
#          "column"        the organization whose Clerk id `column` holds already: nothing is moved
#          "shared"        nobody's; mode = "read", "write" or "none" is what tenants may do
#          "undecided"     you have to say
# refers_to = "public.articles (id)" says what `column` refers to, where no foreign key does.
# keep = ["articles_slug_key"] leaves a key, or a foreign key, across tenants.
"""


# --- writing ----------------------------------------------------------------------------------------------------------


def write(plan: Plan, proposals: Mapping[str, Proposal]) -> str:
    """The file of a plan; each table with the reason of its proposal."""
    parts = [_HEAD, _ROWS_HELP + _section("rows", _rows(plan.rows))]
    if plan.rows.organizations:
        parts.append(_section("rows.organizations", plan.rows.organizations))
    if plan.users is not None:
        note = "" if plan.users.table else "# Columns that name users hold Clerk's ids themselves.\n"
        parts.append(note + _section("users", _source(plan.users)))
    if plan.organizations is not None:
        parts.append(_ORGANIZATIONS_HELP + _section("organizations", _source(plan.organizations, _ORGANIZATIONS)))
    parts.append(_TABLES_HELP)
    parts += [table(decision, proposals.get(decision.table)) for decision in plan.decisions]
    return "\n".join(parts)


def table(decision: Decision, proposal: Proposal | None = None) -> str:
    """The section of one table."""
    comments = f"# {proposal.confidence}: {proposal.reason}\n" if proposal else ""
    for choice in proposal.choices if proposal else ():
        comments += "#   " + ", ".join(f"{name} = {_value(value)}" for name, value in _decision(choice).items()) + "\n"
    return comments + _section(f"tables.{_value(decision.table)}", _decision(decision))


def _rows(rows: Rows) -> dict[str, Any]:
    names = [name for name in _ROWS if name != "organizations"]
    return {name: getattr(rows, name) for name in names if getattr(rows, name)}


def _source(source: Source, names: Iterable[str] = _SOURCE) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names if getattr(source, name)}


def _decision(decision: Decision) -> dict[str, Any]:
    column = decision.column[0] if len(decision.column) == 1 else list(decision.column)
    told = {"tenant": decision.tenant, "column": column, "refers_to": decision.refers_to, "mode": decision.mode}
    told |= {"keep": list(decision.keep), "triggers": decision.triggers}
    return {name: value for name, value in told.items() if value}


def _section(name: str, values: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{_key(key)} = {_value(value)}\n" for key, value in values.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """JSON's strings and lists of them are TOML's too, save for the one control character that JSON leaves as it is."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: Path) -> Plan:
    """The plan in a file. Raises ConfigurationError, saying in which line the mistake is."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {path}.", hint="`tenantry adopt plan` writes it, or name another with --file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read.", detail=str(error)) from None
    return parse(text, str(path))


def parse(text: str, name: str = FILE) -> Plan:
    """The plan in a text. Raises ConfigurationError with every mistake, each with its line."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is no TOML: {error}.") from None
    reader = _Reader(text, name)
    plan = reader.plan(told)
    if reader.mistakes:
        raise ConfigurationError(
            f"{name} has {'a mistake' if len(reader.mistakes) == 1 else f'{len(reader.mistakes)} mistakes'}.",
            detail="\n".join(reader.mistakes),
            hint="Mend it, or let `tenantry adopt plan --file` write another to compare with.",
        )
    return plan


class _Reader:
    """Reads what TOML said, and keeps each mistake with the line it is likely in."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.splitlines()
        self._name = name
        self.mistakes: list[str] = []

    def plan(self, told: Mapping[str, Any]) -> Plan:
        self._known(told, _TOP, "")
        tables = self._section(told, "tables")
        decisions = [self._decision(name, tables) for name in sorted(tables)]
        return Plan(
            self._rows(self._section(told, "rows")),
            tuple(each for each in decisions if each),
            self._source(told, "users"),
            self._source(told, "organizations"),
        )

    def _rows(self, told: Mapping[str, Any]) -> Rows:
        self._known(told, _ROWS, "rows")
        to = self._one_of(told, "rows", "to", PLACES, "personal")
        organizations = self._section(told, "organizations", "rows.")
        values = {name: self._text(told, "rows", name) for name in _ROWS if name not in ("to", "organizations")}
        for key in ("organization", "rest"):
            if values[key] and not values[key].startswith("org_"):
                self._mistake("rows", key, f'{key} is Clerk\'s id of an organization, org_..., not "{values[key]}".')
        if values["by"] not in ("", "domain"):
            self._mistake("rows", "by", f'by is "domain" or left out, not "{values["by"]}".')
        named = {key: self._text(organizations, "rows.organizations", key) for key in organizations}
        for key, value in named.items():
            if value and not value.startswith("org_"):  # empty: still to be filled in
                self._mistake("rows.organizations", key, f'"{key}" goes to "{value}", which is no org_....')
        return Rows(to=to, organizations=named, **values)

    def _source(self, told: Mapping[str, Any], name: str) -> Source | None:
        if name not in told:
            return None
        section = self._section(told, name)
        self._known(section, _ORGANIZATIONS if name == "organizations" else _SOURCE, name)
        source = Source(
            **{key: self._text(section, name, key) for key in _SOURCE},
            then=self._one_of(section, name, "then", THEN, "leave"),
            columns=self._columns(section, name),
        )
        if source.table and not source.key:
            self._mistake(name, "table", "key, the column that other tables refer to, is missing.")
        if name == "organizations" and not source.table:
            self._mistake(name, "", "table is missing.")
        return source

    def _columns(self, told: Mapping[str, Any], section: str) -> Mapping[str, str]:
        columns = told.get("columns", {})
        if not isinstance(columns, dict) or not all(isinstance(each, str) and each for each in columns.values()):
            self._mistake(section, "columns", 'columns says what goes where: { name = "name", slug = "slug" }.')
            return {}
        for what in columns.keys() - set(_COLUMNS):
            self._mistake(section, "columns", f'"{what}" cannot be copied: {", ".join(_COLUMNS)} can.')
        return columns

    def _decision(self, table: str, tables: Mapping[str, Any]) -> Decision | None:
        told = self._section(tables, table, "tables.")
        section = f"tables.{table}"
        self._known(told, _TABLE, section)
        if "tenant" not in told:
            self._mistake(section, "", f"tenant is missing: one of {', '.join(KINDS)}.")
            return None
        tenant = self._one_of(told, section, "tenant", KINDS, "undecided")
        triggers = self._text(told, section, "triggers")
        if triggers not in ("", "fire"):
            self._mistake(section, "triggers", f'triggers is "fire" or left out, not "{triggers}".')
        column, keep = self._texts(told, section, "column"), self._texts(told, section, "keep")
        mode, refers_to = self._text(told, section, "mode"), self._target(told, section)
        return Decision(table, tenant, column, mode, keep, triggers, refers_to)

    def _target(self, told: Mapping[str, Any], section: str) -> str:
        text = self._text(told, section, "refers_to")
        if not text:
            return ""
        try:
            return format_target(*parse_target(text))
        except ValueError:
            self._mistake(section, "refers_to", 'refers_to is a table and its key: "public.articles (id)".')
            return ""

    def _section(self, told: Mapping[str, Any], name: str, above: str = "") -> dict[str, Any]:
        section = told.get(name, {})
        if not isinstance(section, dict):
            self._mistake(above.rstrip("."), name, f"{name} is a section of its own: [{above}{name}].")
            return {}
        return section

    def _known(self, told: Mapping[str, Any], known: Iterable[str], section: str) -> None:
        for key in told:
            if key not in known:
                self._mistake(section, key, f'"{key}" is not known here: {", ".join(known)} are.')

    def _one_of(self, told: Mapping[str, Any], section: str, key: str, known: tuple[Any, ...], default: Any) -> Any:
        value = told.get(key, default)
        if value not in known:
            self._mistake(section, key, f"{key} is one of {', '.join(known)}, not {json.dumps(value, default=str)}.")
            return default
        return value

    def _text(self, told: Mapping[str, Any], section: str, key: str) -> str:
        value = told.get(key, "")
        if not isinstance(value, str):
            self._mistake(section, key, f"{key} is a text.")
            return ""
        return value

    def _texts(self, told: Mapping[str, Any], section: str, key: str) -> tuple[str, ...]:
        value = told.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
            self._mistake(section, key, f"{key} is a text, or a list of texts.")
            return ()
        return tuple(values)

    def _mistake(self, section: str, key: str, sentence: str) -> None:
        self.mistakes.append(f"{self._name}:{self._line(section, key)}: {sentence}")

    def _line(self, section: str, key: str) -> int:
        """The line of a key in its section, else of the section."""
        found, inside = 1, not section
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[(.+)\]\s*(#.*)?$", line):
                inside = _unquoted(header[1]) == section
                found = number if inside else found
                if not inside and _unquoted(header[1]) == ".".join(filter(None, [section, key])):
                    return number
            elif inside and _unquoted(line.partition("=")[0].strip()) == key and key:
                return number
        return found


def _unquoted(name: str) -> str:
    """`tables."public.users"` -> `tables.public.users`, near enough to find a line."""
    return (
        re.sub(r'"((?:[^"\\]|\\.)*)"', lambda m: str(json.loads(f'"{m[1]}"')), name) if _is_json(name) else plain(name)
    )


def _is_json(name: str) -> bool:
    try:
        return all(json.loads(f'"{each}"') is not None for each in re.findall(r'"((?:[^"\\]|\\.)*)"', name))
    except ValueError:
        return False


def read_pairs(path: str) -> dict[str, str]:
    """The lines of a CSV file: key, Clerk's id. Raises ConfigurationError for a line that is none, or contradicts."""
    pairs: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(csv.reader(file), 1):
                if not line or (number == 1 and len(line) == 2 and not kind_of(line[1].strip())):
                    continue
                if len(line) != 2 or not kind_of(line[1].strip()):
                    raise ConfigurationError(f"{path}:{number}: a line is a key, a comma, and Clerk's id: 17,org_2abc.")
                key, clerk_id = line[0].strip(), line[1].strip()
                if pairs.setdefault(key, clerk_id) != clerk_id:
                    raise ConfigurationError(f"{path}:{number}: {key} is {pairs[key]} in one line and {clerk_id} here.")
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {path}.", hint="Write it, or let `tenantry adopt organizations` make it."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{path} cannot be read.", detail=str(error)) from None
    return pairs
