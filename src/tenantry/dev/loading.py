"""Imports what a command is told to use of the app, by name; what the app's own code raises is told with its line."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

from tenantry.errors import ConfigurationError, TenantryError


def load(name: str, folder: Path, *, what: str, example: str) -> Any:
    """`module:attribute`, its module found in `folder` first. `what` it is, in sentences, and how to give it.

    Raises ConfigurationError with what is wrong with the name, or what the module's own code raised and where.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        form = example.rpartition(":")[2]
        raise ConfigurationError(
            f"The {what} '{name}' is not named like module:{form}.", hint=f"For example: {example}"
        )
    sys.path.insert(0, str(folder))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"There is no module '{error.name}' in {folder}.", hint="Name the app's folder with --app-dir."
            ) from None
        raise _import_failure(what, name, folder, error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  the app's own code, which may raise anything
        raise _import_failure(what, name, folder, error) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(
                f"The module '{module_name}' has no '{attribute}'.", hint=f"Is the {what} named so?"
            )
        found = getattr(found, part)
    return found


def _import_failure(what: str, name: str, folder: Path, error: BaseException) -> ConfigurationError:
    """With the last line that ran of the app's own, else of whatever it calls."""
    frames = [f for f in traceback.extract_tb(error.__traceback__)[1:] if "importlib" not in f.filename]
    inside = [f for f in frames if Path(f.filename).is_relative_to(folder) and "site-packages" not in f.filename]
    told = str(error) if isinstance(error, TenantryError) else f"{type(error).__name__}: {error}"
    where = [f"{frame.filename}, line {frame.lineno}: {frame.line}" for frame in (inside or frames)[-1:]]
    if isinstance(error, SyntaxError):
        where = [f"{error.filename}, line {error.lineno}"]
    return ConfigurationError(f"The {what} '{name}' fails to import.", detail="\n".join([told, *where]))
