"""Settings of a sweep with equal parameters or operations: the search for a width, its report and its refusals."""

from pathlib import Path
from typing import Any

import pytest
from test_sweep import DATES, ROOT

from attnlab import cli, lab
from attnlab.config.axes import parse_setting
from attnlab.config.difference import difference
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.load import load
from attnlab.config.match import Match
from attnlab.config.study import read_study
from attnlab.lab.step_counts import StepCounter
from attnlab.sweep import match as matching
from attnlab.sweep.match import describe_match, match_settings, nearest_width
from attnlab.sweep.plan import Plan, make_plan

HIDDEN = Match(field="model.decoder.hidden")
SCORES = "model.attention={score: {kind: additive, hidden: 64}},{score: {kind: constant}},null"


@pytest.mark.parametrize("step", [1, 3, 8])
@pytest.mark.parametrize("target", [1, 17, 5_000, 123_456, 10_000_000])
def test_the_nearest_of_all_widths_is_found_in_few_counts(step: int, target: int):
    counted = []

    def count(width: int) -> int:
        counted.append(width)
        return 3 * width**2 + 40 * width + 7

    found = nearest_width(24, target, count, lambda width: width % step == 0)
    widths = range(step, 4000, step)
    assert found[0] == min(widths, key=lambda width: abs(3 * width**2 + 40 * width + 7 - target))
    assert found[1] == 3 * found[0] ** 2 + 40 * found[0] + 7
    assert len(counted) == len(set(counted)) < 20


def test_a_width_that_changes_nothing_or_is_the_only_valid_one_is_kept():
    assert nearest_width(8, 100, lambda width: 7, lambda width: True) == (8, 7)
    assert nearest_width(8, 100, lambda width: 107, lambda width: True) == (8, 107)
    assert nearest_width(8, 100, lambda width: width, lambda width: width == 8) == (8, 8)


class Counted:
    """Counts by a formula, in place of those of models."""

    def __init__(self, config: Experiment, data_dir: Path | None) -> None:
        pass

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def parameters(self, config: Experiment) -> int:
        model = config.model.model_dump()
        score = (model["attention"] or {"score": {}})["score"].get("hidden", 0)
        return 100 * model["decoder"]["hidden"] + 10 * score


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "StepCounter", Counted)


def plan_of(*given: str, seeds: tuple[int, ...] = (1, 2), tiny: bool = False) -> Plan:
    return make_plan(DATES, [parse_setting(text, lambda text: False) for text in given], seeds, None, tiny)


def test_every_run_has_its_width_and_differs_in_nothing_else(counted):
    plan = plan_of(SCORES)
    adjusted, found = match_settings(plan, HIDDEN, None)
    assert [(setting.width, setting.count) for setting in found] == [(128, 13_440), (134, 13_400), (134, 13_400)]
    assert [setting.overrides[-1] for setting in adjusted.settings] == [
        "model.decoder.hidden=128", "model.decoder.hidden=134", "model.decoder.hidden=134"
    ]  # fmt: skip
    assert [run.directory for run in adjusted.runs] == [run.directory for run in plan.runs]
    assert [run.seed for run in adjusted.runs] == [1, 1, 1, 2, 2, 2]
    assert ("model", "decoder", "hidden") in adjusted.varied
    for run, before, width in zip(adjusted.runs, plan.runs, (128, 134, 134) * 2, strict=True):
        assert run.experiment.model.decoder.hidden == width
        changed = {line.partition(":")[0] for line in difference(before.experiment, run.experiment)}
        assert changed == ({"model.decoder.hidden"} if width != 128 else set())
    lines = describe_match(HIDDEN, found)
    assert lines[0] == "model.decoder.hidden adjusted for equal parameters:"
    assert lines[2].split() == ["attention=constant", "134", "13,400", "parameters", "-0.30%"]


def test_a_setting_is_named_by_its_label_or_its_name(counted):
    plan = plan_of(SCORES)
    for to in ("none", "attention=none"):
        _, found = match_settings(plan, HIDDEN.model_copy(update={"to": to}), None)
        assert [setting.count for setting in found] == [12_840, 12_800, 12_800]
    with pytest.raises(UserError, match=r"^match\.to: \"nine\" is no setting of the sweep; valid: .*attention=none"):
        match_settings(plan, HIDDEN.model_copy(update={"to": "nine"}), None)


