"""The ownership of tables as a picture: SVG that stands by itself, drawn from the tenant on the left to the right.

Every table has one table above it at most, so what there is to draw is a forest. Each subtree has a band of the height
to itself; many leaves that hang on one table in one way are drawn as a block. Tables that get no tenant, and those that
are yet to be decided, have lanes of their own below.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from tenantry.adopt.catalog import Schema
from tenantry.adopt.graph import TENANT, Node, nodes
from tenantry.adopt.names import split
from tenantry.adopt.plan import Plan

_SIZE, _SMALL = 13.0, 11.0  # of letters, in pixels
_ADVANCE = 0.605  # of a letter of fixed width, by its size
_PADDING, _MARGIN, _LANE = 14.0, 28.0, 18.0
_LONGEST = 36  # letters of a name that are shown
_MANY = 40  # tables


@dataclass(frozen=True, slots=True)
class _Density:
    """`height` of boxes, and the room `between` them; more leaves than `block`, hanging on one table in one way, are a
    block, whose width is about `proportion` of its height."""

    height: float
    between: float
    block: int
    proportion: float

    def shape(self, count: int) -> tuple[int, int]:
        """Columns and rows of a block, filled downwards."""
        columns = max(1, round(math.sqrt(count * self.proportion * (self.height + self.between) / 170)))
        rows = math.ceil(count / columns)
        return math.ceil(count / rows), rows


_ROOMY, _TIGHT = _Density(44, 12, 6, 1.6), _Density(28, 8, 2, 8)


def draw(plan: Plan, schema: Schema) -> str:
    """The picture, for a light and a dark background. The full name of a table is its tooltip."""
    found = nodes(plan, schema)
    density = _TIGHT if len(found) > _MANY else _ROOMY
    picture = _Picture(_Labels(found, tight=density is _TIGHT), density)
    tenanted, shared, undecided = _grow(found, density.block)
    picture.head(found)
    if tenanted:
        picture.tree(tenanted)
    picture.lane("shared", "Shared: no tenant owns the rows", shared)
    picture.lane("undecided", "To be decided", undecided)
    return picture.text()


# --- the forest -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tree:
    """A table with what hangs on it; or a block of `leaves`, which have all but their names in common."""

    node: Node | None
    below: list[_Tree] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)

    @property
    def first(self) -> Node | None:
        return self.leaves[0] if self.leaves else self.node


def _grow(found: Sequence[Node], block: int) -> tuple[list[_Tree], list[_Tree], list[_Tree]]:
    """What gets a tenant, what is shared, and the rest: undecided, or hanging on that, or going round in circles."""
    below: dict[str, list[Node]] = defaultdict(list)
    for node in found:
        if node.above is not None:
            below[node.above].append(node)
    seen: set[str] = set()

    def grow(roots: Iterable[Node]) -> list[_Tree]:
        trees = []
        for node in roots:
            if node.table not in seen:
                seen.add(node.table)
                trees.append(_Tree(node, _pack(grow(below[node.table]), block)))
        return trees

    tenanted = grow(below[TENANT])
    shared = grow(node for node in found if node.above is None and node.tenant == "shared")
    undecided = [*grow(node for node in found if node.above is None), *grow(found)]
    return _pack(tenanted, block), _pack(shared, block), _pack(undecided, block)


def _pack(trees: list[_Tree], block: int) -> list[_Tree]:
    """Tables with others below them come first; many leaves of a kind become a block."""
    packed = [tree for tree in trees if tree.below]
    kinds: dict[tuple[object, ...], list[Node]] = defaultdict(list)
    for tree in trees:
        if tree.node and not tree.below:
            kinds[tree.node.above, tree.node.how, tree.node.enforced, tree.node.places].append(tree.node)
    for leaves in kinds.values():
        packed += [_Tree(None, leaves=leaves)] if len(leaves) > block else [_Tree(leaf) for leaf in leaves]
    return packed


# --- letters ----------------------------------------------------------------------------------------------------------


class _Labels:
    """What is written of tables; their schema only where there are several."""

    def __init__(self, found: Sequence[Node], *, tight: bool) -> None:
        self._one_schema = len({_split(node.table)[0] for node in found}) < 2
        self.tight = tight

    def name(self, node: Node) -> str:
        space, name = _split(node.table)
        return _cut(name if self._one_schema or not space else f"{space}.{name}")

    def note(self, node: Node) -> str:
        if self.tight:
            return _abbreviate(node.rows)
        return f"{node.rows:,} row" + ("" if node.rows == 1 else "s")

    def width(self, node: Node) -> float:
        name, note = _width(self.name(node), _SIZE), _width(self.note(node), _SMALL)
        return (name + note + 10 if self.tight else max(name, note)) + 2 * _PADDING


def _abbreviate(count: int) -> str:
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return (
                f"{count / size:.1f}".removesuffix(".0") + letter if count < 10 * size else f"{count // size}{letter}"
            )
    return str(count)


def _split(table: str) -> tuple[str, str]:
    try:
        return split(table)
    except ValueError:
        return "", table


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _width(text: str, size: float) -> float:
    """Letters of East Asia are twice as wide, and accents that join others take no room."""
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)
    return wide * size * _ADVANCE


def _written(text: str) -> str:
    """What XML can hold: a name in PostgreSQL may have characters that it cannot."""
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))


def _element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    told = "".join(f" {name.rstrip('_')}={quoteattr(_number(value))}" for name, value in attributes.items())
    return f"<{tag}{told}>{content}</{tag}>" if content else f"<{tag}{told}/>"


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


# --- drawing ----------------------------------------------------------------------------------------------------------


class _Picture:
    """Grows downwards from `_bottom`; lines are drawn below boxes."""

    def __init__(self, labels: _Labels, density: _Density) -> None:
        self._labels = labels
        self._density = density
        self._lanes: list[str] = []
        self._lines: list[str] = []
        self._boxes: list[str] = []
        self._right = 0.0
        self._bottom = _MARGIN

    def head(self, found: Sequence[Node]) -> None:
        counts = [
            (sum(node.tenant not in ("shared", "undecided") for node in found), "with a tenant"),
            (sum(node.tenant == "shared" for node in found), "shared"),
            (sum(node.tenant == "undecided" for node in found), "to be decided"),
        ]
        told = ", ".join(f"{count} {what}" for count, what in counts if count)
        tables = f"{len(found)} table" + ("" if len(found) == 1 else "s")
        self._write("Whose the rows are", "title", _MARGIN, self._bottom + 14, size=17)
        summary = f"{tables}: {told}" if told else tables
        self._write(summary, "note", _MARGIN, self._bottom + 36, size=_SIZE)
        self._bottom += 62
        if any(not node.enforced for node in found):
            self._write("- - -  no foreign key in the database", "note", _MARGIN, self._bottom - 6, size=_SMALL)
            self._bottom += 16

    def tree(self, trees: list[_Tree]) -> None:
        """The tenant, and what gets one."""
        width, height = _width("tenant", _SIZE) + 2 * _PADDING + 8, self._band(trees)
        middle = self._bottom + height / 2
        self._boxes.append(_element("rect", x=_MARGIN, y=middle - 18, width=width, height=36, rx=18, class_="tenant"))
        self._write("tenant", "on-tenant", _MARGIN + width / 2, middle + 4.5, anchor="middle")
        self._place(trees, self._columns(trees, _MARGIN + width), self._bottom, (_MARGIN + width, middle))
        self._bottom += height + _MARGIN

    def lane(self, kind: str, title: str, trees: list[_Tree]) -> None:
        """Tables that hang on no tenant, with what hangs on them, in a frame."""
        if not trees:
            return
        # Those with nothing below them stand side by side.
        alone = [
            leaf for tree in trees for leaf in tree.leaves or ([tree.node] if tree.node and not tree.below else [])
        ]
        trees = [tree for tree in trees if tree.below]
        left, top = _MARGIN + _LANE, self._bottom + 44
        columns = self._columns(trees, left - _gap([]))
        right, bottom = left, top
        if alone:
            width, height = self._grid(alone)
            self._cells(alone, left, top)
            right, bottom = left + width, top + height + self._density.between
        if trees:
            right = max(right, self._place(trees, columns, bottom, None))
            bottom += self._band(trees) + self._density.between
        width = max(right, left + _width(title, _SIZE)) + _LANE - _MARGIN
        frame: dict[str, float] = {
            "x": _MARGIN,
            "y": self._bottom,
            "width": width,
            "height": bottom + 6 - self._bottom,
            "rx": 12,
        }
        self._lanes.append(_element("rect", **frame, class_=f"lane {kind}"))
        self._write(title, f"heading {kind}", left, self._bottom + 27)
        self._right = max(self._right, _MARGIN + width)
        self._bottom = bottom + 6 + _MARGIN / 2

    def text(self) -> str:
        width, height = self._right + _MARGIN, self._bottom + _MARGIN / 2
        background = _element("rect", width=width, height=height, class_="background")
        parts = [f"<style>{_STYLE}</style>", background, *self._lanes, *self._lines, *self._boxes]
        size: dict[str, str | float] = {"width": width, "height": height}
        size["viewBox"] = f"0 0 {_number(width)} {_number(height)}"
        title = _element("title", "Whose the rows of each table are")
        return _element("svg", "\n".join(["", title, *parts, ""]), xmlns="http://www.w3.org/2000/svg", **size) + "\n"

    # where things are

    def _height(self, tree: _Tree) -> float:
        if tree.leaves:
            return self._grid(tree.leaves)[1] + 2 * self._density.between
        return max(self._density.height, self._band(tree.below))

    def _band(self, trees: list[_Tree]) -> float:
        return sum(self._height(tree) + self._density.between for tree in trees) - self._density.between

    def _columns(self, trees: list[_Tree], left: float) -> list[float]:
        """Where the boxes of each depth begin, after what ends at `left`."""
        columns = []
        level = trees
        while level:
            columns.append(left + _gap(level))
            single = [self._labels.width(tree.node) for tree in level if tree.node]
            left = columns[-1] + max(single, default=0)
            level = [child for tree in level for child in tree.below]
        return columns

    def _place(self, trees: list[_Tree], columns: list[float], top: float, above: tuple[float, float] | None) -> float:
        """Draws trees one under the other, joined to a point `above` that is left of them; answers where they end."""
        left, right = columns[0], columns[0]
        for tree in trees:
            height = self._height(tree)
            middle = top + height / 2
            if above and tree.first:
                self._join(tree.first, above, (left - (self._density.between if tree.leaves else 0), middle))
            if tree.node:
                self._box(tree.node, left, middle - self._density.height / 2)
                end = left + self._labels.width(tree.node)
                right = max(right, end)
                if tree.below:
                    start = top + (height - self._band(tree.below)) / 2
                    right = max(right, self._place(tree.below, columns[1:], start, (end, middle)))
            else:
                right = max(right, self._block(tree.leaves, left, top))
            top += height + self._density.between
        self._right = max(self._right, right)
        return right

    def _block(self, leaves: list[Node], left: float, top: float) -> float:
        width, height = self._grid(leaves)
        frame = {
            "x": left - self._density.between,
            "y": top,
            "width": width + 2 * self._density.between,
            "height": height + 2 * self._density.between,
        }
        self._lanes.append(_element("rect", **frame, rx=12, class_="lane block"))
        self._cells(leaves, left, top + self._density.between)
        return left + width + self._density.between

    def _grid(self, leaves: list[Node]) -> tuple[float, float]:
        columns, rows = self._density.shape(len(leaves))
        cell = max(map(self._labels.width, leaves))
        return columns * (cell + self._density.between) - self._density.between, rows * (
            self._density.height + self._density.between
        ) - self._density.between

    def _cells(self, leaves: list[Node], left: float, top: float) -> None:
        """Boxes of one width, read downwards."""
        _, rows = self._density.shape(len(leaves))
        cell = max(map(self._labels.width, leaves))
        for n, leaf in enumerate(leaves):
            column, row = divmod(n, rows)
            self._box(
                leaf,
                left + column * (cell + self._density.between),
                top + row * (self._density.height + self._density.between),
                cell,
            )

    # what is drawn

    def _box(self, node: Node, x: float, y: float, width: float = 0) -> None:
        kind = "place" if node.places else node.tenant if node.tenant in ("shared", "undecided") else "owned"
        width = width or self._labels.width(node)
        self._boxes.append(f"<g>{_element('title', _written(node.table))}")
        self._boxes.append(
            _element("rect", x=x, y=y, width=width, height=self._density.height, rx=8, class_=f"box {kind}")
        )
        if self._labels.tight:
            self._write(self._labels.name(node), "name", x + _PADDING, y + 18.5)
            self._write(self._labels.note(node), "note", x + width - _PADDING, y + 18.5, size=_SMALL, anchor="end")
        else:
            self._write(self._labels.name(node), "name", x + _PADDING, y + 19)
            self._write(self._labels.note(node), "note", x + _PADDING, y + 34, size=_SMALL)
        self._boxes.append("</g>")

    def _join(self, node: Node, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A line that leaves and arrives level, with the column over its end."""
        (x, y), (to_x, to_y) = start, end
        bend = min(56.0, (to_x - x) / 2)
        path = (
            f"M{_number(x)} {_number(y)} C{_number(x + bend / 2)} {_number(y)} {_number(x + bend / 2)} {_number(to_y)}"
        )
        kind = "line dotted" if node.places else "line" if node.enforced else "line dashed"
        settled = f"{_number(x + bend)} {_number(to_y)} H{_number(to_x)}"
        self._lines.append(_element("path", d=f"{path} {settled}", class_=kind))
        self._write(_cut(node.how), "how", to_x - 8, to_y - 6.5, size=_SMALL, anchor="end")

    def _write(self, text: str, kind: str, x: float, y: float, *, size: float = _SIZE, anchor: str = "") -> None:
        if text:
            more = {"text-anchor": anchor} if anchor else {}
            told: dict[str, str | float] = {"x": x, "y": y, "font-size": size, "class": kind, **more}
            self._boxes.append(_element("text", _written(text), **told))


