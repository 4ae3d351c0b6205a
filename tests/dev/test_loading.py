"""What a command is told to use of the app is found, or what is wrong is told with the app's own line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.dev.loading import load
from tenantry.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whose modules are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_attribute_of_a_module_is_found_at_any_depth(folder: Path) -> None:
    (folder / "its_models.py").write_text("class db:\n    Model = 42")
    assert load("its_models:db.Model", folder, what="metadata", example="--metadata app.models:Base") == 42


@pytest.mark.parametrize(
    ("module", "name", "sentences"),
    [
        ("x = 1", "its_models", ["is not named like module:Base.", "For example: --metadata app.models:Base"]),
        ("x = 1", "its_model:Base", ["There is no module 'its_model' in", "Name the app's folder with --app-dir."]),
        ("x = 1", "its_models:Base", ["The module 'its_models' has no 'Base'.", "Is the metadata named so?"]),
        ("import os\nurl = os.environ['NO_SUCH_URL']", "its_models:x", ["KeyError: 'NO_SUCH_URL'", "line 2: url = os"]),
        ("import json\n\njson.loads('{')", "its_models:x", ["JSONDecodeError", "its_models.py, line 3: json.loads"]),
        ("def (", "its_models:x", ["SyntaxError", "its_models.py, line 1"]),
        ("import sys\nsys.exit(0)", "its_models:x", ["SystemExit: 0", "its_models.py, line 2"]),
        ("import nothing_there", "its_models:x", ["No module named 'nothing_there'", "its_models.py, line 1"]),
    ],
)
def test_what_cannot_be_had_is_a_sentence(folder: Path, module: str, name: str, sentences: list[str]) -> None:
    (folder / "its_models.py").write_text(module)
    with pytest.raises(ConfigurationError) as caught:
        load(name, folder, what="metadata", example="--metadata app.models:Base")
    for sentence in sentences:
        assert sentence in str(caught.value)
