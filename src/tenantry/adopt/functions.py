"""The app's functions that a table with one column more would break, by the look of their source.

What PostgreSQL has parsed already, such as views and rules, keeps the columns that it had. Text is parsed when it runs:
there a `*` stands for one column more. The look is a guess, but for triggers that insert `new.*`, which is certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenantry.adopt import catalog
from tenantry.adopt.names import listing, split

if TYPE_CHECKING:
    import psycopg

_TOKENS = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<mark>\w*)\$.*?\$(?P=mark)\$)"
    r'|"(?:[^"]|"")*"',
    re.DOTALL,
)
_INSERT = re.compile(r"\binsert\s+into\s+(?P<target>[\w\".%$]+)", re.IGNORECASE)
_COLUMNS = re.compile(r"\s*\((?!\s*(?:select|values|with)\b)", re.IGNORECASE)
_WRITE = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+(?:only\s+)?(?P<target>[\w\".]+)", re.IGNORECASE)
_STAR = re.compile(r"(?:\(\s*(?P<row>[\w\"$]+)\s*\)\s*\.|(?P<name>[\w\"$]+)\s*\.)?\s*\*")
_BEFORE_ITEM = re.compile(r"(?:\b(?:select|distinct|all|returning)|[,(])\s*$", re.IGNORECASE)
_COMPARED = re.compile(r"\s*\)?\s*(?:is\b|in\b|=|<|>|::|!|\|)", re.IGNORECASE)
_SETS = re.compile(r"\b(?:union|intersect|except)\b", re.IGNORECASE)
_IN = re.compile(r"\bin\s*\(\s*select\s[^()]*\*", re.IGNORECASE)
_PLAIN = re.compile(  # words before parentheses that call nothing
    r"values|select|distinct|all|returning|from|as|materialized|join|lateral|in|on|where|and|or|not|using|union|except"
    r"|intersect|when|then|else|if|loop|begin",
    re.IGNORECASE,
)
_LISTING = re.compile(r"\breturn\s+query\b|\brow\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Function:
    """`parsed`: its body was read when it was made. `rows_of`: the table whose rows it returns; `columns`: it returns
    columns of its own. `triggers` are the tables it is a trigger of, `named` what they call the rows of a statement."""

    name: str
    language: str
    source: str
    parsed: bool
    definer: bool
    rows_of: str
    columns: bool
    triggers: Sequence[str]
    named: Sequence[str]

    def copies(self, table: str) -> tuple[str, str] | None:
        """Into which table it, as a trigger of `table`, inserts whole rows of that, and what it calls the row."""
        for statement in _statements(self.source) if table in self.triggers and not self.parsed else ():
            found = _INSERT.search(statement)
            if found is None:
                continue
            rest = statement[found.end() :]
            stars = list(_stars(rest))
            row = next((star for star in stars if star in ("new", "old")), "")
            row = row or next((name for name in self.named if _takes(rest, name)), "")
            if row:
                return found["target"], row
        return None

    def looks_at(self, table: str) -> str:
        """What it may do with whole rows of a table, as the rest of a sentence; '' where it seems to do nothing."""
        if self.rows_of == table and (self.parsed or self._lists()):
            return "returns rows of it with a list of columns"
        for statement in () if self.parsed else (*_statements(self.source), *_executed(self.source)):
            if doing := self._doing(statement, table):
                return doing
        return ""

    def _lists(self) -> bool:
        """Whether it makes the rows that it returns of a list of columns."""
        statements = list(_statements(self.source))
        made = self.language == "sql" or any(_LISTING.search(statement) for statement in statements)
        return made and not any(list(_stars(statement)) for statement in statements)

    def _doing(self, statement: str, table: str) -> str:
        name = split(table)[1]
        if re.search(rf"\([^()]*,[^()]*\)\s*::\s*(?:[\w\"]+\.)?{re.escape(name)}(?![\w%])", statement, re.IGNORECASE):
            return "makes rows of it of a list of values"
        insert = _INSERT.search(statement)
        target = insert["target"] if insert else ""
        before, rest = (statement[: insert.start()], statement[insert.end() :]) if insert else ("", statement)
        if re.search(r"\bwith\b", before, re.IGNORECASE):
            rest = before + rest
        stars = list(_stars(rest))
        if insert and self._inserts(stars, rest, table, target):
            return "inserts whole rows of it"
        if insert or not stars or not _has(rest, name):
            return ""
        if _SETS.search(rest):
            return "joins whole rows of it with others, as by UNION"
        if _IN.search(rest):
            return "compares with whole rows of it"
        returned = self.language == "sql" or re.search(r"\breturn\s+query\b", rest, re.IGNORECASE)
        return "returns whole rows of it as columns of its own" if self.columns and returned else ""

    def _inserts(self, stars: list[str], rest: str, table: str, target: str) -> bool:
        if stars and _has(rest, split(table)[1]):
            return True
        variables = [star for star in stars if star and len(re.findall(_whole(star), rest, re.IGNORECASE)) == 1]
        takes_all = not _COLUMNS.match(rest)
        others = [variable for variable in variables if not (takes_all and self._declares(variable, target))]
        return bool(others) and (table in self.triggers or _has(self.source, split(table)[1]))

    def _declares(self, variable: str, table: str) -> bool:
        """Whether a variable holds rows of the table into which it is inserted: it has that one's columns, whatever is
        made of the row that they are taken from, such as one `hstore(old.*)`."""
        declared = rf"{_whole(variable)}\s+(?:constant\s+)?{re.escape(table)}(?:%rowtype)?\s*(?:$|:=|=|not\b|default\b)"
        return any(re.search(declared, statement, re.IGNORECASE) for statement in _statements(self.source))

    def writes(self) -> list[str]:
        """The tables that it writes to, as it names them."""
        return [found["target"] for line in _statements(self.source) for found in _WRITE.finditer(line)]


def read(connection: psycopg.Connection[Any]) -> list[Function]:
    """The app's functions whose source can be read."""
    return [Function(*row) for row in catalog.ask(connection, "functions")]


