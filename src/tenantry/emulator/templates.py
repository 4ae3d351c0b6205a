"""The templates of a package's pages: whatever a page shows is escaped, and a value it lacks is an error."""

from __future__ import annotations

import jinja2


def load(package: str) -> jinja2.Environment:
    """Those in the folder `templates` of `package`."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
