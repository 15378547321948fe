"""The small facts of a run that its numbers rest on: read from a run directory, and kept where it is not.

What is kept is laid out like a run directory (config.yaml, environment.json, metrics.jsonl, results.json) and read like
one, but holds numbers only: no text of a data set, no path of a machine, of the log only the looks at dev.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.config.catalog import no_run
from attnlab.config.errors import UserError
from attnlab.config.load import differing
from attnlab.config.yaml_text import dump, parse
from attnlab.results.run import CONFIG, DECODING, ENVIRONMENT, METRICS, environment_of, log_of
from attnlab.results.scores import RESULTS, results_of
from attnlab.tasks.base import Task
from attnlab.tasks.registry import CLASSES, task_class_of_kind
from attnlab.training.atomic_files import write_whole
from attnlab.training.loop import hopeless

KEPT = ("attnlab", "commit", "dirty", "python", "packages", "devices", "cores", "processor", "step")
"""What is kept of an environment, and of one in which a run went on: command and platform may name a machine."""
_PATH = re.compile(r"/\w|~\w*/|\\\\|[A-Za-z]:[/\\]")


@dataclass(frozen=True)
class Facts:
    """What a run is and how it came out.

    Attributes:
        directory: where it was read.
        config: its config.yaml as it stands there, so that a run of an older attnlab can still be told.
        environment: its environment.json.
        log: its metrics.jsonl.
        results: {test set: {score: value}}.
    """

    directory: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    results: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Of the experiment."""
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        """Of the experiment."""
        return self.config["seed"]

    @property
    def kind(self) -> str:
        """Of the task."""
        return self.config["task"]["kind"]

    @property
    def task(self) -> type[Task]:
        """The class for the task."""
        return task_class_of_kind(self.kind)

    @property
    def identity(self) -> str:
        """What is equal in runs that differ in nothing but the seed."""
        config = {name: value for name, value in self.config.items() if name != "seed"}
        fingerprint = self.environment["fingerprint"]
        return json.dumps([config, fingerprint.get("data"), fingerprint.get("pretrained")], sort_keys=True)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Texts `key=value` that made the config differ from its file, the seed's left out; none where not recorded."""
        return tuple(text for text in self.environment.get("overrides", ()) if text.partition("=")[0] != "seed")

    @property
    def steps(self) -> int:
        """How many steps the config asks for."""
        return self.config["training"]["steps"]

    @property
    def step(self) -> int:
        """How many steps the log goes."""
        return max((entry["step"] for entry in self.log), default=0)

    @property
    def finished(self) -> bool:
        """Whether the training is at its end: all steps taken, or no longer getting better."""
        measure = self.task.monitor
        history = [(entry["step"], entry[measure]) for entry in self.log if entry.get(measure) is not None]
        return self.step >= self.steps or hopeless(history, self.config["training"].get("patience"))

    @property
    def seconds(self) -> float:
        """Wall time spent in training over all its sessions, with dev and compilation, without the time between them.

        Steps that a kill made undone are counted; those after the last line of a session's log are not (below 50).
        """
        lost = sum(one.get("seconds_lost", 0.0) for one in self.environment.get("interruptions", ()))
        return lost + max((entry.get("seconds", 0.0) for entry in self.log), default=0.0)

    @property
    def interruptions(self) -> int | None:
        """How often the training was taken up again; None for a run of an attnlab that did not keep it."""
        if "interruptions" not in self.environment:
            return None
        return sum(one["step"] < self.step for one in self.environment["interruptions"])

    @property
    def machine(self) -> str:
        """The machine, or those one after the other."""
        return ", then ".join(dict.fromkeys(map(_machine, self._environments())))

    @property
    def jax(self) -> str:
        """Version of jax, or those one after the other."""
        return ", then ".join(dict.fromkeys(each["packages"]["jax"] for each in self._environments()))

    @property
    def commit(self) -> str:
        """Commit of attnlab, or those one after the other; + for uncommitted changes; its version without checkout."""
        return ", then ".join(dict.fromkeys(map(_commit, self._environments())))

    def _environments(self) -> Iterator[Mapping[str, Any]]:
        yield self.environment
        yield from (one for one in self.environment.get("resumed", ()) if one.get("step", 0) < self.step)


