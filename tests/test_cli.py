"""The command line: what needs no jax imports none; arguments; standard input line by line; where a run goes."""

import io
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnlab import cli, lab
from attnlab.cli import host, runs
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.config.run_paths import missing_run
from attnlab.training.signals import Interrupted

CONFIG = Path(__file__).parents[1] / "experiments/translation/dates_additive.yaml"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Stands in for training: collects the calls."""
    calls: list[tuple] = []
    monkeypatch.setattr(lab, "train", lambda *arguments, **options: calls.append(arguments))
    monkeypatch.delenv("ATTNLAB_DATA", raising=False)
    return calls


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Looks like a run directory."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "config.yaml").write_text(resolved(load(CONFIG)))
    (directory / "environment.json").write_text("{}")
    return directory


@pytest.mark.parametrize("arguments", [["list"], ["data", "check", str(CONFIG), "--tiny"]])
@pytest.mark.quick("arguments0")
def test_a_full_disk_behind_standard_output_is_one_line(arguments: list[str]):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "attnlab", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "attnlab: output: No space left on device\n")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (PermissionError(13, "Permission denied", "/data/train.de"), "/data/train.de: Permission denied"),
        (OSError(24, "Too many open files", "/data/a.png"), "/data/a.png: Too many open files"),
        (OSError(5, "Input/output error"), "output: Input/output error"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys: pytest.CaptureFixture[str], trouble, says: str):
    def refuse(*_: object, **__: object) -> None:
        print("what was printed before")
        raise trouble

    monkeypatch.setattr(lab, "train", refuse)
    assert cli.main(["train", str(CONFIG)]) == 2
    assert capsys.readouterr() == ("what was printed before\n", f"attnlab: {says}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list"], ["--version"]])
def test_quick_and_without_jax(arguments: list[str]):
    program = (
        "import sys\nfrom attnlab.cli import main\ntry: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit(9 if {'jax', 'flax', 'numpy'} & sys.modules.keys() else 0)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_pictures_and_analyses_are_imported_only_for_use():
    program = (
        "import sys, attnlab.lab; attnlab.load; late = 'matplotlib', 'jinja2', 'attnlab.analysis'\n"
        "print(*(name for name in late if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_list_begins_with_a_summary_and_takes_a_topic(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(CONFIG.parents[2])
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") < 20
    folders = {path.parent for path in Path("experiments").rglob("*.yaml")}
    for folder in folders:
        assert re.search(rf"^  {folder.name} +{len(list(folder.glob('*.yaml')))}  \w+", text, re.MULTILINE)
    assert "attnlab train experiments/translation/dates_additive.yaml" in text
    assert cli.main(["list", "extractive_qa"]) == 0
    text = capsys.readouterr().out
    assert text.count("experiments/extractive_qa/") == text.count("experiments/") >= 10


def test_list_all_shows_every_experiment_with_its_question_and_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(CONFIG.parents[2])
    assert cli.main(["list", "all"]) == 0
    text = capsys.readouterr().out
    for path in Path("experiments").rglob("*.yaml"):
        question = path.read_text().splitlines()[0].removeprefix("# ")
        assert f"  {path}\n      {question}\n" in text
    assert cli.main(["list", "settings"]) == 0
    settings = capsys.readouterr().out
    assert text.endswith(settings)
    assert re.search(r"  model.attention.score.kind +dot, scaled_dot, general, additive", settings)
    assert re.search(r"  model.attention.mods\[\].kind +soft_cap, alibi, ", settings)
    tasks = dict(part.split("\n", 1) for part in re.split(r"\n  task.kind=", settings)[1:])
    assert re.search(r"  task.data.kind +synthetic_sentiment, trees, labeled_text, hub\n", tasks["classification"])
    assert re.search(r"  task.data.kind +generated, squad, subjqa, hub\n", tasks["extractive_qa"])
    assert re.search(r"  model.kind +bidaf_reader, transformer_reader\n", tasks["extractive_qa"])


@pytest.mark.parametrize("arguments", [[], ["data"], ["bench"]])
def test_a_group_of_commands_alone_prints_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith(" ".join(["usage: attnlab", *arguments]))
    assert "COMMAND" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "all"],
        ["data", "check", str(CONFIG), "--tiny"],
        ["data", "check", str(CONFIG.parents[1] / "captioning/scenes_soft.yaml"), "--tiny", "task.data.train=20"],
    ],
)
def test_an_ascii_terminal_is_enough(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.main(arguments) == 0
    sys.stdout.flush()
    assert raw.getvalue().decode("ascii")


@pytest.mark.parametrize("inputs", [["-good"], ["a", "-good"], ["-hello"], ["-good", "--", "-bad"]])
def test_a_text_that_resembles_an_option_suggests_the_separator(
    inputs: list[str], run: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["show", str(run), *inputs]) == 2
    dashed = next(text for text in inputs if text.startswith("-"))
    assert f"{dashed}; put a text that starts with '-' after '--': -- {dashed}" in capsys.readouterr().err


@pytest.mark.parametrize("inputs", [["--", "-good"], ["a", "--", "-b"], ["-5"], ["a", "-"], ["- a b"]])
def test_any_text_can_be_shown(inputs: list[str], run: Path, monkeypatch: pytest.MonkeyPatch):
    given: list[list[str]] = []
    monkeypatch.setattr(lab, "show", lambda directory, texts, *_, **__: given.append(list(texts)) or [])
    assert cli.main(["show", str(run), *inputs]) == 0
    assert given == [[text for text in inputs if text != "--"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (["train", str(CONFIG), "--sed", "3"], "unknown argument --sed"),
        (["train", str(CONFIG), "--seed", "three"], "argument --seed: invalid int value: 'three'"),
        (
            ["train", str(CONFIG), "--seed", "-3"],
            "command line: seed: must be at least 0 and below 4294967296, got -3",
        ),
        (["train", str(CONFIG), "--data", "/no/such"], "--data /no/such: no such directory"),
        (["evaluate", "/no/such"], "/no/such: no such run directory; attnlab train CONFIG --out /no/such creates it"),
        (["evaluate", str(CONFIG.parent)], "is not a run directory (it has no config.yaml)"),
        (["predict", "/no/such", "--beam", "3"], "unknown argument --beam"),
        (["show", "/no/such"], "the following arguments are required: INPUT"),
        (
            ["compare", "a"],
            "attnlab compare RUN RUN, or attnlab compare RUN... --against RUN... (see attnlab compare --help)",
        ),
        (["train", "dates_aditive"], "dates_aditive: no such file"),
        (["train", "dates_additive"], "did you mean experiments/translation/dates_additive.yaml?"),
        (["train", "experiments/extractive_qa/dates_dot.yaml"], "did you mean experiments/translation/dates_dot.yaml?"),
        (["list", "translaton"], "list translaton: unknown topic; did you mean translation?"),
    ],
)
def test_mistaken_arguments_are_one_line(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("attnlab: ")
    assert line.count("\n") == 1
    assert says in line


def test_packaged_experiments_are_found_from_any_directory(
    trained: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "experiments/translation/dates_additive.yaml"]) == 0
    assert trained[0][:2] == (load(CONFIG), Path("runs/dates_additive-s1"))


def test_a_bare_experiment_name_suggests_its_path(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(CONFIG.parents[2])
    for given in ("dates_additive", "dates_additive.yaml", "experiments/dates_additive.yaml"):
        assert cli.main(["train", given]) == 2
        assert capsys.readouterr().err == (
            f"attnlab: {given}: no such file; did you mean experiments/translation/dates_additive.yaml?\n"
        )


def test_a_wrong_run_lists_available_runs(run: Path, monkeypatch: pytest.MonkeyPatch):
    folder = run.parent
    monkeypatch.chdir(folder)
    said = "no such run directory; available runs: run; attnlab train CONFIG --out rnu creates it"
    assert str(missing_run(Path("rnu"))) == f"rnu: {said}"
    what = "is not a run directory (it has no config.yaml)"
    assert str(missing_run(folder)) == f"{folder}: {what}; available runs: {run}"
    (run / "checkpoints").mkdir()
    assert str(missing_run(run / "checkpoints")) == f"{run / 'checkpoints'}: {what}; available runs: {run}"
    (folder / "other").mkdir()
    (folder / "other" / "file").touch()
    shutil.move(run, folder / "runs" / "one")
    assert str(missing_run(Path("other"))) == f"other: {what}; available runs: runs/one"
    shutil.rmtree(folder / "runs")
    assert str(missing_run(Path("other"))) == f"other: {what}; attnlab train CONFIG creates a run in runs/"


def test_overrides_may_stand_anywhere(trained: list[tuple]):
    arguments = ["model.dropout=0.1", "--seed", "7", "training.steps=2", "--tiny", "task.data.seed=5"]
    assert cli.main(["train", str(CONFIG), *arguments]) == 0
    experiment = trained[0][0]
    assert (experiment.seed, experiment.model.dropout, experiment.training.steps) == (7, 0.1, 2)
    assert (experiment.task.data.seed, experiment.name) == (5, "dates_additive-tiny")


def test_a_kind_changed_by_override_starts_afresh():
    score = load(CONFIG, ["model.attention.score.kind=general"]).model.attention.score
    assert score.model_dump() == {"kind": "general"}
    same = load(CONFIG, ["model.attention.score.kind=additive"])
    assert same == load(CONFIG)
    assert load(CONFIG, ["model.attention=null"]).model.attention is None
    none = CONFIG.with_name("dates_none.yaml")
    assert load(none, ["model.attention.score.kind=general"]).model.attention.score.kind == "general"


def test_overrides_go_with_the_run_and_with_a_run_that_is_made_of_its_config(trained: list[tuple], run: Path):
    cli.main(["train", str(CONFIG), "model.dropout=0.1"])
    (run / "environment.json").write_text('{"overrides": ["model.dropout=0.1"]}')
    cli.main(["train", str(run / "config.yaml"), "training.steps=9", "--out", "elsewhere"])
    (run / "environment.json").write_text('{"overrides": 3}')
    cli.main(["train", str(run / "config.yaml")])
    assert [call[4] for call in trained] == [["model.dropout=0.1"], ["model.dropout=0.1", "training.steps=9"], []]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.steps=60"], (60, 10)),
        (["training.steps=5"], (5, 0)),
        (["training.steps=6000"], (6000, 100)),
        (["training.steps=60", "training.optimizer.learning_rate=0.1"], (60, 10)),
        (["training.steps=60", "training.optimizer.warmup_steps=30"], (60, 30)),
        (["training.steps=60", "training.optimizer.kind=sgd"], (60, 0)),
    ],
    ids=str,
)
def test_a_training_that_is_shortened_keeps_its_share_of_warm_up(tmp_path: Path, overrides: list[str], expected: tuple):
    text = CONFIG.read_text()
    text = re.sub(r"steps: \d+", "steps: 600", text, count=1)
    path = tmp_path / "x.yaml"
    path.write_text(re.sub(r"warmup_steps: \d+", "warmup_steps: 100", text))
    training = load(path, overrides).training
    assert (training.steps, training.optimizer.warmup_steps) == expected


def test_a_file_whose_warm_up_is_longer_than_its_training_is_refused(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text(re.sub(r"warmup_steps: \d+", "warmup_steps: 99999", CONFIG.read_text()))
    with pytest.raises(UserError, match=r"optimizer.warmup_steps \(99999\) exceeds steps"):
        load(path)
    with pytest.raises(UserError, match=r"optimizer.warmup_steps \(70\) exceeds steps \(60\)"):
        load(CONFIG, ["training.steps=60", "training.optimizer.warmup_steps=70"])


def test_a_run_directory_is_named_by_experiment_and_seed_or_out(trained: list[tuple], run: Path, tmp_path: Path):
    cli.main(["train", str(CONFIG), "--seed", "3"])
    cli.main(["train", str(CONFIG), "--out", str(tmp_path / "there")])
    cli.main(["train", str(run / "config.yaml")])
    assert [call[1] for call in trained] == [Path("runs/dates_additive-s3"), tmp_path / "there", run]
    assert trained[2][0] == load(CONFIG)


def test_a_config_yaml_outside_a_run_is_any_file(trained: list[tuple], tmp_path: Path):
    (tmp_path / "config.yaml").write_text(CONFIG.read_text())
    cli.main(["train", str(tmp_path / "config.yaml")])
    assert trained[0][1] == Path("runs/config-s1")


def test_data_from_argument_before_environment(trained: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cli.main(["train", str(CONFIG)])
    monkeypatch.setenv("ATTNLAB_DATA", "/from/environment")
    cli.main(["train", str(CONFIG)])
    cli.main(["train", str(CONFIG), "--data", str(tmp_path)])
    assert [call[2] for call in trained] == [None, Path("/from/environment"), tmp_path]


@pytest.mark.parametrize(("signal_number", "code"), [(2, 130), (15, 143)])
def test_an_interruption_prints_how_to_resume(
    signal_number: int, code: int, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*arguments, **options):
        raise Interrupted(signal_number)

    monkeypatch.setattr(lab, "train", interrupted)
    assert cli.main(["train", str(run / "config.yaml")]) == code
    assert f"attnlab train {run / 'config.yaml'}" in capsys.readouterr().err


def test_one_device_per_core_by_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(5))
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    host.prepare_host()
    assert "JAX_NUM_CPU_DEVICES" not in os.environ
    monkeypatch.delenv("XLA_FLAGS")
    host.prepare_host()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == "5"
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    host.prepare_host()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == "1"


def test_a_resumed_run_has_its_numbers_of_devices_and_threads(run: Path, monkeypatch: pytest.MonkeyPatch):
    """The last bits depend on both: a run goes on with them on another number of cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(5))
    monkeypatch.delenv("XLA_FLAGS", raising=False)

    def numbers(run: Path, environment: str | None, **given: str) -> tuple[str | None, ...]:
        for name in ("JAX_NUM_CPU_DEVICES", "PJRT_NPROC"):
            monkeypatch.setenv(name, given[name]) if name in given else monkeypatch.delenv(name, raising=False)
        if environment is not None:
            (run / "environment.json").write_text(environment)
        host.prepare_host(run)
        return os.environ.get("JAX_NUM_CPU_DEVICES"), os.environ.get("PJRT_NPROC")

    assert numbers(run / "new", None) == ("5", None)
    assert numbers(run / "new", None, JAX_NUM_CPU_DEVICES="2") == ("2", "2"), "a thread for each device"
    assert numbers(run, '{"fingerprint": {"devices": "2"}, "threads": 4}') == ("2", "4")
    assert numbers(run, '{"fingerprint": {"devices": "2"}}') == ("2", None), "of an older version"
    for name in ("JAX_NUM_CPU_DEVICES", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)


