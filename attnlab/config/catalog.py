"""What there is to choose from: the experiments at hand, and the kinds and named choices of every setting."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from attnlab.config.experiment import Experiment
from attnlab.config.explain import kind_of, models_of

CHECKOUT = Path(__file__).resolve().parents[2] / "experiments"


def experiments() -> Iterator[tuple[Path, str]]:
    """List the experiments of the current directory, else of the checkout: each file and its card's first line."""
    folder = next((f for f in (Path("experiments"), CHECKOUT) if f.is_dir()), None)
    for path in sorted(folder.rglob("*.yaml")) if folder else ():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        yield path, first.removeprefix("#").strip() if first.startswith("#") else ""


def choices(model: type[BaseModel] = Experiment, place: str = "") -> Iterator[tuple[str, list[str]]]:
    """List every setting that is chosen by name, with the names.

    >>> dict(choices())["training.optimizer.schedule"]
    ['constant', 'linear', 'cosine', 'inverse_sqrt']
    """
    for name, field in model.model_fields.items():
        models = models_of(field.annotation)
        if len(models) > 1:
            yield f"{place}{name}.kind", [kind for kind in map(kind_of, models) if kind]
        elif get_origin(field.annotation) is Literal and name != "kind":
            yield f"{place}{name}", [str(choice) for choice in get_args(field.annotation)]
        merged: dict[str, list[str]] = {}  # kinds may name a setting alike, and differ in what it may be
        for inside in models:
            for at, names in choices(inside, f"{place}{name}."):
                known = merged.setdefault(at, [])
                known += [each for each in names if each not in known]
        yield from merged.items()