def test_a_tolerance_that_no_width_reaches_is_refused_except_for_tiny_models(counted):
    exact = HIDDEN.model_copy(update={"tolerance": 1e-4})
    message = (
        r"^attention=constant: no model\.decoder\.hidden has parameters within 0\.0001 of the 13,440 of "
        r"attention=additive,hidden=64; the nearest is 134 with 13,400 \(-0\.3%\); .*tolerance$"
    )
    with pytest.raises(UserError, match=message):
        match_settings(plan_of(SCORES), exact, None)
    match_settings(plan_of(SCORES, tiny=True), exact, None)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("model.attention", r"^match\.field: model\.attention is an axis of the sweep already"),
        ("model.dropout", r"^match\.field: model\.dropout is 0\.3 in attention=.*, not a width"),
        ("model.decoder.variant", r'^match\.field: model\.decoder\.variant is "luong" in attention=additive'),
        ("model.decoder.hiden", r"model\.decoder\.hiden: unknown key; did you mean hidden\?"),
        ("model.decoder.hidden.units", r"^match\.field: model\.decoder\.hidden is 128 in .*has no .*hidden\.units"),
        ("model.attention.score.hidden", r"^match\.field: in attention=constant: .*model\.attention\.score\.hidden"),
    ],
)
def test_a_field_that_is_no_width_of_every_setting_is_refused(counted, field: str, message: str):
    with pytest.raises(UserError, match=message):
        match_settings(plan_of(SCORES), Match(field=field), None)


def test_a_study_can_ask_for_it(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {DATES}\nmatch: {{by: flops, field: model.decoder.hidden, to: none, tolerance: 0.1}}\n")
    study = read_study(path)
    assert study is not None
    assert study.match == Match(by="flops", field="model.decoder.hidden", to="none", tolerance=0.1)
    for text, message in (
        ("match: {by: flop, field: x}", r"mine\.yaml:2: match\.by: .*flop.*flops"),
        ("match: {by: flops}", r"mine\.yaml:2: match.*field"),
        ("match: {field: x, tolerance: 0}", r"mine\.yaml:2: match\.tolerance: must be above 0"),
    ):
        path.write_text(f"base: {DATES}\n{text}\n")
        with pytest.raises(UserError, match=message):
            read_study(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--match", "flops"], "--match and --match-field belong together"),
        (["--match-field", "model.decoder.hidden"], "--match and --match-field belong together"),
        (
            ["--match", "flops", "--match-field", "x", "--match-tolerance", "0"],
            "--match-tolerance 0.0: must be a finite number above 0",
        ),
        (
            ["--match", "flops", "--match-field", "x", "--match-tolerance", "nan"],
            "--match-tolerance nan: must be a finite number above 0",
        ),
    ],
)
def test_options_that_say_nothing_alone_are_refused(options: list[str], message: str, capsys):
    assert cli.main(["sweep", str(DATES), "model.dropout=0.1,0.2", "--dry-run", *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_counts_are_those_of_the_models_and_of_attnlab_cost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    config = load(DATES, tiny=True)
    wider = config.replace(model=config.model.replace(decoder=config.model.decoder.replace(hidden=20)))
    with StepCounter(config, None) as counter:
        for experiment in (config, wider):
            measured = lab.cost(experiment, None, 1, notify=lambda line: None)
            assert counter.parameters(experiment) == measured.parameters
            assert counter.flops(experiment) == pytest.approx(measured.flops)


@pytest.mark.slow
def test_the_command_prints_widths_and_adds_them_to_every_run(tmp_path: Path, capsys):
    options = ["--tiny", "--seeds", "1", "--dry-run", "--match", "parameters", "--match-field", "model.decoder.hidden"]
    assert cli.main(["sweep", str(DATES), SCORES, "--out", str(tmp_path / "sweep"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# model.decoder.hidden adjusted for equal parameters:"
    widths = [line.split()[2] for line in lines[1:4]]
    assert widths[1] == widths[2] > widths[0]
    commands = [line for line in lines if "attnlab train" in line]
    assert [f"model.decoder.hidden={width} " in line for width, line in zip(widths, commands, strict=True)] == [
        True
    ] * 3
