"""Attention maps of a single example as a picture and an HTML page."""

from collections.abc import Callable, Sequence
from pathlib import Path

from attnlab.lab.trained import TrainedModel, load
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.layer_attention import DEFAULT, Selection
from attnlab.training.atomic_files import writing
from attnlab.viz.text import unknown_words_message


def show(
    directory: Path,
    inputs: Sequence[str],
    selection: Selection = DEFAULT,
    predicted: Callable[[str], None] = lambda text: None,
    *,
    trust: bool = False,
) -> list[Path]:
    """Predict one example and draw its attention as PNG and HTML, in numbered files.

    Args:
        directory: the run directory.
        inputs: inputs in the task's format.
        selection: the attention to draw, if not the default of the task.
        predicted: called with the best prediction.
        trust: as in `load`.

    Returns: the paths of the files.
    """
    trained = load(directory, trust=trust)
    if unknown := unknown_words_message(trained.unknown_words("\t".join(inputs))):
        trained.run.notify(unknown)
    maps = trained.attention_maps(trained.task.parse_example(inputs), selection)
    predicted(maps[0].prediction)
    return draw(trained, maps, _next_name(trained.run.path("show")))


def draw(trained: TrainedModel, maps: Sequence[AnyAttentionMap], name: str) -> list[Path]:
    """Draw attention maps into the files NAME.png and NAME.html of a run and return their paths.

    Args:
        trained: the run to write to.
        maps: attention maps of an example, best prediction first; the picture shows only the first map.
        name: path inside the run, without extension.
    """
    from attnlab.viz import page, picture  # matplotlib and Jinja take a second to import

    path = trained.run.path(f"{name}.png")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        missing_fonts = picture.draw(maps[0], path)
    html = page.render(maps, title=trained.run.config.name)
    if missing_fonts:
        trained.run.notify(missing_fonts)
    return [path, trained.run.write_text(f"{name}.html", html)]


def _next_name(folder: Path) -> str:
    """Return the next unused name in a folder: attention_1, attention_2, ..."""
    numbers = (path.stem.removeprefix("attention_") for path in folder.glob("attention_*.*"))
    return f"{folder.name}/attention_{1 + max((int(text) for text in numbers if text.isdecimal()), default=0)}"
