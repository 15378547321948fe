"""The base model of a run: a trained classifier whose attention weights guide the run's model, or whose predictions an
adversary imitates.

It is another run, read when training begins, and never trained. What predictions need of it is copied into the new run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from flax import serialization
from jaxtyping import PyTree

from attnlab.config import Experiment
from attnlab.config.classification import Classification
from attnlab.config.code import announced, code_of, recorded_code, refuse_other_code
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.models.classifier import Frozen, TransformerClassifier
from attnlab.config.run_paths import missing_run
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.system.messages import print_to_stderr
from attnlab.tasks.classification.attention_maps import ATTENTION_POOLINGS, ClassifiedText, special_tokens
from attnlab.tasks.poll import Poll, no_poll
from attnlab.training.checkpoints import Checkpoints
from attnlab.training.log import METRICS, read_log
from attnlab.training.loop import should_stop_early
from attnlab.training.parameters import average, read_parameters
from attnlab.training.progress import EvaluationProgress
from attnlab.training.steps import fingerprint, replicated

COPY = Path("base")
"""Folder of a run with the copy of its base model: config.yaml and params.msgpack."""
SHARED = ("tokenizer", "split_contractions", "max_length", "truncation")
"""Settings of the task that both runs must have in common, so that they have the same tokens."""


class TextClassifier(Protocol):
    """The part of a `ClassificationTask` that a base model uses."""

    config: Experiment
    labels: tuple[str, ...]

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def monitor(self) -> str: ...

    def initialize(self, rng: jax.Array) -> PyTree: ...

    def classify_encoded(
        self, params: PyTree, ids: Sequence[np.ndarray], poll: Poll = no_poll
    ) -> list[ClassifiedText]: ...


@dataclass(eq=False)
class BaseModel:
    """A trained classifier that is not trained any more."""

    task: TextClassifier
    params: PyTree
    config_text: str
    """Its config.yaml as it was read. Written anew it would get the keys that later versions of attnlab add, and runs
    that have recorded its fingerprint could not be loaded."""

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of its parameters."""
        return fingerprint(self.params)

    def classify(self, ids: Sequence[np.ndarray]) -> list[ClassifiedText]:
        """Return the class probabilities and the attention weights of each text, without dropout."""
        return self.task.classify_encoded(self.params, ids)

    def classify_training_texts(self, ids: Sequence[np.ndarray]) -> list[ClassifiedText]:
        """Do the same with a progress line, as it may take a minute."""
        with EvaluationProgress("base model", len(ids), then="preparing the batches") as progress:
            return self.task.classify_encoded(self.params, ids, progress)

    def files(self) -> Mapping[str, str | bytes]:
        """Return the copy for another run: its config, and its parameters in Flax's msgpack format."""
        params = serialization.msgpack_serialize(jax.device_get(self.params))
        return {str(COPY / "config.yaml"): self.config_text, str(COPY / "params.msgpack"): params}


def is_guided(config: Experiment) -> bool:
    """Return whether the model of an experiment has the attention weights of a base model."""
    return isinstance(getattr(config.model, "pooling", None), Frozen)


def named_base(config: Experiment) -> tuple[str, Path] | None:
    """Return the key of a config that names a base model, and the model's run directory; None if it names none."""
    task, pooling = config.task, getattr(config.model, "pooling", None)
    if isinstance(pooling, Frozen):
        return "model.pooling.run", Path(pooling.run)
    if isinstance(task, Classification) and task.objective is not None:
        return "task.objective.base", Path(task.objective.base)
    return None


def base_summary(config: Experiment, base: BaseModel | None) -> list[str]:
    """Return a line for the log that names the base model, if there is one."""
    named = named_base(config)
    return [f"base model: {named[1]} (sha256 {base.fingerprint[:12]})"] if named and base else []


def read_base(
    config: Experiment, labels: Sequence[str], restore: Callable[[Experiment, Path], TextClassifier]
) -> BaseModel | None:
    """Read the base model that an experiment names from its run directory; None if it names none.

    Args:
        config: the experiment.
        labels: the classes of its data.
        restore: (config of the base model, its run directory) -> its task.

    Raises:
        UserError: there is no such run, its training is not complete, or it does not fit the experiment.
    """
    named = named_base(config)
    if named is None:
        return None
    key, directory = named
    where = f"{key} {directory}"
    if not (directory / "config.yaml").is_file():
        raise UserError(f"{key}: {missing_run(directory)}")
    base = load(directory / "config.yaml")
    if reason := _misfit(config, base):
        raise UserError(f"{where}: {reason}")
    advice = f"name a run whose code is unchanged in {key}"
    refuse_other_code(directory, code_of(base), recorded_code(directory), advice)
    _announce_code(directory, base)
    task = restore(base, directory)
    if task.labels != tuple(labels):
        raise UserError(f"{where}: has the classes {', '.join(task.labels)}; the data have {', '.join(labels)}")
    return BaseModel(task, _parameters(directory, task, where), _text_of(directory))


