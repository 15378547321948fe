"""The pages of docs/config describe every config key, and are what docs/reference.py writes today."""

import importlib.util
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from attnlab.config.base import Config
from attnlab.config.experiment import Experiment

FOLDER = Path(__file__).parents[1] / "docs"
spec = importlib.util.spec_from_file_location("reference", FOLDER / "reference.py")
assert spec
assert spec.loader
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def test_the_pages_are_up_to_date():
    written = reference.pages()
    assert written.keys() == {path.stem for path in (FOLDER / "config").iterdir()}
    for name, text in written.items():
        assert (FOLDER / f"config/{name}.md").read_text() == text, "run python docs/reference.py"


def test_every_key_is_described():
    text = "".join(reference.pages().values())
    models = {model for group in reference.groups() for model in group.models}
    assert Experiment in models
    assert len(models) > 80
    for model in models:
        for key in model.model_fields.keys() - {"kind"}:
            assert f"\n| `{key}` | " in text, f"{model.__name__}.{key}"


class Explained(Config):
    """An example."""

    width: Annotated[int, Field(ge=1, le=8)] = 4
    """Width of the | thing."""
    names: tuple[str, ...] = ("a", "b")
    """Some *names*."""
    rate: float | None
    """Null for none."""


def test_a_key_has_its_type_its_default_and_its_meaning():
    assert list(reference.rows(Explained, {}))[3:] == [
        "| `width` | integer ≥ 1, ≤ 8 | `4` | Width of the \\| thing. |",
        "| `names` | list of strings | `[a, b]` | Some \\*names\\*. |",
        "| `rate` | number or `null` | required | Null for none. |",
    ]


def test_a_default_that_is_a_section_has_its_kinds():
    defaults = "".join(reference.pages().values())
    assert "| `{score: {kind: scaled_dot}}` |" in defaults
    assert "| `{beam: 1, max_length: 40}` |" in defaults
    assert "| its defaults |" in defaults


def test_a_key_without_a_meaning_is_an_error():
    class Unexplained(Config):
        """An example."""

        width: int = 4

    with pytest.raises(ValueError, match=r"Unexplained\.width"):
        list(reference.rows(Unexplained, {}))
