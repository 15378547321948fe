"""What one does with an experiment: train it, evaluate it, ask it, look at its attention."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree

from attnlab.config import Experiment
from attnlab.config.code import TRUST, announced, code_of, recorded_code, refuse_other_code
from attnlab.config.errors import UserError
from attnlab.config.explain import shortened
from attnlab.config.load import difference
from attnlab.config.load import load as read_config
from attnlab.config.training import Training
from attnlab.results.run import CONFIG, DECODING, RESULTS, Run, say_to_stderr
from attnlab.results.scores import Each, Unwritten, refuse_unwritable
from attnlab.tasks.attention_map import AnyAttentionMap
from attnlab.tasks.base import Task
from attnlab.tasks.layer_attention import DEFAULT, Selection
from attnlab.tasks.registry import task_class
from attnlab.training.atomic_files import writing
from attnlab.training.loop import fit
from attnlab.training.progress import Evaluating, Progress
from attnlab.training.signals import graceful
from attnlab.training.steps import TrainState, fingerprint, initial_state, make_train_step, replicated
from attnlab.viz.text import unknown_words_message

LINES_AT_ONCE = 1024
"""Lines that `predict` reads before it answers."""
EXAMPLES = 3
"""Test examples whose attention `evaluate` keeps in the run."""


def train(
    config: Experiment,
    directory: Path,
    data_dir: Path | None,
    restart: bool = False,
    overrides: Sequence[str] = (),
    *,
    trust: bool = False,
) -> Path:
    """Train an experiment into a run directory, or go on where it was broken off.

    Args:
        config: the experiment.
        directory: of the run.
        data_dir: directory of data sets; None for an experiment that needs none.
        restart: begin at step 0; what an earlier training left is kept in before-restart-1/ (2, 3, ...) of the run.
        overrides: texts `key=value` that made `config` differ from its file; a new run keeps them for `results`.
        trust: go on even if the code of the run is not the one recorded at its beginning.

    Returns: the directory. Raises `Interrupted` (state saved) when asked to stop, `UserError` for bad data, when the
    directory holds another run, or when it had checkpoints of which none is good.
    """
    code, began = code_of(config), (Path(directory) / CONFIG).exists()
    recorded = recorded_code(Path(directory)) if began else code
    if not trust:
        refuse_other_code(directory, code, recorded, "give another --out, or remove it")
    if code:
        say_to_stderr(announced(code))
    splits = task_class(config).load(config, data_dir)
    task = task_class(config).prepare(config, splits, data_dir)
    identity = {
        "data": splits.fingerprint(),
        **task.fingerprints(),
        **(recorded if trust else code),
        "devices": str(jax.device_count()),  # batches are cut, and dropout is drawn, device by device
    }
    training = task.training_batches(splits.train)  # before the run is made: what cannot be trained leaves none behind
    state = initial_state(task.initialize, config.training, config.seed)
    with Run.open(directory, config, identity, overrides=overrides) as run, graceful() as stop:
        for name, text in task.files().items():
            run.write_text(name, text)
        restored = run.restore(state, restart)
        state = started(state, task) if restored is None else restored[1]
        with Progress(config.training.steps, int(state.step), task.loss_unit) as progress:
            for line in (f"run {directory}", *training.summary, _length(config.training), *_describe(state)):
                progress.say(line)
            run.say = progress.say
            progress.compiling()
            state = fit(
                state,
                make_train_step(task.loss, config.training, config.seed),
                training.batches.iterate(int(state.step)),
                training=config.training,
                measure=task.monitor,
                evaluate=lambda params, poll: task.validation_metrics(params, splits.dev, progress.evaluating(poll)),
                run=run,
                watcher=progress,
                poll=stop.poll,
            )
            progress.say(f"parameters after step {int(state.step)}: sha256 {fingerprint(state.params)}")
    return directory


def started(state: TrainState, task: Task) -> TrainState:
    """Put pretrained weights, if there are, into a state before its first step."""
    return replace(state, params=jax.device_put(task.load_pretrained(state.params), replicated()))


def _length(training: Training) -> str:
    warmup = training.optimizer.warmup_steps
    return f"training: {training.steps:,} steps" + (f", the first {warmup:,} of them warm-up" if warmup else "")


def _describe(state: TrainState) -> list[str]:
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' if jax.device_count() > 1 else ''}"
    lines = [f"model: {count:,} parameters, on {devices}"]
    return [*lines, f"going on from step {int(state.step)}"] if int(state.step) else lines


@dataclass(eq=False)
class Trained:
    """A run with what it takes to use it: `model`, `params`, `tokenizer`, and `task`, which knows how to ask them."""

    run: Run
    task: Task

    @property
    def model(self) -> nn.Module:
        """The Linen module."""
        return self.task.model

    @property
    def tokenizer(self) -> Any:
        """What turns text into token numbers and back (`task.tokenizer`)."""
        return self.task.tokenizer

    @property
    def params(self) -> PyTree:
        """The run's answer: the mean of the last checkpoints where the config says so, else the best on dev."""
        return self._chosen[1]

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that `params` come from."""
        return self._chosen[0]

    @cached_property
    def _chosen(self) -> tuple[list[int], PyTree]:
        config = self.run.config
        state = jax.eval_shape(lambda: initial_state(self.task.initialize, config.training, config.seed))
        everywhere = replicated()
        like = {
            "params": jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=everywhere), state.params)
        }
        if config.training.average_last:
            found = self.run.checkpoints.last(like, config.training.average_last)
        else:
            best = self.run.checkpoints.best(like)
            found = [] if best is None else [best]
        if not found:
            raise UserError(
                f"{self.run.directory}: no checkpoint to answer with; "
                f"attnlab train {self.run.directory / CONFIG} goes on, or says why it cannot"
            )
        last = max(self.run.checkpoints.steps())
        if last < config.training.steps and not config.training.patience:
            self.run.say(f"{self.run.directory}: the training is at step {last} of {config.training.steps}")
        if len(found) < config.training.average_last:
            self.run.say(f"{self.run.directory}: the mean is of {len(found)} checkpoints: there are no more good ones")
        return [step for step, _ in found], average([tree["params"] for _, tree in found])

    def predict(self, lines: Sequence[str], n_best: int | None = None) -> list[str]:
        """Answer lines as `attnlab predict` does; each is what the task asks for (`task.input_format`)."""
        if isinstance(lines, str):
            raise TypeError(f"predict takes a list of lines: predict([{shortened(lines)}])")
        return list(self.predict_lines(lines, 0, n_best))

    def predict_lines(self, lines: Sequence[str], first: int, n_best: int | None) -> Iterator[str]:
        """Answer lines as `Task.predict` does; where one is refused, after the answers of those before it."""
        try:
            answers = list(self.task.predict(self.params, lines, first, n_best))
        except UserError:
            if len(lines) == 1:
                raise
            half = len(lines) // 2
            yield from self.predict_lines(lines[:half], first, n_best)
            answers = self.predict_lines(lines[half:], first + half, n_best)
        yield from answers

    def unknown_words(self, *texts: str) -> list[str]:
        """List the words of texts that the model's vocabulary lacks: it reads each of them as the same unknown word."""
        return self.task.unknown_words(texts)

    def attention(
        self, *inputs: str, attention: str | None = None, layer: int | None = None, head: int | None = None
    ) -> list[AnyAttentionMap]:
        """Answer one example, given as to `attnlab show`, and say where the model looked; best answer first.

        Args:
            inputs: what the task asks for (`task.input_format`).
            attention: of a Transformer, and then of the best answer alone: "cross", "encoder" or "decoder".
            layer: the same, counted from 1.
            head: the same, counted from 1; None is the mean of the heads.
        """
        if any(isinstance(one, list | tuple) for one in inputs):
            raise TypeError(f"attention takes one example, no list of them: {self.task.input_format}")
        return self._attention_maps(self.task.parse_example(inputs), Selection(attention, layer, head))

    def _attention_maps(self, example: Any, wanted: Selection) -> list[AnyAttentionMap]:
        return (
            [self.task.selected_attention_map(self.params, example, wanted)]
            if wanted
            else self.task.attention_maps(self.params, example)
        )


