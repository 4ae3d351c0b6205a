"""The two tenants' rows and the three drivers of the ORM's tests."""

from orm.conftest import a as a
from orm.conftest import b as b
from orm.conftest import driver as driver
from orm.conftest import filled as filled
from orm.conftest import world as world
