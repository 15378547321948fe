"""Explanations of predictions as HTML pages: of one input, or of the fixed examples of a run."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlab.config.errors import UserError
from attnlab.lab.evaluation import fixed_examples
from attnlab.lab.trained import TrainedModel, load
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.input_parts import Granularity
from attnlab.training.atomic_files import write_whole

if TYPE_CHECKING:
    from attnlab.analysis.explain import Explanations

FOLDER = "explain"
WHOLE_PREDICTION = TargetSelection()


@dataclass(frozen=True)
class ExplanationSettings:
    """What to explain, and how.

    Attributes:
        methods: names of methods; empty for the quick ones, ("all",) for every one that the model can have.
        selection: the target.
        granularity: "token", "word" or "sentence".
    """

    methods: tuple[str, ...] = ()
    selection: TargetSelection = WHOLE_PREDICTION
    granularity: Granularity = "word"


@dataclass(frozen=True, eq=False)
class ExplanationPage:
    """An explained prediction with its page, which a notebook shows.

    Attributes:
        explanations: by every method.
        html: the page.
    """

    explanations: "Explanations"
    html: str

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, which cannot touch the notebook."""
        frame = f'sandbox="allow-scripts" srcdoc="{escape(self.html)}"'
        return f'<iframe {frame} style="width:100%;height:44rem;border:0" title="explanation"></iframe>'

    def save(self, path: Path | str) -> Path:
        """Write the page to a file and return its path."""
        write_whole(Path(path), self.html)
        return Path(path)


def explain(
    directory: Path,
    inputs: Sequence[str] = (),
    settings: ExplanationSettings | None = None,
    *,
    data_dir: Path | None = None,
    out: Path | None = None,
    command: Sequence[str] = (),
    predicted: Callable[[str], None] = lambda text: None,
    trust: bool = False,
) -> Iterator[Path]:
    """Explain a prediction, or those of the run's fixed examples, and write a page for each.

    Args:
        directory: the run directory.
        inputs: inputs in the task's format; none for the examples whose attention `evaluate` draws.
        settings: methods, target and granularity; None for the defaults.
        data_dir: directory of datasets, for the fixed examples.
        out: file of the page; None for explain/explanation_N.html in the run. Further pages get numbers.
        command: the command line, which stands on the page.
        predicted: called with each prediction.
        trust: as in `load`.

    Yields: the path of each page, when it is written.
    """
    trained, settings = load(directory, trust=trust), settings or ExplanationSettings()
    trained.chosen_methods(settings.methods, settings.granularity)  # refuses before anything is read or computed
    if inputs:
        examples = [trained.task.parse_example(inputs)]
    else:
        examples = _fixed_examples(trained, data_dir)
    failures = 0
    for number, example in enumerate(examples, start=1):
        if len(examples) > 1:
            trained.run.notify(f"example {number} of {len(examples)}")
        try:
            page = explanation_page(trained, example, settings, shlex.join(command), trained.run.notify)
        except UserError as error:
            failures += 1
            if failures == len(examples):
                raise
            trained.run.notify(f"example {number} of {len(examples)} was not explained: {error}")
            continue
        predicted(page.explanations.first.prediction)
        yield _write(trained, page, out, number)


def explanation_page(
    trained: TrainedModel,
    example: Any,
    settings: ExplanationSettings | None = None,
    command: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> ExplanationPage:
    """Explain the prediction of an example and return its page.

    Args:
        trained: the run.
        example: as `task.parse_example` returns it.
        settings: methods, target and granularity; None for the defaults.
        command: the command line, which stands on the page.
        progress: called with what is computed next.
    """
    from attnlab.viz.explanation_page import render  # Jinja takes a moment to import, like the analyses

    chosen = settings or ExplanationSettings()
    explanations = trained.explain_example(example, chosen.methods, chosen.selection, chosen.granularity, progress)
    texts = [text for text in explanations.texts.values() if text]
    html = render(
        explanations,
        title=trained.run.config.name,
        command=command,
        image=trained.task.picture(example),
        unknown_words=tuple(trained.unknown_words(*texts)),
        details={"run": str(trained.run.directory), "checkpoint": _steps(trained.steps)},
    )
    return ExplanationPage(explanations, html)


def _fixed_examples(trained: TrainedModel, data_dir: Path | None) -> Sequence[Any]:
    try:
        return fixed_examples(trained, data_dir)
    except UserError as error:
        hint = f"or give an INPUT: {trained.task.input_format}"
        raise UserError(f"without an INPUT the examples of the run are explained, but {error}; {hint}") from error


def _steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]:,}" if len(steps) == 1 else f"mean of steps {', '.join(f'{step:,}' for step in steps)}"


def _write(trained: TrainedModel, page: ExplanationPage, out: Path | None, number: int) -> Path:
    if out is None:
        return trained.run.write_text(_next_name(trained.run.path(FOLDER)), page.html)
    path = out if number == 1 else out.with_stem(f"{out.stem}_{number}")
    return page.save(path)


def _next_name(folder: Path) -> str:
    """Return the next unused name in a folder: explanation_1.html, explanation_2.html, ..."""
    numbers = (path.stem.removeprefix("explanation_") for path in folder.glob("explanation_*.html"))
    return f"{folder.name}/explanation_{1 + max((int(text) for text in numbers if text.isdecimal()), default=0)}.html"