def average(trees: Sequence[PyTree]) -> PyTree:
    """The mean of the parameters of several checkpoints, leaf by leaf."""
    return jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves), axis=0), *trees)


def load(directory: Path | str, changes: Sequence[str] = (), *, trust: bool = False) -> Trained:
    """Open a trained run.

    Args:
        directory: the run. Code that it holds, of a custom part, is executed: treat it as a program.
        changes: how answers are searched for instead, e.g. "task.decoding.beam=1"; nothing else of a run can change.
        trust: execute the run's code even if it is not the one recorded at its training.
    """
    run = Run.read(Path(directory))
    if code := code_of(run.config):
        if not trust:
            refuse_other_code(run.directory, code, recorded_code(run.directory), TRUST)
        run.say(f"{run.directory}: {announced(code)}")
    if not run.checkpoints.steps():  # broken off before its first, or kept as numbers only, as in docs/results
        raise UserError(
            f"{run.directory}: has no checkpoint, so no weights to answer with; "
            f"attnlab train {run.directory}/config.yaml --out runs/{run.directory.name} trains it"
        )
    task = task_class(run.config).restore(_searching(run, changes), run.directory)
    for name, found in task.fingerprints().items():
        if found != run.fingerprint.get(name):
            raise UserError(f"{run.directory}: the {name} is not the one that the run was trained with")
    return Trained(run, task)


