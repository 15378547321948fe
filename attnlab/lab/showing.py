"""Show the attention of one example: a picture, and a page for text."""

from collections.abc import Callable, Sequence
from pathlib import Path

from attnlab.lab.trained import TrainedModel, load
from attnlab.tasks.attention_map import Attended, View, unknown_words
from attnlab.tasks.layer_attention import DEFAULT, Selection
from attnlab.training.atomic_files import writing


def show(
    directory: Path,
    inputs: Sequence[str],
    selection: Selection = DEFAULT,
    predicted: Callable[[str], None] = lambda text: None,
    *,
    trust: bool = False,
) -> list[Path]:
    """Predict one example and draw its attention: a picture, and a page for text, in numbered files.

    Args:
        directory: the run.
        inputs: inputs in the task's format.
        selection: the attention of a Transformer to draw, if not the task's default.
        predicted: receives the best prediction.
        trust: as in `load`.

    Returns: the paths of the files.
    """
    trained = load(directory, trust=trust)
    if unknown := unknown_words(trained.unknown_words("\t".join(inputs))):
        trained.run.notify(unknown)
    maps = trained.attention_maps(trained.task.example(inputs), selection)
    best = maps[0]
    predicted(best.translation if isinstance(best, Attended) else best.answer)
    return draw(trained, maps, _next_name(trained.run.path("show")))


def draw(trained: TrainedModel, maps: Sequence[View], name: str) -> list[Path]:
    """Draw attention maps into files of the run and return their paths: NAME.png, and NAME.html for text.

    Args:
        trained: the run to write to.
        maps: of one example, the best prediction first; the picture shows the first one.
        name: path inside the run, without the ending.
    """
    from attnlab import viz  # matplotlib and Jinja: a second that `load` and `predict` do not need
    from attnlab.viz import page

    picture = trained.run.path(f"{name}.png")
    best, drawn = maps[0], [picture]
    with writing(picture):
        picture.parent.mkdir(parents=True, exist_ok=True)
        missing = viz.alignment(best, picture) if isinstance(best, Attended) else viz.regarded(best, picture)
    if isinstance(best, Attended):
        texts = [view for view in maps if isinstance(view, Attended)]
        title = trained.run.config.name
        drawn.append(trained.run.write_text(f"{name}.html", page.page(best.source, texts, title=title)))
    if missing:
        trained.run.notify(missing)
    return drawn


def _next_name(folder: Path) -> str:
    """Return the next unused name in a folder: attention_1, attention_2, ..."""
    numbers = (path.stem.removeprefix("attention_") for path in folder.glob("attention_*.*"))
    return f"{folder.name}/attention_{1 + max((int(text) for text in numbers if text.isdecimal()), default=0)}"