def read_copy(directory: Path, task_of: Callable[[Experiment], TextClassifier]) -> BaseModel:
    """Read the copy of a base model from the run directory that `BaseModel.files` were written to.

    Args:
        directory: the run directory.
        task_of: config of the base model -> its task, with the tokenizer and the classes of the run.
    """
    path = directory / COPY / "params.msgpack"
    config = load(directory / COPY / "config.yaml")
    _announce_code(directory / COPY, config)
    task = task_of(config)
    try:
        params = serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # msgpack has several types for damaged data
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {error})") from None
    return BaseModel(task, jax.device_put(params, replicated()), _text_of(directory / COPY))


def _text_of(directory: Path) -> str:
    return (directory / "config.yaml").read_bytes().decode()  # read_text would change line ends


def _announce_code(directory: Path, config: Experiment) -> None:
    if code := code_of(config):
        print_to_stderr(f"{directory}: {announced(code)}")


def _misfit(config: Experiment, base: Experiment) -> str | None:
    """Return why a run cannot be the base model of an experiment, or None."""
    if not isinstance(base.task, Classification):
        return f"is a run of the task {base.task.kind}; it must be one of {config.task.kind}"
    for name in SHARED:
        own, other = getattr(config.task, name), getattr(base.task, name)
        if own != other:
            return f"has task.{name} {_text(other)}, and this experiment {_text(own)}; they must be equal"
    model: Any = base.model
    pooling = model.pooling.kind
    uniform = pooling == "mean" and not isinstance(model, TransformerClassifier)  # its attention is self-attention
    if pooling not in ATTENTION_POOLINGS and not uniform:
        other = f"; name {model.pooling.run}, whose weights it has" if isinstance(model.pooling, Frozen) else ""
        return f"its pooling {pooling} computes no attention weights{other}"
    if special_tokens(model) != special_tokens(config.model):
        return "its model puts special tokens around the text, and this one does not, or the other way around"
    own_hops, hops = (getattr(getattr(m, "pooling", None), "hops", 1) for m in (config.model, model))
    if not is_guided(config) and own_hops != hops:
        return f"its pooling has {hops} hops, and model.pooling {own_hops}; they must be equal"
    return None


def _text(value: Any) -> str:
    return str(value.model_dump(mode="json") if hasattr(value, "model_dump") else value)


def _parameters(directory: Path, task: TextClassifier, where: str) -> PyTree:
    def refuse(line: str) -> None:
        raise UserError(f"{where}: {line}")

    training = task.config.training
    checkpoints = Checkpoints(directory / "checkpoints", training.keep_last, refuse, writable=False)
    steps = checkpoints.steps()
    if not steps or not _complete(directory, task, max(steps)):
        reached = f"is at step {max(steps)} of {training.steps}" if steps else "has no checkpoint"
        raise UserError(f"{where}: its training {reached}; attnlab train {directory / 'config.yaml'} resumes it")
    found = [params for _, params in read_parameters(checkpoints, task.initialize, training)]
    if not found:
        raise UserError(f"{where}: no checkpoint that training.average_last {training.average_last} counts is left")
    if len(found) < training.average_last:
        averaged = "a single checkpoint is used" if len(found) == 1 else f"{len(found)} checkpoints are averaged"
        print_to_stderr(f"{where}: {averaged} instead of {training.average_last}; no others are left")
    return average(found)


def _complete(directory: Path, task: TextClassifier, last: int) -> bool:
    """Return whether a training whose last checkpoint is given took all steps, or stopped early."""
    training = task.config.training
    log = read_log(directory / METRICS, print_to_stderr)
    scores = [(entry["step"], entry.get(task.monitor)) for entry in log if entry["step"] <= last]
    history = [(step, score) for step, score in scores if score is not None]
    return last >= training.steps or should_stop_early(history, training.patience)