def _searching(run: Run, changes: Sequence[str]) -> Experiment:
    """The run's config with another search for answers."""
    if not changes:
        return run.config
    changed = read_config(run.directory / CONFIG, changes)
    for line in difference(run.config, changed):
        if not line.startswith(DECODING):
            raise UserError(f"{line}; of a run that is trained only task.decoding can be changed")
    return changed


def evaluate(
    directory: Path,
    data_dir: Path | None,
    splits: Sequence[str] | None = None,
    changes: Sequence[str] = (),
    wrote: Callable[[Path], None] = lambda path: None,
    *,
    trust: bool = False,
) -> dict[str, dict[str, Any]]:
    """Score a run on its test sets; write results.json, each/, and the attention of fixed examples.

    Args:
        directory: the run.
        data_dir: as it was for training.
        splits: names of test sets, or "dev"; None is all test sets.
        changes: as `load` takes them; the scores are then of another search than the run's, and nothing is written.
        trust: as `load` takes it.

        wrote: gets the path of every file that was written.

    Returns: {split: {metric: value}}. Raises `UserError` before anything is scored where results cannot be written,
    `Unwritten`, which has the scores, where that shows only afterwards.
    """
    trained = load(directory, changes, trust=trust)
    data = task_class(trained.run.config).load(trained.run.config, data_dir)
    if (found := data.fingerprint()) != trained.run.fingerprint["data"]:
        raise UserError(
            f"{directory}: was trained on other data ({trained.run.fingerprint['data'][:12]}, here {found[:12]})"
        )
    known = {name: examples for name, examples in data.splits().items() if name != "train"}
    for name in splits or ():
        if name not in known:
            raise UserError(f"{name}: no such split; there are {', '.join(known)}")
    chosen = splits or list(data.test)
    if changes:
        return {name: _scores(trained, name, known[name]) for name in chosen}
    refuse_unwritable(trained.run.directory)
    unwritten = Unwritten()
    for name in chosen:
        scores = _scores(trained, name, known[name])
        each = Each(data.fingerprint_of(name), scores.pop("per_example"))
        scores |= {"checkpoints": trained.steps, "trained_to": max(trained.run.checkpoints.steps())}
        try:
            wrote(trained.run.write_each(name, each))
            trained.run.write_results(name, scores)
        except UserError as error:
            unwritten.add(name, scores, each, error)
    if unwritten.scores:
        raise unwritten.kept()
    wrote(trained.run.path(RESULTS))
    trained.run.say(f"drawing where the model looks in {min(EXAMPLES, len(known[chosen[0]]))} examples")
    for number, example in enumerate(known[chosen[0]][:EXAMPLES], start=1):
        try:
            for path in _draw(trained, example, f"attention/{chosen[0]}_{number}"):
                wrote(path)
        except UserError as error:
            trained.run.say(f"no picture of example {number} of {chosen[0]}: {error}")
    if log := trained.run.metrics():
        from attnlab.viz.curves import training_curve  # matplotlib is imported only to draw

        curve = trained.run.path("training.png")
        try:
            with writing(curve):
                training_curve(log, curve)
            wrote(curve)
        except UserError as error:
            trained.run.say(str(error))
    return {name: trained.run.results()[name] for name in chosen}