def is_named(table: str, written: str) -> bool:
    """Whether what a function writes may be a table: where it says no schema, one of that name."""
    space, name = split(table)
    there, _, here = written.rpartition(".")
    return _same(here, name) and (not there or _same(there, space))


def advise(table: catalog.Table, target: str, row: str) -> str:
    """How a trigger inserts what it inserted."""
    names = [column.name for column in table.columns]
    return f"insert into {target} ({listing(names)}) select {listing([f'{row}.{name}' for name in names])}"


def _same(written: str, name: str) -> bool:
    return written == name if '"' in written + name else written.lower() == name


def _statements(source: str) -> Iterator[str]:
    """The statements of a body, without comments, and with nothing in its texts."""
    code = _TOKENS.sub(lambda found: " " if found["comment"] else "''" if found["text"] else found[0], source)
    yield from code.split(";")


def _executed(source: str) -> Iterator[str]:
    """The statements that are put together of texts and run, as far as they stand there."""
    code = _TOKENS.sub(
        lambda found: " " if found["comment"] else found[0].strip("eE'") if found["text"] else found[0], source
    )
    for statement in code.replace("||", " ").split(";"):
        if re.search(r"\bexecute\b", statement, re.IGNORECASE):
            yield re.sub(r"\bformat\s*\(", " ", statement, flags=re.IGNORECASE)


def _has(statement: str, name: str) -> bool:
    return re.search(_whole(name), statement, 0 if '"' in name else re.IGNORECASE) is not None


def _whole(name: str) -> str:
    return rf'(?<![\w"$]){re.escape(name)}(?![\w"$])'


def _stars(statement: str) -> Iterator[str]:
    """Of whom each `*` is that stands for the columns of a row: `new`, an alias, or '' for all there are."""
    for found in _STAR.finditer(statement):
        before, after = statement[: found.start()], statement[found.end() :]
        if _BEFORE_ITEM.search(before) and not _COMPARED.match(after) and not _is_argument(before):
            yield (found["row"] or found["name"] or "").lower()


def _takes(query: str, name: str) -> bool:
    """Whether what is inserted has all columns of the rows that `name` is of; not what a query within it has."""
    outer = query.strip()
    while re.match(r"\(\s*(?:\(|select\b)", outer, re.IGNORECASE) and outer.endswith(")"):
        outer = outer[1:-1].strip()
    while (less := re.sub(r"\([^()]*\)", " ", outer)) != outer:
        outer = less
    alias = re.search(rf"{_whole(name)}\s+(?:as\s+)?([\w\"$]+)", outer, re.IGNORECASE)
    called = {"", name.lower(), *([alias[1].lower()] if alias else [])}
    return _has(outer, name) and any(star in called for star in _stars(outer))


def _is_argument(before: str) -> bool:
    """Whether what follows is within the parentheses of a function, such as `to_jsonb(new.*)`, `count(*)` or EXISTS."""
    depth = 0
    for place in range(len(before) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(before[place], 0)
        if depth < 0:
            depth = 0
            called = re.search(r"([\w\"]+)\s*$", before[:place])
            if called and not _PLAIN.fullmatch(called[1]) and not _is_list(before[:place]):
                return True
    return False


def _is_list(before: str) -> bool:
    """Whether the parentheses that follow are the columns of an INSERT, or of what WITH names."""
    return re.search(r"\b(?:into|with)\s+[\w\".%$]+\s*$", before, re.IGNORECASE) is not None
