"""Every mistake in a config is one line with the path of the key and what would be right; exit code 2; no jax."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from attnlab import cli
from attnlab.config.load import load

GOOD = """\
task:
  kind: translation
  data:
    kind: dates
  tokenizer:
    kind: words
model:
  kind: recurrent_seq2seq
  encoder: {hidden: 64}
  attention:
    score:
      kind: additive
      hidden: 32
training:
  steps: 100
  optimizer: {kind: adamw,
    learning_rate: 1e-3}
"""
TSV = "data:\n    kind: tsv\n    source: de\n    target: en\n    train: a.tsv\n    dev: b.tsv\n    test: "
SCORES = "valid: dot, scaled_dot, general, additive"


def edited(old: str, new: str) -> bytes:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new).encode()


# name -> (bytes of the file, beginning of the message after `attnlab: <file>`)
BROKEN_FILES = {
    "unknown key": (
        edited("steps: 100", "steps: 100\n  stepz: 3"),
        ":16: training.stepz: unknown key; did you mean steps?",
    ),
    "typo of a required key": (edited("steps:", "step:"), ":15: training.step: unknown key; did you mean steps?"),
    "unknown section": (
        edited("model:", "modell:"),
        ":7: modell: unknown key; did you mean model? valid: name, seed, task",
    ),
    "key far from any": (
        edited("steps: 100", "steps: 100\n  zzzz: 3"),
        ":16: training.zzzz: unknown key; valid: steps, batch_tokens",
    ),
    "test set named as another split": (
        edited("data:\n    kind: dates", f"{TSV}{{dev: c.tsv}}"),
        ":9: task.data.test.dev: dev is the name of another split",
    ),
    "no test set": (edited("data:\n    kind: dates", f"{TSV}{{}}"), ":9: task.data.test: needs at least 1, got {}"),
    "key inside a kind": (
        edited("hidden: 32", "hiden: 32"),
        ":13: model.attention.score.hiden: unknown key; did you mean hidden? valid: kind, hidden",
    ),
    "key of another kind": (
        edited("kind: additive", "kind: dot"),
        ":13: model.attention.score.hidden: unknown key; valid: kind",
    ),
    "unknown kind": (
        edited("kind: additive", "kind: adittive"),
        f':12: model.attention.score.kind: unknown kind "adittive"; did you mean additive? {SCORES}',
    ),
    "kind far from any": (
        edited("kind: additive", "kind: zzz"),
        f':12: model.attention.score.kind: unknown kind "zzz"; {SCORES}',
    ),
    "kind that is a number": (edited("kind: additive", "kind: 3"), ':12: model.attention.score.kind: unknown kind "3"'),
    "kind missing": (
        edited("      kind: additive\n", ""),
        ":11: model.attention.score.kind: is missing; one of dot, scaled_dot, general, additive",
    ),
    "only kind misspelled": (
        edited("kind: translation", "kind: translating"),
        ':2: task.kind: unknown kind "translating"; did you mean translation?',
    ),
    "unknown choice": (
        edited("{hidden: 64}", "{hidden: 64, cell: grue}"),
        ':9: model.encoder.cell: unknown value "grue"; did you mean gru? valid: gru, lstm',
    ),
    "choice of the wrong type": (
        edited("{hidden: 64}", "{cell: [gru]}"),
        ':9: model.encoder.cell: unknown value ["gru"]',
    ),
    "missing key": (edited("  steps: 100\n", ""), ":14: training.steps: is missing"),
    "missing section": (
        edited("  attention:", "  # attention:").replace(b"    score:\n      kind: additive\n      hidden: 32\n", b""),
        ":7: model.attention: is missing",
    ),
    "words for a number": (
        edited("steps: 100", "steps: many"),
        ':15: training.steps: expected an integer, got "many"',
    ),
    "quoted number": (
        edited("steps: 100", "steps: '100'"),
        ':15: training.steps: expected an integer, got "100"',
    ),
    "fraction of a step": (
        edited("steps: 100", "steps: 1.5"),
        ":15: training.steps: expected an integer, got 1.5",
    ),
    "true for a number": (
        edited("steps: 100", "steps: true"),
        ":15: training.steps: expected an integer, got true",
    ),
    "nothing for a number": (
        edited("steps: 100", "steps:"),
        ":15: training.steps: expected an integer, got null",
    ),
    "list for a number": (
        edited("steps: 100", "steps: [1, 2]"),
        ":15: training.steps: expected an integer, got [1, 2]",
    ),
    "octal of YAML 1.1": (
        edited("steps: 100", "steps: 010"),
        ':15: training.steps: expected an integer, got "010"',
    ),
    "not a number": (edited("1e-3", ".nan"), ':17: training.optimizer.learning_rate: expected a number, got ".nan"'),
    "infinite": (
        edited("1e-3", "1e999"),
        ":17: training.optimizer.learning_rate: expected a finite number, got Infinity",
    ),
    "number for text": (b"name: 3\n" + GOOD.encode(), ":1: name: expected a string, got 3"),
    "number for true or false": (
        edited("kind: words", "kind: words\n    joint: 1"),
        ":7: task.tokenizer.joint: expected true or false, got 1",
    ),
    "number for a section": (edited("{hidden: 64}", "64"), ":9: model.encoder: expected a section, got 64"),
    "text for a section of kinds": (
        edited("    kind: words\n", "    words\n"),
        ':5: task.tokenizer: expected a section of name: value, got "words"',
    ),
    "zero where above zero": (edited("steps: 100", "steps: 0"), ":15: training.steps: must be above 0, got 0"),
    "below a range": (b"seed: -1\n" + GOOD.encode(), ":1: seed: must be at least 0 and below 4294967296, got -1"),
    "seed that would repeat another": (
        b"seed: 4294967297\n" + GOOD.encode(),
        ":1: seed: must be at least 0 and below 4294967296, got 4294967297",
    ),
    "seed that would overflow": (
        f"seed: {2**63}\n{GOOD}".encode(),
        f":1: seed: must be at least 0 and below 4294967296, got {2**63}",
    ),
    "seed of the data": (
        edited("kind: dates", f"kind: dates\n    seed: {2**32}"),
        f":5: task.data.seed: must be at least 0 and below 4294967296, got {2**32}",
    ),
    "above a range": (
        edited("kind: dates", "kind: dates\n    max_items: 13"),
        ":5: task.data.max_items: must be at least 1 and at most 12, got 13",
    ),
    "outside a probability": (
        edited("{hidden: 64}", "{hidden: 64}\n  dropout: 1"),
        ":10: model.dropout: must be at least 0 and below 1, got 1",
    ),
    "below a range with null": (
        edited("steps: 100", "steps: 100\n  patience: 0"),
        ":16: training.patience: must be above 0, got 0",
    ),
    "settings that contradict": (
        edited("kind: words", "kind: words\n  decoding: {n_best: 9}"),
        ":7: task.decoding: n_best (9) must not exceed beam (5)",
    ),
    "widths that contradict": (
        edited("kind: additive\n      hidden: 32", "kind: dot"),
        ":7: model: attention.score.kind dot needs decoder.hidden = 2 × encoder.hidden",
    ),
    "sections that contradict": (
        edited("{hidden: 64}", "{hidden: 64}\n  tie_embeddings: all"),
        ": model.tie_embeddings all needs task.tokenizer.joint: true",
    ),
    "entry of a free mapping": (
        edited("kind: dates", "{kind: tsv, source: de, target: en, train: a, dev: b, test: {c: 3}}"),
        ":4: task.data.test.c: expected a string, got 3",
    ),
    "key given twice": (
        edited("steps: 100", "steps: 100\n  steps: 3"),
        ":16: training.steps is given twice, first on line 15",
    ),
    "python tag": (
        edited("steps: 100", "steps: !!python/object/apply:os.getcwd []"),
        ":15: the tag !!python/object/apply:os.getcwd is not allowed",
    ),
    "own tag": (edited("steps: 100", "steps: !env STEPS"), ":15: the tag !env is not allowed; a config is data"),
    "a name that leads elsewhere": (
        edited("model:", "name: ../x\nmodel:"),
        ":7: name: '../x' ",
    ),
    "a name of dots": (edited("model:", "name: ..\nmodel:"), ":7: name: '..' "),
    "a name over two lines": (edited("model:", 'name: "a\\nb"\nmodel:'), ":7: name: 'a\\nb' "),
    "a name that turns text around": (edited("model:", 'name: "\\u202ea"\nmodel:'), ":7: name: '\\u202ea' "),
    "a name too long": (
        edited("model:", f"name: {'ä' * 101}\nmodel:"),
        f":7: name: '{'ä' * 20}'... is used as a file name, so it may have at most 200 bytes, got 202",
    ),
    "NUL in a name": (edited("model:", 'name: "a\\0"\nmodel:'), ":7: the character NUL is not allowed"),
    "NUL in a path": (
        edited("data:\n    kind: dates", f'{TSV}{{a: "c\\0.tsv"}}'),
        ":9: the character NUL is not allowed",
    ),
    "NUL in a key": (edited("steps: 100", '"steps\\0": 100'), ":15: the character NUL is not allowed"),
    "own": (
        edited("kind: additive", "kind: own"),
        f':12: model.attention.score.kind: unknown kind "own"; {SCORES}',
    ),
    "set": (edited("{hidden: 64}", "!!set {hidden}"), ":9: the tag !!set is not allowed"),
    "alias": (edited("steps: 100", "steps: &n 100\n  batch_tokens: *n"), ":15: an alias (*name) is not allowed"),
    "endless alias": (edited("{hidden: 64}", "&e {hidden: *e}"), ":9: an alias (*name) is not allowed"),
    "undefined alias": (edited("steps: 100", "steps: *n"), ":15: not YAML: found undefined alias 'n'"),
    "list as a key": (edited("steps: 100", "? [steps]\n  : 100"), ":15: a key must be a word"),
    "tab": (edited("  steps", "\tsteps"), ":15: not YAML: found character '\\t' that cannot start any token"),
    "open bracket": (edited("{hidden: 64}", "{hidden: 64"), ":10: not YAML: "),
    "two documents": (GOOD.encode() + b"---\na: 1\n", ":18: not YAML: but found another document"),
    "too deep": (b"[" * 10_000, ": not a config: nested too deeply"),
    "a number of 5000 digits": (
        edited("steps: 100", "steps: " + "9" * 5000),
        ": not a config: nested too deeply, or a number",
    ),
    "a long value": (
        edited("steps: 100", "steps: " + "x" * 5000),
        ":15: training.steps: expected an integer, got",
    ),
    "a key over two lines": (edited("steps: 100", '"st\\neps": 100'), ":15: training.'st\\neps': unknown key"),
    "half a character": (edited("steps: 100", '"\\ud800": 100'), ":15: not YAML: a lone surrogate"),
    "empty": (b"", ": is empty"),
    "only a card": (b"# Does it?\n", ": is empty"),
    "a list": (b"- task\n- model\n", ': expected the keys name, seed, task, model, training, got ["task", "model"]'),
    "a word": (b"task\n", ': expected the keys name, seed, task, model, training, got "task"'),
    "latin-1": (
        edited("kind: translation", "kind: übersetzung").decode().encode("latin-1"),
        ":2: byte 0xfc is not UTF-8",
    ),
    "NUL": (edited("steps: 100", "steps: 1\0"), ":15: not YAML: character '\\x00' is not allowed"),
}
BROKEN_OVERRIDES = {
    "name=/tmp/x": "command line: name: '/tmp/x' is used as a file name, so it cannot contain '/'",
    "model.drpout=0.2": "command line: model.drpout: unknown key; did you mean dropout?",
    "model.attention.score.kind=adittive": 'command line: model.attention.score.kind: unknown kind "adittive"; did you',
    "model.dropout=2": "command line: model.dropout: must be at least 0 and below 1, got 2",
    "training.steps=ten": 'command line: training.steps: expected an integer, got "ten"',
    "training.steps.x=1": "override training.steps.x: training.steps is 100, not a section with keys",
    "task.data.kind=tsv": "command line: task.data.source: is missing",
    "task.decoding.n_best=9": ":1 with the overrides: task.decoding: n_best (9) must not exceed beam (5)",
    "training.steps=": "override 'training.steps=': has no value after '='; null means none",
    "training.steps": "override 'training.steps': expected key.path=value, such as model.dropout=0.2",
    "=3": "override '=3': expected key.path=value",
    "model..dropout=3": "override 'model..dropout=3': expected key.path=value",
    "training.steps=[": "override 'training.steps=[': not YAML: ",
    "training.steps=!!python/name:os.system": "the tag !!python/name:os.system is not allowed; a config is data",
    "kind=translation": "command line: kind: unknown key; valid: name, seed, task, model, training",
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def message_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the line that the command prints; check that it is a single line and that the exit code is 2."""
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("attnlab: ")
    assert output.err.endswith("\n")
    line = output.err.removesuffix("\n")
    assert len(line.splitlines()) == 1
    assert len(line) < 400
    return line