def _scores(trained: Trained, split: str, examples: Sequence[Any]) -> dict[str, Any]:
    params = trained.params
    with Evaluating(split, len(examples)) as progress:
        return trained.task.test_metrics(params, examples, progress)


def predict(
    directory: Path,
    lines: Iterable[str],
    n_best: int | None = None,
    changes: Sequence[str] = (),
    *,
    trust: bool = False,
) -> Iterator[str]:
    """Answer line by line (see `Task.predict`), as many lines at a time as are given quickly.

    Args:
        directory: the run.
        lines: what the task asks for; a line that is refused stops here, after the answers of those before it.
        n_best: how many answers for each; None is the config's. A search with a narrower beam is widened to them.
        changes: as `load` takes them.
        trust: as `load` takes it.
    """
    trained, number, told = load(directory, changes, trust=trust), 0, False
    beam = getattr(getattr(trained.task.config.task, "decoding", None), "beam", None)
    if n_best is not None and beam is not None and beam < n_best:
        trained.run.say(f"--n-best {n_best}: searched with a beam of {n_best} (the run's is {beam})")
    for chunk in _chunks(lines):
        if not told and (unknown := trained.unknown_words(*chunk)):
            trained.run.say(unknown_words_message(unknown))
            told = True
        yield from trained.predict_lines(chunk, number, n_best)
        number += len(chunk)


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Cut lines into lists of at most `LINES_AT_ONCE`; where one cannot be read, those before it come first."""
    chunk: list[str] = []
    failure = None
    try:
        for line in lines:
            chunk.append(line.rstrip("\r\n"))
            if len(chunk) == LINES_AT_ONCE:
                yield chunk
                chunk = []
    except UserError as error:
        failure = error
    if chunk:
        yield chunk
    if failure:
        raise failure


def show(directory: Path, inputs: Sequence[str], wanted: Selection = DEFAULT, *, trust: bool = False) -> list[Path]:
    """Answer one example and draw where the model looked: a picture and a page, numbered as they are made.

    Args:
        directory: the run.
        inputs: what the task asks for.
        wanted: which attention of a Transformer, where not what the task shows of itself.
        trust: as `load` takes it.

    Returns: the paths of the files.
    """
    trained = load(directory, trust=trust)
    if unknown := unknown_words_message(trained.unknown_words("\t".join(inputs))):
        trained.run.say(unknown)
    return _draw(trained, trained.task.parse_example(inputs), _next(trained.run.path("show")), wanted)


def _next(folder: Path) -> str:
    """The name of the next files of a folder: attention_1, attention_2, ..."""
    numbers = (path.stem.removeprefix("attention_") for path in folder.glob("attention_*.*"))
    return f"{folder.name}/attention_{1 + max((int(one) for one in numbers if one.isdecimal()), default=0)}"


def _draw(trained: Trained, example: Any, name: str, wanted: Selection = DEFAULT) -> list[Path]:
    from attnlab.viz import page, picture  # matplotlib and jinja2 are imported only to draw

    attention_maps = trained._attention_maps(example, wanted)
    path = trained.run.path(f"{name}.png")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        missing_fonts = picture.draw(attention_maps[0], path)
    html = page.render(attention_maps, title=trained.run.config.name)
    if missing_fonts:
        trained.run.say(missing_fonts)
    return [path, trained.run.write_text(f"{name}.html", html)]


def resume_command(directory: Path, data_dir: Path | None) -> str:
    """The command that goes on with a run."""
    data = "" if data_dir is None else f" --data {shlex.quote(str(data_dir))}"
    command = shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "attnlab" else "attnlab"
    return f"{command} train {shlex.quote(str(directory / 'config.yaml'))}{data}"
