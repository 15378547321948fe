"""Evaluation of a run on its test sets, with attention maps of a few examples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.data.records import Splits
from attnlab.lab.showing import draw
from attnlab.lab.trained import TrainedModel, load
from attnlab.results.per_example import PerExampleScores
from attnlab.results.scores import RESULTS, UnwrittenScores, check_writable
from attnlab.system.stages import stage
from attnlab.tasks.layer_attention import DEFAULT
from attnlab.tasks.registry import task_class
from attnlab.training.atomic_files import writing
from attnlab.training.progress import EvaluationProgress

EXAMPLES = 3
"""Number of examples of the first test set whose attention is drawn."""


def evaluate(
    directory: Path,
    data_dir: Path | None,
    splits: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    wrote: Callable[[Path], None] = lambda path: None,
    *,
    trust: bool = False,
) -> dict[str, dict[str, Any]]:
    """Evaluate a run on its test sets; write results.json, per_example/, and the attention of a few examples.

    Args:
        directory: the run directory.
        data_dir: directory of datasets, as in training.
        splits: names of test sets, "dev", or names of `Task.evaluation_sets`; None for all test sets.
        changes: overrides of decoding settings, as in `load`; the scores are returned and not written.
        wrote: called with the path of every file that was written.
        trust: as in `load`.

    Returns: {split: {metric: value}}.

    Raises:
        UserError: a split is unknown, the data differ from the training data, or results cannot be written; raised
            before the evaluation.
        UnwrittenScores: the scores could not be written; the exception holds them.
    """
    trained = load(directory, changes, trust=trust)
    data, notes = evaluation_data(trained, data_dir, splits or ())
    known = {name: examples for name, examples in data.splits().items() if name != "train"}
    for note in notes:
        trained.run.notify(note)
    chosen = splits or list(data.test)
    if changes:
        return {name: _scores(trained, name, known[name]) for name in chosen}
    check_writable(trained.run.directory)
    unwritten = UnwrittenScores()
    for name in chosen:
        scores = _scores(trained, name, known[name])
        per_example = PerExampleScores(data.fingerprint_of(name), scores.pop("per_example"))
        scores |= {"checkpoints": trained.steps, "trained_to": max(trained.run.checkpoints.steps())}
        try:
            wrote(trained.run.write_per_example(name, per_example))
            trained.run.write_results(name, scores)
        except UserError as error:
            unwritten.add(name, scores, per_example, error)
    if unwritten.scores:
        raise unwritten.save_elsewhere()
    wrote(trained.run.path(RESULTS))
    _draw(trained, chosen[0], known[chosen[0]][:EXAMPLES], wrote)
    return {name: trained.run.results()[name] for name in chosen}


def training_data(trained: TrainedModel, data_dir: Path | None) -> Splits[Any]:
    """Load the data that a run was trained and is evaluated on.

    Args:
        trained: the run.
        data_dir: directory of datasets, as in training.
    Raises:
        UserError: the data are missing, or differ from the training data.
    """
    config, directory = trained.run.config, trained.run.directory
    with stage("data"):
        data = task_class(config).load(config, data_dir)
        sha256 = data.fingerprint()
    if sha256 != trained.run.fingerprint["data"]:
        recorded = trained.run.fingerprint["data"]
        raise UserError(f"{directory}: was trained on different data (fingerprint {recorded[:12]}, now {sha256[:12]})")
    return data


def evaluation_data(
    trained: TrainedModel, data_dir: Path | None, names: Sequence[str]
) -> tuple[Splits[Any], list[str]]:
    """Load the data of splits: the run's own, and data sets that any run of its task can be evaluated on.

    The run's own data are not read if no split of theirs is named. A test set of the run hides a data set of its name.

    Args:
        trained: the run.
        data_dir: directory of datasets, as in training.
        names: of the splits; none for the run's own.
    Returns: the splits, data sets as further test sets among them, and lines on what is left out of these.
    Raises:
        UserError: there is no such split, or as `training_data`.
    """
    tests = getattr(trained.run.config.task.data, "test", ())
    own = tests if isinstance(tests, Mapping) else ("test",)
    others = {name: read for name, read in trained.task.evaluation_sets().items() if name not in own}
    if names and all(name in others for name in names):
        data: Splits[Any] = Splits((), (), {})
    else:
        data = training_data(trained, data_dir)
        refuse_unknown_splits(names, [*(name for name in data.splits() if name != "train"), *others])
    with stage("data"):
        sets = {name: others[name](data_dir) for name in names if name in others}
    test = {**data.test, **{name: found.examples for name, found in sets.items()}}
    notes = [f"{name}: {note}" for name, found in sets.items() for note in found.notes]
    return replace(data, test=test), notes


def fixed_examples(trained: TrainedModel, data_dir: Path | None) -> Sequence[Any]:
    """Return the examples whose attention `evaluate` draws: the first of the first test set.

    Args, Raises: as `training_data`.
    """
    data = training_data(trained, data_dir)
    return next(iter(data.test.values()))[:EXAMPLES]


def refuse_unknown_splits(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise `UserError`, which suggests the nearest name, if a split is unknown."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"--split {name}: unknown split; valid: {', '.join(known)}{hint}")


def _scores(trained: TrainedModel, split: str, examples: Sequence[Any]) -> dict[str, Any]:
    params = trained.params
    with EvaluationProgress(split, len(examples)) as progress:
        return trained.task.test_metrics(params, examples, progress)


def _draw(trained: TrainedModel, split: str, examples: Sequence[Any], wrote: Callable[[Path], None]) -> None:
    """Draw the attention of examples and the training curve; report files that cannot be written."""
    trained.run.notify(f"drawing the attention of {len(examples)} examples")
    for number, example in enumerate(examples, start=1):
        try:
            for path in draw(trained, trained.attention_maps(example, DEFAULT), f"attention/{split}_{number}"):
                wrote(path)
        except UserError as error:
            trained.run.notify(f"example {number} of {split} was not drawn: {error}")
    if log := trained.run.metrics():
        try:
            wrote(_draw_curve(log, trained.run.path("training.png")))
        except UserError as error:
            trained.run.notify(str(error))


def _draw_curve(log: Sequence[Mapping[str, Any]], path: Path) -> Path:
    from attnlab.viz.curves import training_curve  # matplotlib takes a second to import

    with writing(path):
        training_curve(log, path)
    return path