def test_predict_reads_lines_by_newline_alone():
    stream = io.BytesIO("\ufeffeins\r\n\nzwei\u2028drei\x0bvier\nfünf".encode())
    assert list(runs.read_lines(stream)) == ["eins", "", "zwei\u2028drei\x0bvier", "fünf"]
    with pytest.raises(UserError, match="standard input, line 2: byte 0xff is not UTF-8 text"):
        list(runs.read_lines(io.BytesIO(b"a\n\xff\n")))


def test_results_as_a_table():
    metrics = {
        "sentences": 1000,
        "bleu": 36.3,
        "bleu_ci95": [35.2, 37.4],
        "bleu_signature": "nrefs:1|case:mixed",
        "exact_match_short": 5.0,
        "exact_match_short_ci95": None,
        "decoding": {"beam": 1},
    }
    assert list(runs.format_metrics("test", metrics, ["bleu"])) == [
        "test:",
        "  metric                          value  95% interval",
        "  BLEU, cased                     36.30  35.20 to 37.40",
        "  sentences                       1,000",
        "  exact match, shortest third      5.00",
        "  signature of BLEU, cased: nrefs:1|case:mixed",
        "  no interval: fewer than 20 examples: exact match, shortest third",
    ]


def test_evaluate_tells_every_file(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    names = "per_example/test.npz", "results.json", "attention/test_1.png"

    def evaluate(directory, data_dir, splits, changes, wrote, trust):
        for name in names:
            wrote(directory / name)
        return {"test": {"bleu": 36.3}}

    monkeypatch.setattr(lab, "evaluate", evaluate)
    assert cli.main(["evaluate", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  BLEU, cased +36.30", lines[2])
    assert lines[3:] == [
        f"written: {run}/{name}" for name in ("per_example/test.npz", "results.json", "attention/test_1.png")
    ]


def test_a_table_notes_missing_scores_and_intervals():
    metrics = {"bleu": None, "bleu_ci95": None, "bleu_note": "too short", "chrf": 50.0, "chrf_ci95": None, "texts": 3}
    found = list(runs.format_metrics("test", metrics, ["bleu"]))
    assert [line.split()[-1] for line in found[2:5]] == ["—", "50.00", "3"]
    assert found[5:] == ["  BLEU, cased: no score: too short", "  no interval: fewer than 20 examples: chrF2"]
