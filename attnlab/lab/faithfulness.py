"""The battery of faithfulness of a run: its files, which are resumed after an interruption."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import attnlab
from attnlab.config.analysis import FAITHFULNESS_EXAMPLES, check_seed
from attnlab.config.errors import UserError
from attnlab.lab.evaluation import evaluation_data
from attnlab.lab.trained import TrainedModel, load
from attnlab.results import lock as lock_files
from attnlab.results.record_file import RecordFile
from attnlab.results.run_files import FAITHFULNESS, FAITHFULNESS_RECORDS
from attnlab.training.atomic_files import write_whole, writing
from attnlab.training.environment import environment
from attnlab.training.progress import ChunkProgress
from attnlab.training.steps import fingerprint

if TYPE_CHECKING:
    from attnlab.analysis.battery import FaithfulnessReport

BUSY = "computes the same; wait for it"
FORMAT = 4
"""Number of the format of records; a change of what they hold begins new files."""


def measure_faithfulness(
    directory: Path,
    data_dir: Path | None,
    split: str | None = None,
    examples: int = FAITHFULNESS_EXAMPLES,
    methods: Sequence[str] | str | None = None,
    removal: str = "pad",
    seed: int = 0,
    wrote: Callable[[Path], None] = lambda path: None,
    *,
    restart: bool = False,
    trust: bool = False,
    command: str = "",
) -> "FaithfulnessReport":
    """Measure how faithful and plausible attributions of a run's predictions are; write faithfulness.json and a page.

    Results are kept in faithfulness/SPLIT-KEY.jsonl as they are computed, and the page beside them. The key depends on
    all that they depend on, so that an interrupted command goes on where it was, and other settings have other files.

    Args:
        directory: the run directory.
        data_dir: directory of datasets, as in training.
        split: name of a test set, "dev", or a name of `Task.evaluation_sets`; None for the first test set.
        examples: number of examples, drawn at random with `seed`; all of a smaller split.
        methods: names of methods of attribution, "all", or None for the fast ones.
        removal: what removing a token means.
        seed: of all that is random.
        wrote: called with the path of every file that was written.
        restart: compute everything again.
        trust: as in `load`.
        command: the command line, for the page.

    Raises:
        UserError: the split, a method or the removal does not exist, or the data differ from the training data; raised
            before anything is computed. Another process computes the same.
    """
    from attnlab.analysis.battery import FaithfulnessReport, run_battery

    if examples < 1:
        raise UserError(f"--examples {examples}: must be at least 1")
    check_seed(seed)
    trained = load(directory, trust=trust)
    battery = trained.battery(methods, removal, seed)
    data, notes = evaluation_data(trained, data_dir, [split] if split else [])
    for note in notes:
        trained.run.notify(note)
    name = split or next(iter(data.test))
    members = data.splits()[name]
    chosen = _draw(len(members), examples, seed)
    identity = {
        "format": FORMAT,
        "attnlab": attnlab.__version__,
        "settings": battery.settings.to_json(),
        "data": {"split": name, "sha256": data.fingerprint_of(name, annotations=True), "number": len(chosen)},
        "checkpoint": {"steps": trained.steps, "sha256": fingerprint(trained.params)},
        "devices": f"{jax.device_count()} {jax.devices()[0].platform}",
    }
    path = record_path(trained, name, identity)
    by_number = {number: members[number] for number in chosen}
    with _alone(path):
        file = RecordFile(path, identity, trained.run.notify, restart=restart)
        if file.records:
            trained.run.notify(f"{path}: {len(file.records)} of {len(chosen)} examples are done already")
        with ChunkProgress(name, len(chosen) - len(file.records)) as progress:
            records = run_battery(battery, by_number, tuple(file.records), file.append, progress)
    wrote(path)
    summary = battery.summary(records, list(by_number.values()))
    summary["notes"] = [*notes, *summary["notes"]]
    report = FaithfulnessReport({**identity, **summary, "environment": environment()}, records)
    _write(trained, name, report, path.with_suffix(".html"), wrote, command)
    return report


def record_path(trained: TrainedModel, split: str, identity: dict[str, Any]) -> Path:
    """Return the path of the records of a split with these settings."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return trained.run.path(f"{FAITHFULNESS_RECORDS}/{split}-{key}.jsonl")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file of records: two processes with the same command would write each into the other's."""
    lock_path = path.with_suffix(".lock")
    with writing(lock_path):
        lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_files.acquire(lock_path, BUSY)
    try:
        yield
    finally:
        lock_files.release(lock, lock_path)


def _draw(total: int, number: int, seed: int) -> list[int]:
    """Return the sorted indices of examples that are drawn at random: a split may be sorted by class."""
    return sorted(np.random.default_rng(seed).permutation(total)[:number].tolist())


def _write(
    trained: TrainedModel,
    split: str,
    report: "FaithfulnessReport",
    page: Path,
    wrote: Callable[[Path], None],
    command: str,
) -> None:
    from attnlab.viz.faithfulness_page import render  # Jinja and matplotlib take a second to import

    path = trained.run.path(FAITHFULNESS)
    earlier = _earlier(path)
    if split in earlier and earlier[split].get("settings") != json.loads(json.dumps(report.summary["settings"])):
        trained.run.notify(f"{path}: the results of {split} with other settings are replaced; their page stays")
    write_whole(path, json.dumps({**earlier, split: report.summary}, indent=2, ensure_ascii=False) + "\n")
    wrote(path)
    html = render(report, title=f"{trained.run.config.name}: faithfulness", split=split, command=command)
    write_whole(page, html)
    wrote(page)


def _earlier(path: Path) -> dict[str, Any]:
    """Return the results of other splits; nothing if the file cannot be read."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {name: found for name, found in earlier.items() if isinstance(found, dict)} if isinstance(earlier, dict) else {}
    )
