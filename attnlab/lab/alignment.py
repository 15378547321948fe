"""Word alignment by a run's attention: scored against gold alignment, and for its predictions."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlab.config.errors import UserError
from attnlab.config.explain import shortened
from attnlab.data.translation.records import SentencePair
from attnlab.data.translation.word_alignment import AlignedSentence
from attnlab.lab.evaluation import training_data
from attnlab.lab.trained import TrainedModel, load
from attnlab.results.run_files import ALIGNMENT
from attnlab.training.progress import EvaluationProgress
from attnlab.training.steps import fingerprint

if TYPE_CHECKING:
    from attnlab.analysis.alignment import (
        AlignedPrediction,
        AlignmentReport,
        AttendedSentence,
        Choice,
        Reading,
        SourceAttention,
    )

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

    The layer, the head and the reading are chosen on the first sentences, and scored on the others. The other reading
    and the norms of attention are reported beside it, each with its own layer and head.

    Args:
        directory: the run directory of a translation.
        gold: sentence pairs with gold alignment, as `data.translation.alignment_files` reads them.
        dev: number of sentences to choose on.
        reverse: a run of the other direction, whose alignment is symmetrized with the run's.
        detokenize: remove the spaces that a tokenizer has put around punctuation marks before the model reads the
            sentences (see `data.translation.detokenization`).
        aligners: statistical aligners, of `analysis.alignment.ALIGNERS`; None for those that can run here.
        text: sentence pairs (in the direction of the run) to train them on, besides the gold ones; None for the
            training pairs of the run.
        data_dir: directory of datasets, for the training pairs of the run.
        trust: as in `load`.

    Returns: the report, and the layers that it is of.

    Raises:
        UserError: the run is not of a translation, its model has no attention, there are too few sentences or none
            with a sure link, the data are not those of the training, text is given for no aligner, an aligner does not
            run, or there is NaN or Inf in the attention.
    """
    from attnlab.analysis.alignment import (
        ALIGNERS,
        alignment_report,
        available,
        check_aligners,
        source_attention,
        statistical_alignment,
    )

    _check_gold(gold, dev)
    names = check_aligners(available() if aligners is None else aligners)
    if text and not names:
        raise UserError("--text: it is the aligners that are trained on it, and --aligners none leaves them out")
    trained = load(directory, trust=trust)
    attention = source_attention(trained.task)
    other = None if reverse is None else _reverse_run(trained, reverse, trust)
    if names and text is None:
        text = _training_text(trained, data_dir)
    forward, exact = _attended(trained, gold, detokenize)
    backward = None if other is None else _attended(other, [pair.reversed() for pair in gold], detokenize)[0]
    links = {}
    for name in names:
        others = f"{len(text):,} sentence pairs and on " if text else ""
        trained.run.notify(f"{ALIGNERS[name]}: training on {others}the texts of the {len(gold):,} with gold alignment")
        links[name] = statistical_alignment(name, gold, text or (), both=other is not None)
    report = alignment_report(gold, forward, dev, reverse=backward, aligners=links)
    data = {"sentences": len(gold), "detokenized": detokenize, "exactly_tokenized": exact}
    data |= {"checkpoint": _checkpoint(trained)}
    data |= {"reverse": other and {"run": str(other.run.directory), "checkpoint": _checkpoint(other)}}
    data |= {"trained_on": len(text or ())} | report.as_data()
    trained.run.write_text(ALIGNMENT, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return report, attention


def aligned_prediction(
    trained: TrainedModel, layer: int | None = None, head: int | None = None, reading: str | None = None
) -> "AlignedPrediction":
    """Return what translates lines and aligns the translations with them.

    It is what `align` has chosen for the run; before `align` is called it is the mean of the heads of the model's
    reported layer at the output step. A given head or reading replaces that of this choice.

    Args:
        trained: a run of a translation.
        layer: layer of the attention to the source, from 1; the choice of `align` is then not used.
        head: head of the layer, from 1; None for that of the choice, or with `layer` the mean of its heads.
        reading: "output" or "input", the step at which a token is aligned; None for that of the choice, or with
            `layer` "output".

    Raises:
        UserError: the model has no attention to a source text, or lacks the layer or head, or alignment.json is not of
            this run with its present parameters.
    """
    from attnlab.analysis.alignment import AlignedPrediction, source_attention

    task: Any = trained.task
    attention = source_attention(task)
    choice, source = _selected(trained, attention, layer, head, reading)
    trained.run.notify(f"alignment: {attention.describe(choice)}{source}")
    return AlignedPrediction(task, choice)


def _selected(
    trained: TrainedModel, attention: "SourceAttention", layer: int | None, head: int | None, reading: str | None
) -> "tuple[Choice, str]":
    """Return which attention is read for the options of `aligned_prediction`, and in brackets what has decided it."""
    from attnlab.analysis.alignment import reported_choice

    if reading not in (None, *READINGS):
        raise UserError(f"--reading {reading}: must be {' or '.join(READINGS)}")
    step = None if reading is None else READINGS[reading]
    if layer is not None:
        return attention.choice(layer, head, step or "output_step"), ""
    task: Any = trained.task
    recorded = _recorded_choice(trained, attention)
    base, source = recorded or reported_choice(task, attention), "see `attnlab align` to choose a better one"
    if recorded is not None:
        given = [f"--{name}" for name, value in (("head", head), ("reading", reading)) if value is not None]
        source = f"chosen in {trained.run.path(ALIGNMENT)}" + (f", but for {' and '.join(given)}" if given else "")
    choice = attention.choice(attention.number(base), base.head if head is None else head, step or base.reading)
    return choice, f" ({source})"


def _checkpoint(trained: TrainedModel) -> dict[str, Any]:
    """Return what identifies the parameters of a run."""
    return {"steps": trained.steps, "sha256": fingerprint(trained.params)}


def _recorded_choice(trained: TrainedModel, attention: "SourceAttention") -> "Choice | None":
    """Return the choice in alignment.json of a run, or None before it is written."""
    path = trained.run.path(ALIGNMENT)
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        choice = _choice_of(data["chosen"], attention)
        steps, sha256 = data["checkpoint"]["steps"], data["checkpoint"]["sha256"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError, UserError) as error:
        fault = f": {error}" if isinstance(error, UserError) else ""
        raise UserError(
            f"{path}: is not what attnlab align has written for this run{fault}; delete it and repeat attnlab align, "
            "or give --layer"
        ) from None
    if {"steps": steps, "sha256": sha256} != _checkpoint(trained):
        raise UserError(
            f"{path}: the choice was made for other parameters (of checkpoints {shortened(steps)}; now "
            f"{shortened(trained.steps)}); repeat attnlab align, or give --layer"
        )
    return choice


def _choice_of(chosen: Mapping[str, Any], attention: "SourceAttention") -> "Choice":
    """Return the choice that a record describes; anything that `align` does not write raises an error."""
    layer, head, reading, quantity = (chosen[name] for name in ("layer", "head", "reading", "quantity"))
    for name, value in (("layer", layer), ("head", head)):
        if not (value is None or type(value) is int):
            raise UserError(f"chosen.{name} is {shortened(value)}, not a number or null")
    for name, value, valid in (("reading", reading, READINGS.values()), ("quantity", quantity, ("weights",))):
        if value not in valid:
            raise UserError(f"chosen.{name} is {shortened(value)}, not {' or '.join(valid)}")
    try:
        return attention.choice(layer, head, reading)
    except UserError as error:
        raise UserError(f"chosen.{str(error).removeprefix('--')}") from None


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
    """Return the training pairs of a run; data that are not those of its training are refused."""
    try:
        pairs = training_data(trained, data_dir).train
    except UserError as error:
        raise UserError(
            f"{error}; the aligners are trained on the run's training pairs: or give --text SOURCE TARGET, or "
            "--aligners none"
        ) from error
    return [(pair.source, pair.target) for pair in pairs if isinstance(pair, SentencePair)]


def _attended(
    trained: TrainedModel, gold: Sequence[AlignedSentence], detokenize: bool
) -> "tuple[list[AttendedSentence], int]":
    """Return the attention to sentence pairs, and the number of pairs in which each token is of one word."""
    from attnlab.analysis.alignment import attended_sentences, tokenized

    task: Any = trained.task
    pairs = tokenized(task, gold, detokenize)
    exact = sum(pair.exact for pair in pairs)
    if exact < len(pairs):
        trained.run.notify(
            f"{len(pairs) - exact} of {len(pairs)} sentence pairs have tokens of several words, which count for the "
            "first of them, or words without a token, which are not linked"
        )
    with EvaluationProgress("gold alignment", len(pairs)) as progress:
        return attended_sentences(task, trained.params, pairs, progress, norms=True), exact