def read(directory: Path, unfinished: bool = False) -> Facts:
    """Read the facts of a run that has been evaluated.

    Args:
        directory: of a run, or what `save` kept of one.
        unfinished: take also a run whose training is not at its end.
    Raises:
        UserError: it is no run, is not trained to its end, has not been evaluated since, or its config.yaml was edited;
            the line says what to do.
    """
    facts = Facts(directory, _config(directory), environment_of(directory), log_of(directory), results_of(directory))
    _sound(facts)
    again = f"attnlab train {directory / CONFIG} goes on"
    if not facts.log:
        raise UserError(f"{directory}: has no log of a training; {again}")
    if not facts.finished and not unfinished:
        raise UserError(
            f"{directory}: is at step {facts.step} of {facts.steps}; {again} (--unfinished shows it as it is)"
        )
    if not facts.results:
        raise UserError(f"{directory}: has not been evaluated; attnlab evaluate {directory}")
    for split, scores in facts.results.items():
        if facts.finished and (reached := scores.get("trained_to", facts.step)) != facts.step:
            raise UserError(
                f"{directory}: {split} was scored at step {reached}, and the training went on to {facts.step}; "
                f"attnlab evaluate {directory}"
            )
    return facts


def save(facts: Facts, folder: Path) -> Path:
    """Keep the facts of a run in a directory of the run's name, numbers only; return it.

    Raises:
        UserError: the directory holds another run, or the config names a path of this machine.
    """
    if found := next(_paths(facts.config), None):
        raise UserError(f"{facts.directory / CONFIG}: {found} is a path of this machine: the run is not kept")
    kept = folder / facts.directory.resolve().name
    if (kept / CONFIG).exists() and (_config(kept) != facts.config):
        raise UserError(f"{kept}: holds another run; rename {facts.directory} or remove it")
    environment = {
        **_reduced(facts.environment),
        "fingerprint": facts.environment["fingerprint"],
        **{name: facts.environment[name] for name in ("overrides", "interruptions") if name in facts.environment},
        **{name: list(map(_reduced, facts.environment[name])) for name in ("resumed",) if name in facts.environment},
    }
    log = [entry for entry in facts.log if facts.task.monitor in entry or entry is facts.log[-1]]
    results = {split: dict(_numbers(scores)) for split, scores in facts.results.items()}
    texts = {
        CONFIG: dump(dict(facts.config)),
        ENVIRONMENT: json.dumps(environment, indent=1) + "\n",
        METRICS: "".join(json.dumps(entry) + "\n" for entry in log),
        RESULTS: json.dumps(results, indent=1) + "\n",
    }
    for name, text in texts.items():
        write_whole(kept / name, text)
    return kept


def _config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        config = parse(path.read_text(encoding="utf-8"), str(path)).data
    except OSError:
        raise no_run(directory) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    try:
        sound = config["task"]["kind"] in CLASSES
        sound = sound and all(isinstance(n, int) for n in (config["seed"], config["training"]["steps"]))
        sound = sound and isinstance(config["name"], str)
    except (TypeError, KeyError):
        sound = False
    if not sound:
        raise UserError(f"{path}: is not the config of a run (name, seed, task.kind and training.steps are needed)")
    return config


def _sound(facts: Facts) -> None:
    """Refuse files that are JSON but not what a run writes."""
    try:
        _ = facts.machine, facts.jax, facts.commit, facts.interruptions, facts.seconds + 0.0, facts.overrides
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{facts.directory / ENVIRONMENT}: cannot be read as a run's environment ({told})") from None
    began = facts.environment.get("config", facts.config)
    for place, there, here in differing(began, facts.config):
        if not place.startswith(DECODING):
            raise UserError(
                f"{facts.directory / CONFIG}: was edited after training began: "
                f"{place}: {there} in training, {here} in {CONFIG}; put it back"
            )


def _machine(environment: Mapping[str, Any]) -> str:
    """Name the GPUs, or the cores where there are none."""
    kinds = Counter(
        kind for platform, _, kind in (device.partition(": ") for device in environment["devices"]) if platform != "cpu"
    )
    if kinds:
        return " + ".join(f"{count} × {kind}" for kind, count in kinds.items())
    cores, processor = environment["cores"], environment.get("processor")
    return f"{cores} core{'s' if cores > 1 else ''}" + (f" of {processor}" if processor else ", CPU")


def _commit(environment: Mapping[str, Any]) -> str:
    if environment["commit"] is None:
        return f"attnlab {environment['attnlab']}"
    return environment["commit"][:7] + ("+" if environment["dirty"] else "")


def _reduced(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: environment[name] for name in KEPT if name in environment}


def _numbers(scores: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers, flat lists of numbers, None for them, signatures and notes; all else may hold texts of a data set."""
    for name, value in scores.items():
        numbers = value is None or _is_number(value) or (isinstance(value, list) and all(map(_is_number, value)))
        if numbers or (name.endswith(("_signature", "_note")) and isinstance(value, str)):
            yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _paths(value: Any, place: str = "") -> Iterator[str]:
    """Every absolute path in a config, as `task.data.file=/home/...`."""
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield from _paths(inside, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for inside in value:
            yield from _paths(inside, place)
    elif isinstance(value, str) and _PATH.match(value):
        yield f"{place}={value}"
