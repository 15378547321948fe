"""Training of an experiment into a run directory."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from attnlab.config import Experiment
from attnlab.config.code import announced, code_of, recorded_code, refuse_other_code
from attnlab.config.training import Training
from attnlab.results.run import Run, refuse_other_config
from attnlab.results.run_files import CONFIG
from attnlab.system.messages import print_to_stderr
from attnlab.system.stages import stage
from attnlab.tasks.base import Task
from attnlab.tasks.registry import task_class
from attnlab.training.loop import fit
from attnlab.training.progress import Progress
from attnlab.training.signals import graceful_shutdown
from attnlab.training.steps import TrainState, fingerprint, initial_state, make_train_step, replicated


def train(
    config: Experiment,
    directory: Path,
    data_dir: Path | None,
    restart: bool = False,
    overrides: Sequence[str] = (),
    *,
    trust: bool = False,
) -> Path:
    """Train an experiment into a run directory, or resume it after an interruption.

    Args:
        config: the experiment.
        directory: the run directory.
        data_dir: directory of datasets; None for an experiment that needs none.
        restart: start at step 0; files of an earlier training are moved to before-restart-1/ (2, 3, ...) of the run.
        overrides: texts `key=value` with which `config` differs from its file; a new run records them for `results`.
        trust: resume even if the code of the run is not the code recorded at the start of training.

    Returns: the run directory.

    Raises:
        Interrupted: a signal stopped the training; the state is saved.
        UserError: the data are invalid, the directory holds another run, or none of its checkpoints is intact.
    """
    refuse_other_config(Path(directory), config)  # before the data are read
    code, exists = code_of(config), (Path(directory) / CONFIG).exists()
    recorded = recorded_code(Path(directory)) if exists else code
    if not trust:
        refuse_other_code(directory, code, recorded, "choose another --out, or delete it")
    if code:
        print_to_stderr(announced(code))
    print_to_stderr(f"run {directory}; reading the data")
    with stage("data"):
        splits = task_class(config).load(config, data_dir)
        task = task_class(config).prepare(config, splits, data_dir)
        data = splits.fingerprint()
        training = task.training_batches(splits.train)  # before the run is created: the data may be unusable
    identity = {
        "data": data,
        **task.fingerprints(),
        **(recorded if trust else code),
        "devices": str(jax.device_count()),  # batches and dropout masks depend on it
    }
    state = initial_state(task.initialize, config.training, config.seed)
    with Run.open(directory, config, identity, overrides=overrides) as run, graceful_shutdown() as stop:
        for name, content in task.files().items():
            run.write_bytes(name, content.encode() if isinstance(content, str) else content)
        restored = run.restore(state, restart)
        state = with_pretrained_weights(state, task) if restored is None else restored[1]
        with Progress(config.training.steps, int(state.step), task.loss_unit) as progress:
            for line in (*training.summary, _length(config.training), *_describe(state)):
                progress.print(line)
            run.notify = progress.print
            progress.compiling()
            state = fit(
                state,
                make_train_step(task.loss, config.training, config.seed),
                training.batches.iterate(int(state.step)),
                training=config.training,
                monitor=task.monitor,
                evaluate=lambda params, poll: task.validation_metrics(params, splits.dev, progress.evaluating(poll)),
                run=run,
                progress=progress,
                poll=stop.poll,
            )
            progress.print(f"parameters after step {int(state.step)}: sha256 {fingerprint(state.params)}")
    return directory


def with_pretrained_weights(state: TrainState, task: Task) -> TrainState:
    """Return the initial state with the pretrained weights of the config, if it has any."""
    return replace(state, params=jax.device_put(task.load_pretrained(state.params), replicated()))


def resume_command(directory: Path, data_dir: Path | None) -> str:
    """Return the command that resumes a run."""
    data = "" if data_dir is None else f" --data {shlex.quote(str(data_dir))}"
    command = shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "attnlab" else "attnlab"
    return f"{command} train {shlex.quote(str(directory / CONFIG))}{data}"


def _length(training: Training) -> str:
    warmup = training.optimizer.warmup_steps
    return f"training: {training.steps:,} steps" + (f" with {warmup:,} warm-up steps" if warmup else "")


def _describe(state: TrainState) -> list[str]:
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} {jax.devices()[0].platform} device{'s' if jax.device_count() > 1 else ''}"
    lines = [f"model: {count:,} parameters on {devices}"]
    return [*lines, f"resuming from step {int(state.step)}"] if int(state.step) else lines