def _gap(trees: list[_Tree]) -> float:
    """The room for lines between two depths, and for what is written over them."""
    written = [_width(_cut(tree.first.how), _SMALL) for tree in trees if tree.first]
    return 72 + max(written, default=0)


_STYLE = """
text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1c2330 }
.title, .heading { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; font-weight: 600 }
.background { fill: #ffffff }
.note, .how { fill: #667085 }
.how { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
.line { fill: none; stroke: #98a2b3; stroke-width: 1.5 }
.dotted { stroke-dasharray: 1.5 4; stroke-linecap: round; stroke-width: 2 }
.dashed { stroke-dasharray: 6 4 }
.tenant { fill: #3538cd }
.on-tenant { fill: #ffffff; font-weight: 600 }
.box { stroke-width: 1.25 }
.owned { fill: #f5f6ff; stroke: #6172f3 }
.place { fill: #f2f4f7; stroke: #3538cd; stroke-dasharray: 1.5 4; stroke-linecap: round; stroke-width: 2 }
.box.shared { fill: #f2f4f7; stroke: #98a2b3 }
.box.undecided { fill: #fef3f2; stroke: #d92d20; stroke-dasharray: 5 4 }
.lane { fill: #f9fafb; stroke: #e4e7ec }
.lane.undecided { fill: #fffbfa; stroke: #fecdca }
.heading.shared { fill: #475467 }
.heading.undecided { fill: #b42318 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e9ef }
  .background { fill: #10141c }
  .note, .how { fill: #98a2b3 }
  .how { stroke: #10141c }
  .line { stroke: #667085 }
  .tenant { fill: #6172f3 }
  .owned { fill: #1b2140; stroke: #6172f3 }
  .place { fill: #1d2430; stroke: #8098f9 }
  .box.shared { fill: #1d2430; stroke: #667085 }
  .box.undecided { fill: #351a1a; stroke: #f97066 }
  .lane { fill: #151a24; stroke: #2a3242 }
  .lane.undecided { fill: #1f1518; stroke: #55302f }
  .heading.shared { fill: #cbd2dc }
  .heading.undecided { fill: #fda29b }
}
"""
