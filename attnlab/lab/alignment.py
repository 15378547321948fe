"""Word alignment by a run's attention: scored against gold alignment, and for its predictions."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlab.config.errors import UserError
from attnlab.data.translation.records import SentencePair
from attnlab.data.translation.word_alignment import AlignedSentence
from attnlab.lab.trained import TrainedModel, load
from attnlab.results.run_files import ALIGNMENT
from attnlab.system.stages import stage
from attnlab.tasks.registry import task_class
from attnlab.training.progress import EvaluationProgress

if TYPE_CHECKING:
    from attnlab.analysis.alignment import AlignedPrediction, AlignmentReport, Choice, Reading, SourceAttention

READINGS: dict[str, "Reading"] = {"output": "output_step", "input": "input_step"}
"""Value of `attnlab predict --reading` -> the step at which a token is aligned."""
Texts = Sequence[tuple[str, str]]
"""Sentence pairs: (source, target)."""


def align(
    directory: Path | str,
    gold: Sequence[AlignedSentence],
    *,
    dev: int = 100,
    reverse: Path | str | None = None,
    detokenize: bool = False,
    aligners: Sequence[str] | None = None,
    text: Texts | None = None,
    data_dir: Path | None = None,
    trust: bool = False,
) -> "tuple[AlignmentReport, SourceAttention]":
    """Score the alignment of a run's attention against gold alignment, beside baselines; write alignment.json.

    The layer, the head and the reading are chosen on the first sentences, and scored on the others.

    Args:
        directory: the run directory of a translation.
        gold: sentence pairs with gold alignment, as `data.translation.alignment_files` reads them.
        dev: number of sentences to choose on.
        reverse: a run of the other direction, whose alignment is symmetrized with the run's.
        detokenize: remove the spaces that a tokenizer has put around punctuation marks before the model reads the
            sentences (see `data.translation.detokenization`).
        aligners: statistical aligners, of `analysis.alignment.ALIGNERS`; None for those that can run here.
        text: sentence pairs to train them on, besides the gold ones; None for the training pairs of the run.
        data_dir: directory of datasets, for the training pairs of the run.
        trust: as in `load`.

    Returns: the report, and the layers that it is of.

    Raises:
        UserError: the run is not of a translation, its model has no attention, there are too few sentences or none
            with a sure link, or an aligner does not run.
    """
    from attnlab.analysis.alignment import (
        ALIGNERS,
        alignment_report,
        available,
        source_attention,
        statistical_alignment,
    )

    _check_gold(gold, dev)
    trained = load(directory, trust=trust)
    attention = source_attention(trained.task)
    other = None if reverse is None else _reverse_run(trained, reverse, trust)
    names = available() if aligners is None else aligners
    if names and text is None:
        text = _training_text(trained, data_dir)
    links = {}
    for name in names:
        sizes = f"{len(gold):,} pairs" if not text else f"{len(text):,} and the {len(gold):,} pairs with gold alignment"
        trained.run.notify(f"{ALIGNERS.get(name, name)}: training on {sizes}")
        links[name] = statistical_alignment(name, gold, text or (), both=other is not None)
    forward = _attended(trained, gold, detokenize)
    backward = None if other is None else _attended(other, [pair.reversed() for pair in gold], detokenize)
    report = alignment_report(gold, forward, dev, reverse=backward, aligners=links)
    data = {"sentences": len(gold), "detokenized": detokenize, "checkpoints": trained.steps}
    data |= {"reverse": None if other is None else str(other.run.directory)}
    data |= {"trained_on": len(text or ())} | report.as_data(attention.names)
    trained.run.write_text(ALIGNMENT, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return report, attention


def aligned_prediction(
    trained: TrainedModel, layer: int | None = None, head: int | None = None, reading: str | None = None
) -> "AlignedPrediction":
    """Return what translates lines and aligns the translations with them.

    Without a layer, a head or a reading it is what `align` has chosen for the run; if that has not been called, and for
    what is not given, it is the mean of the heads of the model's reported layer at the output step.

    Args:
        trained: a run of a translation.
        layer: layer of the attention to the source, from 1.
        head: head of that layer, from 1; None for the mean of its heads.
        reading: "output" or "input", the step at which a token is aligned.

    Raises:
        UserError: the model has no attention to a source text, or lacks the layer or head.
    """
    from attnlab.analysis.alignment import AlignedPrediction, reported_choice, source_attention

    task: Any = trained.task
    attention = source_attention(task)
    reported = reported_choice(task, attention)
    source = "see `attnlab align` to choose a better one"
    if (layer, head, reading) != (None, None, None):
        if reading not in (None, *READINGS):
            raise UserError(f"--reading {reading}: must be {' or '.join(READINGS)}")
        number = attention.number(reported) if layer is None else layer
        return AlignedPrediction(task, attention.choice(number, head, READINGS[reading or "output"]))
    choice = _recorded_choice(trained, attention)
    if choice is not None:
        source = f"chosen in {trained.run.path(ALIGNMENT)}"
    choice = choice or reported
    trained.run.notify(f"alignment: {attention.describe(choice)} ({source})")
    return AlignedPrediction(task, choice)


def _recorded_choice(trained: TrainedModel, attention: "SourceAttention") -> "Choice | None":
    """Return the choice in alignment.json of a run, or None before it is written."""
    path = trained.run.path(ALIGNMENT)
    if not path.exists():
        return None
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))["chosen"]
        return attention.choice(chosen["layer"], chosen["head"], chosen["reading"])
    except (ValueError, KeyError, TypeError, OSError, RecursionError, UserError):
        raise UserError(f"{path}: is not what attnlab align has written for this run; delete it and repeat") from None


def _check_gold(gold: Sequence[AlignedSentence], dev: int) -> None:
    if not 0 < dev < len(gold):
        raise UserError(
            f"--dev {dev}: must be between 1 and {len(gold) - 1}, because the layer is chosen on the first of "
            f"{len(gold)} sentences and scored on the others"
        )
    for name, part in (("first", gold[:dev]), ("other", gold[dev:])):
        if not any(sentence.gold.sure for sentence in part):
            raise UserError(f"the gold alignment of the {name} {len(part)} sentences has no sure link; check --dev")


def _reverse_run(trained: TrainedModel, directory: Path | str, trust: bool) -> TrainedModel:
    from attnlab.analysis.alignment import source_attention

    other = load(directory, trust=trust)
    source_attention(other.task)  # raises if there is none
    languages = [_languages(model) for model in (trained, other)]
    if all(languages) and languages[0] != languages[1][::-1]:
        here, there = ("→".join(pair) for pair in languages)
        raise UserError(f"--reverse {directory}: translates {there}; the other direction of {here} is expected")
    return other


def _languages(trained: TrainedModel) -> tuple[str, ...]:
    """Return the names of source and target in the data, or nothing if the data do not name them."""
    names = (getattr(trained.run.config.task.data, side, None) for side in ("source", "target"))
    found = tuple(name for name in names if isinstance(name, str))
    return found if len(found) == 2 else ()


def _training_text(trained: TrainedModel, data_dir: Path | None) -> Texts:
    config = trained.run.config
    try:
        with stage("data"):
            pairs: Iterable[Any] = task_class(config).load(config, data_dir).train
    except UserError as error:
        raise UserError(
            f"{error}; the aligners are trained on the run's training pairs: or give --text SOURCE TARGET, or "
            "--aligners none"
        ) from error
    return [(pair.source, pair.target) for pair in pairs if isinstance(pair, SentencePair)]


def _attended(trained: TrainedModel, gold: Sequence[AlignedSentence], detokenize: bool) -> list[Any]:
    from attnlab.analysis.alignment import attended_sentences, tokenized

    task: Any = trained.task
    pairs, params = tokenized(task, gold, detokenize), trained.params
    with EvaluationProgress("gold alignment", len(pairs)) as progress:
        return attended_sentences(task, params, pairs, progress)
