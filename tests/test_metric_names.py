"""Every printed metric has a display name, and docs/metrics.md explains it under that name and its key."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from attnlab.cli import runs
from attnlab.tasks.registry import CLASSES, task_class_of_kind
from attnlab.training import metric_names
from attnlab.training.progress import Progress

ROOT = Path(__file__).parents[1]
KEPT = sorted(path.parent for path in (ROOT / "docs/results").rglob("config.yaml"))
PAGE = (ROOT / "docs/metrics.md").read_text()


def printed(scores: dict) -> list[str]:
    """Return the keys of the metrics that `evaluate` prints."""
    values = ((key, value) for key, value in scores.items() if not key.endswith(("_ci95", "_signature")))
    return [key for key, value in values if not isinstance(value, dict | list)]


def rows() -> dict[str, str]:
    """Key -> name, of all tables of the page."""
    result = {}
    for line in PAGE.splitlines():
        if match := re.fullmatch(r"\| ([^|`]+) \| (`[^|]+`) \|.*", line):
            keys = [key.strip("` ") for key in match[2].split(",")]
            result |= dict(zip(keys, match[1].split("; "), strict=True))
    return result


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.name)
def test_every_score_that_is_kept_has_a_name_and_is_explained(kept: Path):
    for scores in json.loads((kept / "results.json").read_text()).values():
        for key in printed(scores):
            assert metric_names.known(key), key
            assert re.sub(r"_[1-9]$", "_N", key) in rows(), key


def test_the_page_has_every_metric_under_its_one_name():
    result = rows()
    assert set(metric_names.NAMES) - result.keys() == set()
    for key, name in result.items():
        assert metric_names.name(key.replace("_N", "_3")) == name.replace("N", "3") if "_N" in key else name, key


@pytest.mark.parametrize("kind", CLASSES)
def test_tables_and_training_use_these_names(kind: str):
    task = task_class_of_kind(kind)
    assert all(metric_names.known(column.name) for column in task.reported_metrics)
    assert metric_names.known(task.monitor)


def test_the_terminal_uses_these_names():
    lines = list(runs.format_metrics("test", {"f1": 90.0, "facts_found": 80.0, "my_own": 1}, []))
    assert [line.split("  ")[1] for line in lines[2:]] == ["F1", "gold facts found", "my_own"]
    screen = io.StringIO()
    with Progress(10, 0, console=Console(file=screen, width=200)) as progress:
        progress.step(5, 1.0, 3, False)
        progress.evaluated(5, {"dev_f1": 31.25, "dev_fact_mass_max": 2.0}, best=True)
    assert "step 5: dev F1 31.25, dev weight on gold facts (best hop) 2.00 (best so far)" in screen.getvalue()


def test_an_unknown_key_is_not_known():
    assert not metric_names.known("accuracies")
    assert not metric_names.known("bleu_5")
