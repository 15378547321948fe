"""`attnlab sweep`: the plan, what it refuses, the loop, the display, and a small sweep on this machine."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from attnlab import cli
from attnlab.config import catalog
from attnlab.config.axes import Axis, axis_of_settings, axis_of_values, parse_setting
from attnlab.config.difference import difference
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.config.study import parse_seeds, read_study
from attnlab.results import lock
from attnlab.results.groups import find_runs
from attnlab.sweep import loop
from attnlab.sweep.devices import devices_of
from attnlab.sweep.display import Display
from attnlab.sweep.estimate import seconds_to_go
from attnlab.sweep.job import failure, make_job
from attnlab.sweep.launchers.base import Ended, Handle
from attnlab.sweep.loop import Sweep, ready_to_compile
from attnlab.sweep.plan import Plan, check_directory, make_plan
from attnlab.sweep.status import RunStatus, names_of_test_sets

ROOT = Path(__file__).parents[1]
DATES = ROOT / "experiments/translation/dates_additive.yaml"
SENTIMENT = ROOT / "experiments/classification/synthetic_sentiment_uniform.yaml"
STUDIES = sorted((ROOT / "experiments/studies").glob("*.yaml"))
SCORES = axis_of_values("model.attention.score.kind", ["additive", "dot"])


def never(text: str) -> bool:
    return False


def plan_of(*given: str | Axis, seeds: tuple[int, ...] = (1, 2), directory: Path | None = None) -> Plan:
    return make_plan(DATES, given, seeds, directory)


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("a.b=1,2", ["a.b=1", "a.b=2"]),
            ("a.b=[x, y]", ["a.b=x", "a.b=y"]),
            ("a={k: 1, l: [1, 2]},{k: 2}", ['a={"k": 1, "l": [1, 2]}', 'a={"k": 2}']),
            ("a=null,{k: 2}", ["a=null", 'a={"k": 2}']),
            ('a="x,y",z', ['a="x,y"', "a=z"]),
            ("a=[[1], [2]]", ["a=[1]", "a=[2]"]),
        ],
    )
    def test_several_values_are_an_axis(self, text: str, values: list[str]):
        axis = parse_setting(text, never)
        assert isinstance(axis, Axis)
        assert [text for point in axis.points for text in point.overrides] == values

    @pytest.mark.parametrize("text", ["a.b=1", "a={k: 1, l: [1, 2]}", 'a="x,y"', "a=x # one, two"])
    def test_one_value_is_an_override_as_in_train(self, text: str):
        assert parse_setting(text, never) == text

    def test_a_list_that_the_field_takes_is_one_value(self):
        assert parse_setting("model.mods=[1, 2]", lambda text: True) == "model.mods=[1, 2]"

    @pytest.mark.parametrize(("text", "named"), [("a=1,1", "twice"), ("seed=1,2", "--seeds"), ("name=a,b", "name")])
    def test_what_cannot_vary(self, text: str, named: str):
        with pytest.raises(UserError, match=named):
            parse_setting(text, never)

    def test_values_that_would_have_one_name(self):
        with pytest.raises(UserError, match="a_b"):
            axis_of_values("task.data.path", ["a/b", "a:b"])

    @pytest.mark.parametrize(
        ("text", "seeds"), [("1-5", (1, 2, 3, 4, 5)), ("7", (7,)), ("3,1", (3, 1)), ("1-2,9", (1, 2, 9))]
    )
    def test_seeds(self, text: str, seeds: tuple[int, ...]):
        assert parse_seeds(text) == seeds

    @pytest.mark.parametrize("text", ["", "a", "5-1", "1,1", "1-99999999", "4294967296", "-1"])
    def test_no_seeds(self, text: str):
        with pytest.raises(ValueError, match="seed"):
            parse_seeds(text)


class TestPlan:
    def test_the_product_of_settings_and_seeds(self):
        dropout = axis_of_values("model.dropout", [0.1, 0.2])
        plan = plan_of(SCORES, "training.steps=500", dropout, seeds=(1, 2, 3))
        assert len(plan.runs) == len({run.directory for run in plan.runs}) == 12
        assert str(plan.directory) == "runs/dates_additive-score-dropout"
        assert plan.runs[1].name == "score=additive,dropout=0.2-s1"
        assert [run.seed for run in plan.runs] == [1] * 4 + [2] * 4 + [3] * 4, "the first seeds compile for the others"
        assert {run.experiment.training.steps for run in plan.runs} == {500}

    def test_exactly_the_varied_fields_differ(self):
        first, second = plan_of(SCORES, seeds=(1,)).runs
        places = [line.partition(":")[0] for line in difference(first.experiment, second.experiment)]
        assert places == ["model.attention.score.kind"]
        assert first.experiment == load(DATES, ["model.attention.score.kind=additive"], seed=1)

    def test_a_setting_that_changes_another_field_is_refused(self):
        with pytest.raises(UserError, match=r"steps=1000: also changes training\.optimizer\.warmup_steps \(50 .* 100"):
            plan_of(axis_of_values("training.steps", [500, 1000]))
        fixed = plan_of(axis_of_values("training.steps", [500, 1000]), "training.optimizer.warmup_steps=50")
        assert {run.experiment.training.optimizer.warmup_steps for run in fixed.runs} == {50}

    def test_two_settings_that_are_the_same_are_refused(self):
        with pytest.raises(UserError, match="are the same experiment"):
            plan_of(
                axis_of_values("model.attention.score", [{"kind": "additive"}, {"kind": "additive", "hidden": 256}])
            )

    def test_settings_that_vary_together(self):
        points = {"small": {"model.encoder.hidden": 32, "model.decoder.hidden": 64}, "large": {"model.dropout": 0.1}}
        plan = plan_of(axis_of_settings("size", points), seeds=(1,))
        assert [run.name for run in plan.runs] == ["size=small-s1", "size=large-s1"]
        assert plan.varied == (("model", "encoder", "hidden"), ("model", "decoder", "hidden"), ("model", "dropout"))

    def test_seeds_alone(self):
        plan = plan_of(seeds=(4, 5))
        assert [str(run.directory) for run in plan.runs] == [
            "runs/dates_additive-seeds/dates_additive-s4", "runs/dates_additive-seeds/dates_additive-s5"
        ]  # fmt: skip

    def test_an_invalid_value_is_one_line(self):
        with pytest.raises(UserError, match=r"command line: model\.dropout: must be .* got 2"):
            plan_of(axis_of_values("model.dropout", [0.1, 2]))


class TestDirectory:
    """Only the runs of a sweep, and more seeds or values of it, may be in its directory."""

    def put(self, directory: Path, *overrides: str, seed: int = 1, devices: int = 1) -> None:
        directory.mkdir(parents=True)
        (directory / "config.yaml").write_text(resolved(load(DATES, overrides, seed=seed)))
        environment = {"fingerprint": {"devices": str(devices)}}
        (directory / "environment.json").write_text(json.dumps(environment))

    def test_other_seeds_and_values_of_the_sweep_are_accepted(self, tmp_path: Path):
        self.put(tmp_path / "score=general-s9", "model.attention.score.kind=general", seed=9)
        self.put(tmp_path / "score=dot-s1", "model.attention.score.kind=dot")
        check_directory(plan_of(SCORES, directory=tmp_path))

    def test_a_run_that_differs_in_more_is_refused(self, tmp_path: Path):
        self.put(tmp_path / "other", "model.dropout=0.5")
        with pytest.raises(UserError, match=r"other: .*model\.dropout \(0\.5 in the run, 0\.3 in the sweep\)"):
            check_directory(plan_of(SCORES, directory=tmp_path))

    def test_a_planned_run_with_another_config_is_refused(self, tmp_path: Path):
        self.put(tmp_path / "score=dot-s1", "model.attention.score.kind=dot", seed=2)
        with pytest.raises(UserError, match=r"score=dot-s1: .*seed"):
            check_directory(plan_of(SCORES, directory=tmp_path))

    def test_a_run_is_no_directory_of_a_sweep(self, tmp_path: Path):
        self.put(tmp_path / "run")
        with pytest.raises(UserError, match="choose another --out"):
            check_directory(plan_of(SCORES, directory=tmp_path / "run"))

    def test_the_number_of_devices_is_that_of_the_runs(self, tmp_path: Path):
        assert devices_of(tmp_path, None) == 1
        assert devices_of(tmp_path, 2) == 2
        self.put(tmp_path / "a", devices=2)
        assert devices_of(tmp_path, None) == 2
        with pytest.raises(UserError, match="a: was begun on 2 devices, not 4"):
            devices_of(tmp_path, 4)
        self.put(tmp_path / "b", devices=1)
        with pytest.raises(UserError, match="b: was begun on 1 device, not 2"):
            devices_of(tmp_path, None)


class TestStudies:
    @pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
    def test_every_study_has_a_card_and_a_plan(self, path: Path):
        card = [line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ")]
        assert "?" in card[0], "a card opens with the question"
        assert card[1].startswith(f"attnlab sweep {path.relative_to(ROOT)}"), "then says the command"
        assert "minute" in card[2] or "hour" in card[2], "then the time"
        study = read_study(path)
        assert study is not None
        base = catalog.find_config(ROOT / study.base)
        for tiny in (False, True):
            plan = make_plan(base, study.settings(tiny), study.seeds, None, tiny)
            assert len(plan.settings) > 1
            assert all(run.experiment.name == study.run_name(tiny) for run in plan.runs)
            assert not tiny or all(run.experiment.training.steps <= 10 for run in plan.runs)

    def test_the_catalog_tells_studies_from_experiments(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(ROOT)
        assert [ROOT / path for path, _ in catalog.studies()] == STUDIES
        assert not {ROOT / path for path, _ in catalog.experiments()} & set(STUDIES)
        assert all(read_study(path) is not None for path in STUDIES)
        assert read_study(DATES) is None

    def study(self, folder: Path, text: str) -> Path:
        path = folder / "mine.yaml"
        path.write_text(f"base: {DATES}\n{text}\n")
        return path

    def test_a_study_is_not_trained(self, tmp_path: Path):
        with pytest.raises(UserError, match=r"is a study of several runs .*attnlab sweep"):
            load(self.study(tmp_path, "seeds: 1-3"))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("seedz: 1-3", r"mine\.yaml:2: seedz: unknown key; did you mean seeds\?"),
            ("seeds: 3-1", r"mine\.yaml:2: seeds: expected seeds such as 1-5"),
            ("seeds: [1, 1]", r"mine\.yaml:2: seeds: the seed 1 is given twice"),
            ("axes: {model.dropout: 3}", r"mine\.yaml:2: axes: model\.dropout: expected a list of values"),
            ("axes: {model.dropout: [1, 1]}", r"mine\.yaml:2: axes: model\.dropout: the value 1 is given twice"),
            ("axes: {seed: [1, 2]}", r"mine\.yaml:2: axes: seed: cannot vary seed"),
            ("budget: {minutes: 0}", r"mine\.yaml:2: budget\.minutes: must be above 0"),
        ],
    )
    def test_a_mistake_has_its_place(self, tmp_path: Path, text: str, message: str):
        with pytest.raises(UserError, match=message):
            read_study(self.study(tmp_path, text))

    def test_a_study_is_a_sweep(self, tmp_path: Path):
        study = read_study(self.study(tmp_path, "axes: {model.dropout: [0.1, 0.2]}\nbudget: {steps: 500}\nseeds: 2,3"))
        assert study is not None
        plan = make_plan(DATES, study.settings(), study.seeds, None)
        assert [run.name for run in plan.runs] == [
            "dropout=0.1-s2", "dropout=0.2-s2", "dropout=0.1-s3", "dropout=0.2-s3"
        ]  # fmt: skip
        assert {(run.experiment.name, run.experiment.training.steps) for run in plan.runs} == {("mine", 500)}
        assert {run.experiment.training.optimizer.warmup_steps for run in plan.runs} == {50}, "shortened in proportion"


@dataclass
class FakeLauncher:
    """Ends a job at the second look at it, with the code that `codes` has for its run."""

    capacity: int | None = 2
    parallel: int = 2
    codes: dict[str, int] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    most: int = 0

    def start(self, jobs) -> list[Handle]:
        handles: list[Handle] = [FakeHandle(self, job.run.name) for job in jobs]
        self.started += [job.run.name for job in jobs]
        self.active += [job.run.name for job in jobs]
        self.most = max(self.most, len(self.active))
        return handles

    def close(self):
        assert not self.active


@dataclass
class FakeHandle:
    launcher: FakeLauncher
    name: str
    looks: int = 0

    def poll(self):
        self.looks += 1
        if self.looks < 2:
            return None
        if self.name in self.launcher.active:
            self.launcher.active.remove(self.name)
        return Ended(self.launcher.codes.get(self.name, 0))

    def stop(self):
        self.launcher.stopped.append(self.name)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """A launcher whose successful jobs complete their runs."""
    launcher = FakeLauncher()

    def status(run) -> RunStatus:
        ended = run.name in launcher.started and run.name not in launcher.active
        return RunStatus(500 if run.name in launcher.started else 0, 1000, 60.0, ended)

    monkeypatch.setattr(loop, "read_status", status)
    monkeypatch.setattr(loop, "POLL", 0.0)
    monkeypatch.setattr(loop, "ELSEWHERE_EVERY", 0.0)
    return launcher


class Silent:
    def begun(self, run):
        pass

    def elsewhere(self, run):
        pass

    def completed(self, run, seconds):
        pass

    def failed(self, run, reason):
        pass

    def update(self):
        pass


def sweep_of(plan: Plan, launcher: FakeLauncher, minutes: float | None = None, monitor: Any = None) -> Sweep:
    def job(run):
        return make_job(plan, run, 1, None, False)

    return Sweep(plan.runs, job, launcher, monitor or Silent(), minutes)


class TestLoop:
    def test_all_runs_are_carried_out_and_a_failed_one_stops_none(self, fake: FakeLauncher, tmp_path: Path):
        fake.codes = {"score=dot-s1": 2}
        plan = plan_of(SCORES, seeds=(1, 2, 3), directory=tmp_path)
        outcome = sweep_of(plan, fake).run()
        assert sorted(fake.started) == sorted(run.name for run in plan.runs)
        assert [run.name for run in outcome.failed] == ["score=dot-s1"]
        assert fake.most == 2

    def test_an_interrupted_sweep_stops_its_jobs(self, fake: FakeLauncher, tmp_path: Path):
        def poll() -> None:
            if fake.started:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sweep_of(plan_of(SCORES, directory=tmp_path), fake).run(poll)
        assert fake.stopped == fake.started == ["score=additive-s1", "score=dot-s1"]
        assert not fake.active

    def test_no_run_is_begun_after_the_budget(self, fake: FakeLauncher, tmp_path: Path):
        outcome = sweep_of(plan_of(SCORES, directory=tmp_path), fake, minutes=1e-9).run()
        assert not fake.started
        assert len(outcome.left) == 4

    def test_a_run_that_another_process_trains_is_waited_for(self, fake: FakeLauncher, tmp_path: Path):
        plan, waits = plan_of(SCORES, directory=tmp_path, seeds=(1,)), []
        directory = plan.runs[0].directory
        directory.mkdir(parents=True)
        held = [lock.acquire(directory / lock.LOCK)]

        class Monitor(Silent):
            def elsewhere(self, run):
                waits.append(run.name)

            def update(self):
                if held and waits and len(fake.started) == 1:
                    lock.release(held.pop(), directory / lock.LOCK)

        sweep_of(plan, fake, monitor=Monitor()).run()
        assert waits == ["score=additive-s1"]
        assert fake.started == ["score=dot-s1", "score=additive-s1"]

    def test_the_programs_of_a_setting_are_compiled_by_one_run(self):
        runs = plan_of(SCORES, seeds=(1, 2)).runs
        steps = dict.fromkeys(runs, 0)

        def ready(waiting, active, places=4):
            chosen = ready_to_compile(waiting, active, places, lambda run: RunStatus(steps[run], 10, 0.0))
            return [run.name for run in chosen]

        assert ready(runs, []) == ["score=additive-s1", "score=dot-s1"]
        assert ready(runs[1:], runs[:1]) == ["score=dot-s1"]
        assert ready(runs[2:], runs[:2]) == []
        steps[runs[0]] = 4
        assert ready(runs[2:], runs[:2]) == ["score=additive-s2"]
        assert ready(runs, [], places=1) == ["score=additive-s1"]


def test_the_command_of_a_job_is_one_that_a_user_can_type(tmp_path: Path):
    plan = plan_of(SCORES, seeds=(3,), directory=tmp_path)
    job = make_job(plan, plan.runs[1], 2, Path("my data"), True)
    assert job.command == (
        f"JAX_NUM_CPU_DEVICES=2 attnlab train {DATES} model.attention.score.kind=dot --seed 3 "
        f"--out {tmp_path}/score=dot-s3 --evaluate --data 'my data' --trust"
    )
    options = cli.parse(list(job.arguments))
    assert (options.evaluate, options.seed, options.overrides) == (True, 3, ["model.attention.score.kind=dot"])


@pytest.mark.parametrize(
    ("log", "code", "reason"),
    [
        ("reading\nattnlab: step 2: loss nan\n", 2, "step 2: loss nan"),
        ("Traceback\nValueError: wrong\n", 1, "ValueError: wrong"),
        ("step 5/8\n", -9, "ended by SIGKILL (out of memory?)"),
        ("attnlab: stopped\n", 143, "ended by SIGTERM"),
        ("", 7, "exit code 7"),
    ],
)
def test_why_a_job_failed(tmp_path: Path, log: str, code: int, reason: str):
    plan = plan_of(SCORES, directory=tmp_path)
    job = make_job(plan, plan.runs[0], 1, None, False)
    job.log.parent.mkdir()
    job.log.write_text(log)
    assert failure(job, code) == reason


def test_the_remaining_time():
    a1, b1, a2, b2 = plan_of(SCORES).runs
    statuses = {
        a1: RunStatus(1000, 1000, 100.0, True),
        b1: RunStatus(500, 1000, 100.0),
        a2: RunStatus(0, 1000, 0.0),
        b2: RunStatus(0, 1000, 0.0),
    }
    # 100 + 10 of b1, 100 + 10 of a2, 200 + 10 of b2
    assert seconds_to_go([b1, a2, b2], statuses, 10.0, 1) == 430
    assert seconds_to_go([b1, a2, b2], statuses, 10.0, 2) == 215
    assert seconds_to_go([b1, a2, b2], statuses, 10.0, 9) == 210, "no less than the longest run"
    assert seconds_to_go([a2], {run: RunStatus(0, 1000, 0.0) for run in statuses}, 0.0, 1) is None


def shown(terminal: bool) -> str:
    """Return what a display prints of a sweep of two settings and two seeds."""
    plan, time_now = plan_of(SCORES), [0.0]
    statuses = {run: RunStatus(0, 1000, 0.0) for run in plan.runs}
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=80, height=24, color_system=None)
    a1, b1, a2, _ = plan.runs
    with Display(plan, 2, console, statuses.__getitem__, lambda: time_now[0]) as display:
        display.begun(a1)
        display.begun(b1)
        statuses[a1], time_now[0] = RunStatus(1000, 1000, 60.0, True), 70.0
        display.completed(a1, 70.0)
        display.failed(b1, "out of memory")
        display.begun(a2)
        statuses[a2] = RunStatus(300, 1000, 20.0)
        display.update()
    return stream.getvalue()


def test_without_a_terminal_an_event_is_a_line():
    assert shown(terminal=False).splitlines() == [
        "score=additive-s1: begins",
        "score=dot-s1: begins",
        "score=additive-s1: done in 1 min 10 s; 1 of 4 done, 1 running, about 1 min 45 s to go",
        "score=dot-s1: failed: out of memory",
        "score=additive-s2: begins",
    ]


def test_on_a_terminal_there_is_a_table():
    text = shown(terminal=True)
    table = text[text.rindex("setting") :].splitlines()
    assert table[0].split() == ["setting", "done", "running", "failed"]
    assert table[1].split() == ["score=additive", "1", "of", "2", "s2", "30%"]
    assert table[2].split() == ["score=dot", "0", "of", "2", "s1"]
    assert table[3].startswith("1 of 4 done, 1 running, 1 failed, about ")
    assert "score=dot-s1: failed: out of memory" in text


@pytest.mark.parametrize(
    ("launcher", "package", "module"), [("slurm", "submitit", "slurm_jobs"), ("ray", "ray", "ray_tasks")]
)
def test_an_engine_that_is_not_installed_is_one_line(
    launcher: str,
    package: str,
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"attnlab.sweep.launchers.{module}", raising=False)
    command = ["sweep", str(DATES), "model.dropout=0.1,0.2", "--out", str(tmp_path), "--launcher", launcher]
    assert cli.main(command) == 2
    assert capsys.readouterr().err == (
        f"attnlab: --launcher {launcher}: needs {package}, which is not installed; pip install 'attnlab[{launcher}]'\n"
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["model.dropout=0.1,0.2", "--jobs", "0"], "--jobs 0"),
        (["model.dropout=0.1,0.2", "--devices", "0"], "--devices 0"),
        (["--seeds", "3-1"], "--seeds: expected seeds such as 1-5"),
        (["model.dropuot=0.1,0.2"], "model.dropuot: unknown key; did you mean dropout?"),
        (["--option", "partition=gpu"], "--launcher local has no options"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["sweep", str(DATES), *arguments]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_test_sets_are_those_of_the_config():
    assert names_of_test_sets(load(DATES)) == ["test"]
    assert names_of_test_sets(load(ROOT / "experiments/translation/multi30k_de_en_dot.yaml")) != ["test"]


# A sweep on this machine, of two runs: one is complete, and one fails at its second step.

RATES = "training.optimizer.learning_rate=0.001,1.0e+38"


def arguments_of(out: Path, *more: str) -> list[str]:
    return ["sweep", str(SENTIMENT), RATES, "training.steps=2", "--tiny", "--out", str(out), *more]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("sweep") / "rates"
    command = [sys.executable, "-m", "attnlab", *arguments_of(out)]
    return out, subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_a_sweep_completes_what_it_can(swept: tuple[Path, subprocess.CompletedProcess[str]]):
    out, done = swept
    assert done.returncode == 1
    runs = [path.name for path in find_runs(out)]
    assert runs == ["learning_rate=0.001-s1", "learning_rate=1e+38-s1"]
    assert {path.parent.name for path in out.rglob("config.yaml")} == set(runs), "only runs hold a config.yaml"
    assert "1 of 2 runs done" in done.stderr
    assert "failed: learning_rate=1e+38-s1: step " in done.stderr
    assert (out / runs[0] / "results.json").exists()
    assert (out / runs[0] / "per_example").is_dir()
    environment = json.loads((out / runs[0] / "environment.json").read_text())
    assert environment["fingerprint"]["devices"] == "1"
    assert environment["overrides"] == ["training.optimizer.learning_rate=0.001", "training.steps=2"]


def test_a_finished_run_is_not_touched(swept: tuple[Path, subprocess.CompletedProcess[str]], capfd):
    out, _ = swept

    def times() -> dict[str, float]:
        finished = out / "learning_rate=0.001-s1"
        return {str(path): os.stat(path).st_mtime_ns for path in [finished, *finished.rglob("*")]}

    before = times()
    assert cli.main(arguments_of(out, "--dry-run")) == 0
    listed = capfd.readouterr().out.splitlines()
    assert listed[0] == f"# {out}: 2 settings, 2 runs, 1 done already"
    assert [line.partition("--out ")[2].split()[0] for line in listed[1:]] == [f"{out}/learning_rate=1e+38-s1"]
    assert cli.main([text.replace("0.001,1.0e+38", "[0.001]") for text in arguments_of(out)]) == 0
    assert times() == before
