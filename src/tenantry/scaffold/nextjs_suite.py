"""What `tenantry init nextjs` writes: the templates of `nextjs/` in the variant that a project's facts ask for.

`NAME.drizzle.ts` and its like are written as `NAME.ts` where that is chosen. A test goes with the files it imports.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

from tenantry.roles import RoleMap
from tenantry.scaffold import environment, templates
from tenantry.scaffold.nextjs_generated import fill_permissions, write_sync
from tenantry.scaffold.plan import Merge, Wanted
from tenantry.scaffold.project import NextProject, Orm, find_existing

OrgName = Literal["id", "slug"]

SUITE = "clerk-multitenant"
RECORD = f"{SUITE}/tenantry.json"
ROUTE = "app/api/webhooks/clerk/route.ts"
PROXY = "proxy.ts"
ORMS: tuple[Orm, ...] = ("pg", "drizzle", "prisma")
ORG_NAMES: tuple[OrgName, ...] = ("id", "slug")

_SYNC = f"{SUITE}/db-sync.sql"
_PRISMA_CLIENT = "../generated/prisma/client"  # what the template imports, for it to compile
_ORM_VARIANT = re.compile(r"\.(drizzle|prisma)(?=\.ts$)")
_NOT_OF_THE_API_SHAPE = {
    ROUTE,
    *(f"{SUITE}/{name}.ts" for name in ("connection", "database", "mirror", "tenant", "webhook-handler")),
}
_OF_THE_API_SHAPE = {f"{SUITE}/tenant-fetch.server.ts"}
_LONG = 130  # characters
_NOT_OF_PRISMA = {f"{SUITE}/connection.ts"}


@dataclass(frozen=True)
class Choice:
    """What the user chose. `api` is the address of the FastAPI that owns the data; without one the data is here."""

    orm: Orm = "pg"
    by: OrgName = "id"  # what /orgs/[org] names an organization by
    api: str | None = None

    @property
    def switches(self) -> dict[str, bool]:
        """What the templates' markers may name."""
        return {"id": self.by == "id", "slug": self.by == "slug"}

    def options(self) -> dict[str, str]:
        """As a record remembers them."""
        return {"by": self.by, **({"orm": self.orm} if self.api is None else {"api": self.api})}


def plan_files(project: NextProject, choice: Choice, texts: Mapping[str, str]) -> list[Wanted]:
    """Every file of a rendered suite, placed in a project, and its `.env.example`."""
    folder = project.source.relative_to(project.root)
    files = []
    for path, text in texts.items():
        place = (folder / _place(path, project)).as_posix()
        files.append(Wanted(place, text, _reason(path, text), _merge(path, text), bulky=path == _SYNC))
    example = environment.add_lines(project.root / ".env.example", environment.nextjs_lines(choice.api))
    return [*files, Wanted(".env.example", example, "What the app reads from its environment.", adds=True)]


def render_suite(choice: Choice, roles: RoleMap, *, prisma_client: str = _PRISMA_CLIENT) -> dict[str, str]:
    """Path under the source folder -> text, of every file of the suite."""
    sources = {path: _source(path, choice) for path in _names(choice)}
    texts = {path: templates.render(_read(source), choice.switches) for path, source in sources.items()}
    if choice.orm == "prisma" and choice.api is None:
        path = f"{SUITE}/database.ts"
        texts[path] = texts[path].replace(_PRISMA_CLIENT, prisma_client)
    path = f"{SUITE}/permissions.ts"
    texts[path] = fill_permissions(texts[path], roles)
    if choice.api is None:
        texts[_SYNC] = write_sync(choice.orm)
    return texts


# --- which templates, and where ---------------------------------------------------------------------------------------


def _names(choice: Choice) -> list[str]:
    """The files of the suite, each by the name without its variant."""
    templates_there = {_ORM_VARIANT.sub("", path) for path in _walk(resources.files("tenantry.scaffold") / "nextjs")}
    left_out = _OF_THE_API_SHAPE if choice.api is None else _NOT_OF_THE_API_SHAPE
    if choice.api is None and choice.orm == "prisma":
        left_out = left_out | _NOT_OF_PRISMA
    kept = templates_there - left_out
    tests = {path for path in kept if path.endswith((".test.ts", ".test.tsx")) and _needs(path) <= kept}
    return sorted({path for path in kept if not is_test(path)}.union(tests, *map(_needs, tests)))


def _source(path: str, choice: Choice) -> str:
    """The template a file is rendered from."""
    variant = re.sub(r"(?=\.ts$)", f".{choice.orm}", path)
    there = resources.files("tenantry.scaffold").joinpath("nextjs", *variant.split("/")).is_file()
    return variant if there and choice.api is None else path


def _read(path: str) -> str:
    return templates.read(f"nextjs/{path}")


def _walk(folder: Traversable, prefix: str = "") -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in ("generated", "node_modules"):
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".ts", ".tsx")):
            yield f"{prefix}{entry.name}"


def is_test(path: str) -> bool:
    """Whether a file is a test, or what tests need."""
    return path.startswith(f"{SUITE}/tests/")


def _needs(path: str) -> set[str]:
    """What a test imports, and what its helpers beside it import."""
    found: set[str] = set()
    left = _imports(path)
    while left:
        found |= left
        left = set().union(*(_imports(one) for one in left if is_test(one))) - found
    return found


def _imports(path: str) -> set[str]:
    """The files of the suite that a template imports, be they .ts or .tsx."""
    text = _read(path)
    relative = re.findall(r"""(?:from|import|mock)\s*\(?\s*["'](\.{1,2}/[^"']+)["']""", text)
    return {_resolve(posixpath.normpath(posixpath.join(posixpath.dirname(path), name))) for name in relative}


def _resolve(path: str) -> str:
    folder = resources.files("tenantry.scaffold") / "nextjs"
    endings = (ending for ending in (".ts", ".tsx") if folder.joinpath(*f"{path}{ending}".split("/")).is_file())
    return path + next(endings, "")


def _place(path: str, project: NextProject) -> str:
    """Where a file goes: the one that runs before every request has another name before Next.js 16."""
    if path == PROXY:
        existing = find_existing(project.source, "middleware", "proxy")
        return existing.name if existing is not None else project.proxy_name
    if path == ROUTE:
        existing = find_existing((project.source / path).parent, "route")
        return path if existing is None else existing.relative_to(project.source).as_posix()
    return path


# --- what is said of them ---------------------------------------------------------------------------------------------


def _reason(path: str, text: str) -> str:
    """How the comment begins that every file opens with: a sentence at most, to its first colon if it is long."""
    if path == _SYNC:
        return "The schema, as `tenantry db sql` prints it."
    comment = re.search(r"/\*\*(.*?)(?:\n \*\n|\*/)", text, re.DOTALL)
    words = " ".join(line.strip(" *") for line in comment[1].splitlines()).strip() if comment else ""
    sentence = re.split(r"(?<=\.)\s", words, maxsplit=1)[0]
    if len(sentence) > _LONG:
        sentence = re.split(r"[:;]\s", sentence, maxsplit=1)[0]
    return f"{sentence.rstrip('.:')}."


def _merge(path: str, text: str) -> Merge | None:
    """For the files that an app may have already: what must be in them too."""
    signs = {PROXY: "stateOrganization", ROUTE: "webhook-handler"}
    return Merge(re.sub(r"\A/\*\*.*?\*/\s*", "", text, flags=re.DOTALL), signs[path]) if path in signs else None
