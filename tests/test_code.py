"""The code of custom parts: what a run records of it, when it is executed, and how its errors are contained."""

import json
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import cli, lab
from attnlab.config.code import code_of, recorded_code
from attnlab.config.custom import CustomMask, CustomMod
from attnlab.config.custom_source import functions_with_source
from attnlab.config.errors import UserError
from attnlab.config.load import load, resolved
from attnlab.layers.custom import custom_function

MINE = """\
from beside import twice
from jaxtyping import Array, Float


def rank(query: Float[Array, "q d"], key: Float[Array, "k d"], *, w: Float[Array, "d 2"]):
    return twice(query @ w) @ (key @ w).T


def same(logits, positions):
    import farther

    return farther.unchanged(logits)
"""
BESIDE = """\
import jax.numpy as jnp
from more import FACTOR


def twice(x):
    return FACTOR * jnp.asarray(x)
"""
MODULES = {
    "beside": BESIDE,
    "more": "import beside\nFACTOR = 2\n",
    "farther": "def unchanged(x): return x\n",
    "other": "raise SystemExit('nobody imports this')\n",
}
EXPERIMENT = """\
task: {kind: classification, data: {kind: synthetic_sentiment}, tokenizer: {kind: words}}
model:
  kind: recurrent_classifier
  pooling:
    kind: attention
    attention:
      score: {kind: custom, function: mine.py:rank}
      mods: [{kind: custom, function: mine.py:same}]
training: {steps: 2}
"""


def written(folder: Path) -> Path:
    """Write an experiment and the code that it names."""
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE)
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "x.yaml").write_text(EXPERIMENT)
    return folder / "x.yaml"


def mod(source: str, **modules: str) -> CustomMod:
    return CustomMod(function="m.py:f", source=source, modules=modules)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose source files of code were deleted."""
    folder = tmp_path_factory.mktemp("code")
    run = lab.train(load(written(folder / "here"), tiny=True), folder / "run", None)
    shutil.rmtree(folder / "here")
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, as received from another user."""
    return Path(shutil.copytree(trained, tmp_path / "received"))


def edit(run: Path, old: str = "FACTOR = 2", new: str = "FACTOR = 3") -> None:
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new))


def test_a_run_keeps_the_modules_beside_the_file_and_no_others(tmp_path: Path):
    config = load(written(tmp_path))
    score = config.model.pooling.attention.score
    assert sorted(score.modules) == ["beside", "farther", "more"]
    assert load_again(tmp_path, config) == config
    before = code_of(config)
    assert list(before) == ["code of mine.py"]
    (tmp_path / "other.py").write_text("changed = True")
    assert code_of(load(tmp_path / "x.yaml")) == before
    (tmp_path / "more.py").write_text("FACTOR = 3")
    assert code_of(load(tmp_path / "x.yaml")) != before


def load_again(folder: Path, config):
    (folder / "again.yaml").write_text(resolved(config))
    return load(folder / "again.yaml")


def test_modules_are_those_of_one_config_and_of_no_folder():
    read = "import settings\ndef f(logits, positions): return logits * settings.FACTOR"
    logits = jnp.ones((2, 2))
    for factor in (2.0, 3.0):
        part = custom_function(mod(read, settings=f"FACTOR = {factor}")).part
        np.testing.assert_array_equal(part(logits, None), logits * factor)
    optional = "try:\n    import gone\nexcept ImportError:\n    gone = None\ndef f(logits, positions): return logits"
    assert custom_function(mod(optional)).part(logits, None) is not None
    assert custom_function(mod(optional, gone="import nowhere_at_all")).part(logits, None) is not None
    records = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Numbers:\n    n: int = 3\n"
        "def f(logits, positions): return logits * Numbers().n"
    )
    np.testing.assert_array_equal(custom_function(mod(records)).part(logits, None), logits * 3)


def test_annotations_may_be_texts_and_escapes_odd():
    source = (
        "from __future__ import annotations\nfrom jaxtyping import Array, Float\n"
        "def f(logits, positions, *, w: Float[Array, '3']):\n    '\\d'\n    return logits"
    )
    config = mod(source)
    with pytest.warns(SyntaxWarning if sys.version_info >= (3, 12) else DeprecationWarning, match="invalid escape"):
        function = custom_function(config)
    assert [learned.shape for learned in function.learned()] == [(3,)]


@pytest.mark.parametrize(
    ("source", "modules", "message"),
    [
        ("import sys\nsys.exit(3)", {}, "m.py:2: cannot be executed: SystemExit: 3"),
        ("raise SystemExit", {}, "m.py:1: cannot be executed: SystemExit"),
        ("import sub", {"sub": "\n\nexit('bye\\nbye')"}, "sub.py:3: cannot be executed: SystemExit: bye"),
        ("class Odd(BaseException): ...\nraise Odd('\\x1b[31m')", {}, r"m.py:2: cannot be executed: Odd: \x1b[31m"),
        ("def g(): g()\ng()", {}, "m.py:1: cannot be executed: RecursionError: maximum recursion depth exceeded"),
        ("raise ValueError('x' * 999)", {}, f"m.py:1: cannot be executed: ValueError: {'x' * 200}..."),
    ],
)
def test_code_that_ends_the_process_when_it_is_imported_is_one_line(source: str, modules: dict, message: str):
    config = mod(f"{source}\ndef f(logits, positions): return logits", **modules)
    with pytest.raises(UserError) as error:
        custom_function(config)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("what", ["SystemExit(3)", "GeneratorExit", "AssertionError('no')"])