def test_the_unbroken_config_loads(good: Path):
    assert load(good).name == "good"


def test_there_are_at_least_forty_broken_files():
    assert len(BROKEN_FILES) >= 40


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    content, message = BROKEN_FILES[name]
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    assert f"attnlab: {path}{message}" in message_of(capsys, "train", str(path))


@pytest.mark.parametrize("override", BROKEN_OVERRIDES)
def test_broken_override(override: str, good: Path, capsys: pytest.CaptureFixture[str]):
    assert BROKEN_OVERRIDES[override] in message_of(capsys, "train", str(good), override)


LONG = "x" * 50_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (LONG, f"override '{LONG[:57]}...': expected key.path=value"),
        (f"{LONG}=", f"override '{LONG[:57]}...': has no value"),
        (f"model.dropout=[{LONG}", f"override 'model.dropout=[{LONG[:42]}...': not YAML"),
        (f"model.dropout=!!python/{LONG} {LONG}", f"the tag !!python/{LONG[:48]}... is not allowed"),
        (f"model.encoder={{{LONG[:999]}: 1, {LONG[:999]}: 2}}", f"{LONG[:57]}... is given twice"),
        (f"model.encoder={{{LONG[:999]}: 1}}", f"model.encoder.{LONG[:57]}...: unknown key"),
        (f"{LONG}=1", f"command line: {LONG[:57]}...: unknown key"),
        (f"{'a.' * 20_000}a=1", "...': a path of 20001 keys"),
        (f"seed.{LONG}=1", "seed: expected an integer, got "),
        (f"model.dropout={LONG}", f'got "{LONG[:56]}...'),
        (f"model.kind={LONG}", f'unknown kind "{LONG[:56]}...'),
        (f"model.dropout={'9' * 4000}", f"got {'9' * 57}..."),
    ],
    ids=range(12),
)
def test_an_override_that_is_too_long_is_shortened(
    override: str, message: str, good: Path, capsys: pytest.CaptureFixture[str]
):
    assert message in message_of(capsys, "train", str(good), override)


