"""The same experiment made so small that it runs in seconds: it shows that everything works, not how well."""

from typing import TypeVar

from attnlab.config.base import Config
from attnlab.config.experiment import Experiment
from attnlab.config.model import Model
from attnlab.config.task import Data, Dates, Task
from attnlab.config.training import Training

C = TypeVar("C", bound=Config)


def tiny(experiment: Experiment) -> Experiment:
    """Shrink data, sizes and steps; keep every kind, so the same code runs. Its own `-tiny` name keeps runs apart.

    Numerics: idempotent, and no number grows except to keep the widths that a dot product needs.
    """
    name = experiment.name if experiment.name.endswith("-tiny") else f"{experiment.name}-tiny"
    return _with(
        experiment,
        name=name,
        task=_task(experiment.task),
        model=_model(experiment.model),
        training=_training(experiment.training),
    )


def _with(config: C, **changes: object) -> C:
    """Copy with changes, checked like any config."""
    changed = config.model_copy(update=changes)
    return type(config).model_validate_json(changed.model_dump_json())


def _at_most(config: C, **limits: int) -> C:
    """Copy in which each named number is no larger than its limit."""
    return _with(config, **{name: min(getattr(config, name), limit) for name, limit in limits.items()})


def _task(task: Task) -> Task:
    decoding = _at_most(task.decoding, beam=2, n_best=2, min_length=5, max_length=30)
    tokenizer = _at_most(task.tokenizer, vocabulary=400)
    return _with(
        task, data=_data(task.data), tokenizer=tokenizer, max_length=min(task.max_length, 30), decoding=decoding
    )


def _data(data: Data) -> Data:
    """Files of a person's own are read whole: what is in them decides what is tested."""
    return _at_most(data, train=400, dev=40, test=60, max_items=2) if isinstance(data, Dates) else data


def _model(model: Model) -> Model:
    attention = model.attention
    if attention is not None and attention.score.kind == "additive":
        attention = _with(attention, score=_at_most(attention.score, hidden=16))
    return _with(
        model,
        embedding=min(model.embedding, 16),
        encoder=_with(model.encoder, hidden=16),
        decoder=_with(model.decoder, hidden=32),
        attention=attention,
    )


def _training(training: Training) -> Training:
    warmed = _with(training, optimizer=_at_most(training.optimizer, warmup_steps=2))
    return _at_most(warmed, steps=8, batch_tokens=512, buckets=1, evaluate_every=4)