def test_code_that_ends_the_process_when_it_is_called_is_one_line(what: str):
    result = custom_function(CustomMask(function="m.py:f", source=f"def f(positions):\n    raise {what}"))
    with pytest.raises(UserError, match=r"^m\.py:2: (SystemExit: 3|GeneratorExit|AssertionError: no)$"):
        result.code.guarded(result.function)(None)


def test_ctrl_c_stays_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        custom_function(mod("def f(logits, positions): ...\nraise KeyboardInterrupt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def rank(query, key): ...\n    x", "mine.py:2: not Python: unexpected indent"),
        ("return 3\ndef rank(query, key): ...", "mine.py:1: not Python: 'return' outside function"),
        ("def rank(query, key): ...\n\0", "mine.py:"),
        ("x = " + "(" * 5000 + ")" * 5000, "mine.py:"),
    ],
)
def test_invalid_python_is_reported_before_anything_is_executed(text: str, message: str, tmp_path: Path):
    path = written(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=r"x.yaml:7: model.pooling.attention.score: mine.py") as error:
        load(path)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_training_records_the_code_and_prints_a_line_when_it_is_executed(run: Path, capsys: pytest.CaptureFixture[str]):
    recorded = recorded_code(run)
    assert recorded == code_of(load(run / "config.yaml"))
    assert json.loads((run / "environment.json").read_text())["fingerprint"]["code of mine.py"] in recorded.values()
    assert len(lab.load(run).predict(["good"])) == 1
    line = f"attnlab: {run}: executes the code of mine.py (sha256 {recorded['code of mine.py'][:12]})"
    assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.parametrize(
    ("old", "new"),
    [("twice(query", "2.0 * twice(query"), ("FACTOR = 2", "FACTOR = 3"), ("return x", "return 1 * x")],
    ids=["the file", "a module of a module", "a module of a mod"],
)
def test_a_run_with_other_code_than_trained_it_is_refused(
    old: str, new: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    edit(run, old, new)
    trained, result = recorded_code(run)["code of mine.py"][:12], code_of(load(run / "config.yaml"))
    for command in (["predict"], ["show"], ["evaluate"]):
        assert cli.main([*command, str(run), *(["good"] if command == ["show"] else [])]) == 2
        error = capsys.readouterr().err
        assert f"{run}: the code of mine.py differs from the recorded one" in error
        assert f"{trained} at training" in error
        assert "--trust" in error
        assert "executes" not in error
        assert len(error.splitlines()) == 1
    opened = lab.load(run, trust=True)
    assert len(opened.predict(["good"])) == 1
    assert f"executes the code of mine.py (sha256 {result['code of mine.py'][:12]})" in capsys.readouterr().err


def test_without_a_record_code_is_refused_too(run: Path):
    environment = json.loads((run / "environment.json").read_text())
    del environment["fingerprint"]["code of mine.py"]
    (run / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(UserError, match=r"not recorded at training\); read it, then give --trust"):
        lab.load(run)
    assert lab.load(run, trust=True).steps == [2]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Replace training, and record its arguments other than the experiment and paths."""
    result: list[dict] = []
    monkeypatch.setattr(lab, "train", lambda *arguments, **options: result.append(options))
    return result


def test_training_by_a_received_config_asks_for_trust_where_its_code_is_not_recorded(
    run: Path, calls: list[dict], capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    config = str(run / "config.yaml")
    assert cli.main(["train", config, "--out", str(tmp_path / "new")]) == 0
    edit(run)
    alone = tmp_path / "alone.yaml"
    shutil.copy(config, alone)
    assert functions_with_source(alone) == {"mine.py:rank", "mine.py:same"}
    for path in (config, str(alone)):
        assert cli.main(["train", path, "--out", str(tmp_path / "new")]) == 2
        assert f"{path}: the code of mine.py differs from the recorded one" in capsys.readouterr().err
        assert cli.main(["train", path, "--out", str(tmp_path / "new"), "--trust"]) == 0
    assert [options["trust"] for options in calls] == [False, True, True]


def test_a_local_file_needs_no_trust(run: Path, calls: list[dict], tmp_path: Path):
    path = written(tmp_path / "mine")
    assert functions_with_source(path) == set()
    assert cli.main(["train", str(path), "--out", str(tmp_path / "new")]) == 0
    edit(run)
    attention = "model.pooling.attention"
    instead = [f"{attention}.score.function={path.parent}/mine.py:rank", f"{attention}.mods=[]"]
    assert functions_with_source(run / "config.yaml", instead) == set()
    assert cli.main(["train", str(run / "config.yaml"), *instead, "--out", str(tmp_path / "new")]) == 0
    assert len(calls) == 2


def test_a_run_does_not_go_on_with_other_code_unless_trusted(run: Path, capsys: pytest.CaptureFixture[str]):
    edit(run)
    config = load(run / "config.yaml")
    with pytest.raises(UserError, match=r"the code of mine\.py differs from the recorded one .* choose another --out"):
        lab.train(config, run, None)
    assert "executes" not in capsys.readouterr().err
    recorded = recorded_code(run)
    lab.train(config, run, None, trust=True)
    assert recorded_code(run) == recorded
