"""What SQLAlchemy models add to the catalog, and what they cannot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, registry, relationship, remote
from sqlalchemy.sql.elements import quoted_name

from tenantry.adopt import models, ownership
from tenantry.adopt.catalog import Column, Index, Reference, Schema, Table, View
from tenantry.adopt.names import format_target
from tenantry.adopt.plan import Rows
from tenantry.errors import ConfigurationError


def table(name: str, *columns: str, key: str = "id", references: tuple[Reference, ...] = ()) -> Table:
    """With a key of numbers, and columns of numbers, but for those called ...text."""
    made = (
        Column(key, "bigint", True),
        *(Column(c, "text" if c.endswith("text") else "bigint", True) for c in columns),
    )
    keys = (Index("pkey", (key,), unique=True, primary=True),)
    return Table(name, "owner", made, keys, references, rows=10_000)


def schema(*tables: Table, views: tuple[View, ...] = ()) -> Schema:
    return Schema({each.name: each for each in tables}, views, login="owner")


def added(found: Schema) -> dict[str, list[str]]:
    """What refers to what, by the models alone: `articles` -> `author_id -> public.users (id)`."""
    declared = {name: [r for r in each.references if not r.enforced] for name, each in found.tables.items()}
    return {
        name: [f"{', '.join(r.columns)} -> {format_target(r.target, r.target_columns)}" for r in references]
        for name, references in declared.items()
        if references
    }


def metadata(*tables: tuple[str, dict[str, str]], space: str | None = None) -> sa.MetaData:
    """Tables with columns of numbers, and what each refers to."""
    made = sa.MetaData(schema=space)
    for name, columns in tables:
        keys = [sa.Column("id", sa.BigInteger, primary_key=True)]
        keys += [sa.Column(c, sa.BigInteger, *([sa.ForeignKey(to)] if to else [])) for c, to in columns.items()]
        sa.Table(name, made, *keys)
    return made


BLOG: tuple[tuple[str, dict[str, str]], ...] = (
    ("users", {}),
    ("articles", {"author_id": "users.id"}),
    ("comments", {"article_id": "articles.id"}),
)
TABLES = (table("public.users"), table("public.articles", "author_id"), table("public.comments", "article_id"))


def test_a_foreign_key_that_only_the_models_have_says_whose_the_rows_are() -> None:
    found, notices = models.complete(schema(*TABLES), metadata(*BLOG), "app:metadata")
    assert notices == []
    plan, why = ownership.propose(found, Rows())
    decisions = {decision.table: (decision.tenant, decision.refers_to) for decision in plan.decisions}
    assert decisions["public.articles"] == ("owner", "public.users (id)")
    assert decisions["public.comments"] == ("reference", "public.articles (id)")
    assert why["public.comments"].reason == (
        "article_id leads to its owner: the models say so, the database does not see to it"
    )


def test_one_that_the_database_has_stays_what_it_is() -> None:
    enforced = Reference("fkey", ("author_id",), "public.users", ("id",))
    articles = table("public.articles", "author_id", references=(enforced,))
    found, _ = models.complete(schema(TABLES[0], articles, TABLES[2]), metadata(*BLOG), "app:metadata")
    assert found.tables["public.articles"].references == (enforced,)


def test_relationships_refer_where_their_join_is_plain() -> None:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Article(Base):
        __tablename__ = "articles"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int]
        author: Mapped[User] = relationship(primaryjoin=lambda: foreign(Article.author_id) == User.id)
        comments: Mapped[list[Any]] = relationship(
            "Comment", primaryjoin="Article.id == foreign(Comment.article_id)", viewonly=True
        )

    class Comment(Base):
        __tablename__ = "comments"
        id: Mapped[int] = mapped_column(primary_key=True)
        article_id: Mapped[int]

    class Like(Base):
        __tablename__ = "likes"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing_id: Mapped[int]
        thing_text: Mapped[str]
        article: Mapped[Article] = relationship(
            primaryjoin=lambda: sa.and_(foreign(Like.thing_id) == remote(Article.id), Like.thing_text == "article")
        )

    tables = (*TABLES, table("public.likes", "thing_id", "thing_text"))
    expected = {
        "public.articles": ["author_id -> public.users (id)"],
        "public.comments": ["article_id -> public.articles (id)"],
    }
    for given in (Base, Base.registry, SimpleNamespace(metadata=Base.metadata, Model=Base)):
        found, notices = models.complete(schema(*tables), given, "app:Base")
        assert (added(found), notices) == (expected, [])
    found, _ = models.complete(schema(*tables), Base.metadata, "app:metadata")  # knows of no relationships
    assert added(found) == {}


def test_both_joins_of_a_table_between_two_are_references() -> None:
    class Base(DeclarativeBase):
        pass

    likes = sa.Table(
        "likes", Base.metadata, sa.Column("user_id", sa.BigInteger), sa.Column("article_id", sa.BigInteger)
    )

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Article(Base):
        __tablename__ = "articles"
        id: Mapped[int] = mapped_column(primary_key=True)
        fans: Mapped[list[User]] = relationship(
            secondary=likes,
            primaryjoin=lambda: Article.id == foreign(likes.c.article_id),
            secondaryjoin=lambda: foreign(likes.c.user_id) == User.id,
        )

    found, _ = models.complete(schema(*TABLES, table("public.likes", "user_id", "article_id")), Base, "app:Base")
    assert sorted(added(found)["public.likes"]) == [
        "article_id -> public.articles (id)",
        "user_id -> public.users (id)",
    ]


def test_tables_of_one_side_alone_are_told() -> None:
    found = schema(*TABLES, table("public.audit"), views=(View("public.published", "owner", (), False),))
    _, notices = models.complete(found, metadata(*BLOG, ("tags", {}), ("published", {})), "app:metadata")
    assert notices == [
        "The models have tags, and the database does not.",
        "The database has public.audit, and the models do not.",
    ]


def test_names_are_found_as_postgresql_has_them() -> None:
    given = sa.MetaData()
    sa.Table("user", given, sa.Column("Id", sa.BigInteger, primary_key=True), schema="My App")
    sa.Table(
        "Order",
        given,
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("select", sa.BigInteger, sa.ForeignKey("My App.user.Id")),
        sa.Column(quoted_name("Other", quote=False), sa.BigInteger, sa.ForeignKey("My App.user.Id")),
    )
    tables = (table('"My App"."user"', key='"Id"'), table('public."Order"', '"select"', "other"))
    found, notices = models.complete(schema(*tables), given, "app:metadata")
    assert notices == []
    assert added(found) == {'public."Order"': ['other -> "My App"."user" ("Id")', '"select" -> "My App"."user" ("Id")']}


@pytest.mark.parametrize("space", ["tenant", None])
def test_a_schema_that_is_chosen_at_run_time_is_found_by_the_names_of_its_tables(space: str | None) -> None:
    there = (table("app.users"), table("app.articles", "author_id"), table("app.comments", "article_id"))
    prefix = f"{space}." if space else ""
    given = metadata(
        ("users", {}),
        ("articles", {"author_id": f"{prefix}users.id"}),
        ("comments", {"article_id": f"{prefix}articles.id"}),
        space=space,
    )
    found, notices = models.complete(schema(*there), given, "app:metadata")
    assert notices == []
    assert added(found)["app.comments"] == ["article_id -> app.articles (id)"]


def test_a_table_that_two_schemas_have_is_the_one_the_models_say() -> None:
    there = (*TABLES, table("other.users"), table("other.articles", "author_id"))
    found, notices = models.complete(schema(*there), metadata(*BLOG), "app:metadata")
    assert added(found)["public.articles"] == ["author_id -> public.users (id)"]
    assert "The database has other.users, and the models do not." in notices


@pytest.mark.parametrize(
    ("articles", "sentence"),
    [
        (
            table("public.articles", "other_id"),
            "(author_id) refer to public.users (id), and the database cannot: it has",
        ),
        (
            Table("public.articles", "owner", (Column("id", "bigint"), Column("author_id", "text")), TABLES[0].indexes),
            "author_id is text, and id of public.users is bigint",
        ),
    ],
)
def test_what_the_database_could_not_refer_to_is_told_and_left_out(articles: Table, sentence: str) -> None:
    found, notices = models.complete(schema(TABLES[0], articles, TABLES[2]), metadata(*BLOG), "app:metadata")
    assert "public.articles" not in added(found)
    assert [notice for notice in notices if sentence in notice]


def test_a_key_to_a_table_that_the_models_lack_is_told() -> None:
    given = metadata(("users", {}), ("articles", {"author_id": "people.id"}))
    found, notices = models.complete(schema(*TABLES), given, "app:metadata")
    assert added(found) == {}
    assert [notice for notice in notices if notice.startswith("The models' articles: ") and "people" in notice]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (42, "'app:it' is a int, and has no MetaData."),
        (sa.MetaData(), "'app:it' has no tables."),
        (metadata(("planets", {})), "None of the 1 tables of 'app:it' is in the database."),
    ],
)
def test_what_are_no_models_of_this_database_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        models.complete(schema(*TABLES), given, "app:it")


def test_models_that_contradict_themselves_are_refused() -> None:
    class Base(DeclarativeBase):
        registry = registry()

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        pets: Mapped[list[Any]] = relationship("Pet")

    with pytest.raises(ConfigurationError, match="contradict themselves") as caught:
        models.complete(schema(*TABLES), Base, "app:Base")
    assert "Pet" in (caught.value.detail or "")
    Base.registry.dispose()