@pytest.mark.parametrize("arguments", [["--seed", LONG], [f"--{LONG}"], ["--data", LONG]])
def test_an_argument_that_is_too_long_is_shortened(
    arguments: list[str], good: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert "xxx..." in message_of(capsys, "train", str(good), *arguments)
    assert "xxx..." in message_of(capsys, "evaluate", f"{tmp_path}/{LONG}")


def test_the_largest_seed_is_distinct():
    from jax.random import key, key_data

    keys = {tuple(key_data(key(seed)).tolist()) for seed in (0, 1, 2**31, 2**32 - 1)}
    assert len(keys) == 4


def test_missing_file(good: Path, capsys: pytest.CaptureFixture[str]):
    missing = good.with_name("god.yaml")
    assert message_of(capsys, "train", str(missing)) == f"attnlab: {missing}: no such file; did you mean {good}?"
    nowhere = good.parent / "no" / "good.yaml"
    assert f"there is no directory {nowhere.parent} either" in message_of(capsys, "train", str(nowhere))


def test_directory_for_a_file(good: Path, capsys: pytest.CaptureFixture[str]):
    assert "is a directory; give the YAML file of an experiment" in message_of(capsys, "train", str(good.parent))
    (good.parent / "config.yaml").write_text(GOOD)
    assert f"is a directory; did you mean {good.parent / 'config.yaml'}?" in message_of(
        capsys, "train", str(good.parent)
    )


@pytest.mark.parametrize("arguments", [["data", "check"], ["bench", "training"], ["train"]])
def test_every_command_that_takes_a_config_tells_it(
    arguments: list[str], good: Path, capsys: pytest.CaptureFixture[str]
):
    assert "model.drpout: unknown key" in message_of(capsys, *arguments, str(good), "model.drpout=0.2")


@pytest.mark.parametrize("name", ["unknown kind", "python tag", "settings that contradict"])
def test_within_a_second_in_a_process_of_its_own_and_without_jax(name: str, tmp_path: Path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(BROKEN_FILES[name][0])
    program = (
        "import sys; from attnlab.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(9 if {'jax', 'flax', 'numpy'} & sys.modules.keys() else code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program, "train", str(path)], capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    # seconds of its own: how busy the machine is does not matter
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
