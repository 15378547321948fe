"""`attnlab align`, `attnlab predict --alignment` and guided alignment, on a run that has learned a small language."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rotated_language import experiment, write_data

from attnlab import cli, lab
from attnlab.analysis import alignment
from attnlab.analysis.alignment import Choice
from attnlab.config.errors import UserError
from attnlab.data.translation.gold_alignment import read_gold
from attnlab.data.translation.word_alignment import AlignedSentence, Gold
from attnlab.tasks.poll import no_poll

TEST_LINES = ["eins zwei drei", "", "  sechzig   fünfzig drei "]
ALIGNED = ["two three one ||| 0-2 1-0 2-1", " ||| ", "fifty three sixty ||| 0-2 1-0 2-1"]
"""The translations of these lines, with their alignment."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.train(experiment("de", "en", "align", 60), tmp_path_factory.mktemp("runs") / "forward", data)


@pytest.fixture(scope="module")
def gold(data: Path) -> list[AlignedSentence]:
    return read_gold(data / "test.align", data / "test.de", data / "test.en")


def gold_options(data: Path) -> list[str]:
    return ["--gold", str(data / "test.align"), "--source", str(data / "test.de"), "--target", str(data / "test.en")]


def test_offsets_are_those_of_the_decoded_text(run: Path):
    tokenizer = lab.load(run).task.tokenizer.target
    ids = [*tokenizer.encode("one fifty").ids, 3, *tokenizer.encode("sixty").ids]
    text, offsets = tokenizer.decode(ids), tokenizer.offsets(ids)
    assert "".join(text[slice(*span)] for span in offsets) == text.replace(" ", "")
    assert text[slice(*offsets[0])] == tokenizer.token(ids[0])
    assert tokenizer.offsets([]) == []
    assert tokenizer.offsets([1]) == [(0, 0)]


# The run


def test_attention_that_files_guide_aligns(run: Path, data: Path):
    trained = lab.load(run)
    pairs = trained.task.load(trained.run.config, data).test["test"]
    assert trained.task._alignment_scores(trained.params, pairs, no_poll)["aer"] < 5.0


def test_the_attention_of_a_hypothesis_is_that_of_its_decoding(run: Path):
    trained = lab.load(run)
    task = trained.task
    found = task.generate(trained.params, [task.parse_example([line]) for line in TEST_LINES if line], task.decoding)
    pairs = [
        alignment.tokenized_hypothesis(task, line, best)
        for line, (best, *_) in zip([line for line in TEST_LINES if line], found, strict=True)
    ]
    attention = alignment.source_attention(task)
    assert (len(attention.names), attention.heads) == (2, 2)
    choice = alignment.reported_choice(task, attention)
    for sentence, (best, *_) in zip(alignment.attended_sentences(task, trained.params, pairs), found, strict=True):
        mean = sentence.attention.weights[attention.names.index(choice.layer or "")].mean(axis=0)
        np.testing.assert_allclose(mean, best.weights, atol=1e-5)


@pytest.fixture
def undecided(run: Path):
    """The run before `attnlab align`."""
    (run / "alignment.json").unlink(missing_ok=True)
    return run


def predicted(run: Path, monkeypatch, capsys, *options: str) -> tuple[list[str], str]:
    class Input:
        buffer = io.BytesIO("".join(f"{line}\n" for line in TEST_LINES).encode())

    monkeypatch.setattr("sys.stdin", Input())
    assert cli.main(["predict", str(run), *options]) == 0
    printed = capsys.readouterr()
    return printed.out.splitlines(), printed.err


def test_predict_prints_the_alignment_of_each_translation(undecided: Path, monkeypatch, capsys):
    plain, _ = predicted(undecided, monkeypatch, capsys)
    lines, said = predicted(undecided, monkeypatch, capsys, "--alignment")
    assert [line.partition(" ||| ")[0] for line in lines] == plain
    assert lines[0] == "two one ||| 0-1 1-0"
    assert lines[1] == " ||| "
    assert lines[2] == "three fifty sixty ||| 0-2 1-1 2-0"
    assert "alignment: layer 1, mean of 2 heads, output step (see `attnlab align`" in said
    options = ["--alignment", "--n-best", "2", "--layer", "1", "--reading", "input"]
    several, _ = predicted(undecided, monkeypatch, capsys, *options)
    assert [line.split(" ||| ")[0] for line in several] == ["0", "0", "1", "1", "2", "2"]
    assert several[4].split(" ||| ")[1] == "three fifty sixty"
    assert several[4].split(" ||| ")[3] != "0-2 1-1 2-0"


def test_align_chooses_scores_and_is_used(undecided: Path, data: Path, monkeypatch, capsys):
    arguments = ["align", str(undecided), *gold_options(data), "--dev", "10", "--data", str(data)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "IBM model 1: training on 160 and the 30 pairs with gold alignment" in printed.err
    report = json.loads((undecided / "alignment.json").read_text())
    assert (report["dev_sentences"], report["test_sentences"], report["trained_on"]) == (10, 20, 160)
    assert len(report["dev"]) == 2 * (2 * 3 + 1)
    assert min(report["dev"], key=lambda entry: entry["aer"])["aer"] < 5.0
    rows = {row["name"]: row for row in report["test"]}
    assert list(rows)[:2] == ["attention", "IBM model 1"]
    assert list(rows)[-1] == "diagonal"
    assert rows["attention"]["aer"] < 5.0 < rows["diagonal"]["aer"]
    assert rows["attention"]["aer_ci95"][0] <= rows["attention"]["aer"] <= rows["attention"]["aer_ci95"][1]
    assert rows["diagonal"]["minus_first"] == pytest.approx(rows["diagonal"]["aer"] - rows["attention"]["aer"])
    chosen = report["chosen"]
    for text in (f"layer {chosen['layer']}", "written: ", "AER − attention", f"{rows['diagonal']['aer']:.1f}"):
        assert text in printed.out
    lines, said = predicted(undecided, monkeypatch, capsys, "--alignment")
    assert lines[0] == "two one ||| 0-1 1-0"
    assert "alignment.json)" in said


def test_a_damaged_choice_is_reported(undecided: Path, monkeypatch, capsys):
    (undecided / "alignment.json").write_text('{"chosen": {"layer": 9, "head": null, "reading": "output_step"}}')
    assert cli.main(["predict", str(undecided), "--alignment"]) == 2
    assert "alignment.json: is not what attnlab align has written" in capsys.readouterr().err
    (undecided / "alignment.json").unlink()


def test_both_directions_are_symmetrized(run: Path, data: Path, gold, tmp_path: Path):
    other = lab.train(experiment("en", "de", "reverse", 2), tmp_path / "backward", data)
    report, attention = lab.align(run, gold, dev=10, reverse=other, aligners=["ibm1"], text=[], data_dir=data)
    names = [row.name for row in report.rows]
    kinds = ["", ", reverse", ", intersection", ", union", ", grow-diag-final-and"]
    assert names == [f"{name}{kind}" for name in ("attention", "IBM model 1") for kind in kinds] + ["diagonal"]
    rows = dict(zip(names, report.rows, strict=True))
    assert rows["attention, intersection"].score.recall <= rows["attention"].score.recall
    assert rows["attention, union"].score.recall >= rows["attention"].score.recall
    assert isinstance(report.reverse_chosen, Choice)
    assert attention.describe(Choice(None, 2, "input_step")) == "mean of all layers, head 2, input step"
    with pytest.raises(UserError, match="forward: translates de→en; the other direction of de→en is expected"):
        lab.align(run, gold, dev=10, reverse=run, aligners=[])
    (run / "alignment.json").unlink()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dev", "30"], "--dev 30: must be between 1 and 29"),
        (["--aligners", "giza"], "--aligners giza: must be one of"),
        (["--dev", "10"], "give --data DIR or set ATTNLAB_DATA; .*--text SOURCE TARGET, or --aligners none"),
        (["--base", "1"], "test.align:1: link 0-.: no source word 0 with base=1, .*use base=0"),
    ],
)
def test_mistaken_options_are_one_line(run: Path, data: Path, capsys, monkeypatch, options: list[str], says: str):
    monkeypatch.delenv("ATTNLAB_DATA", raising=False)
    given = [*options, "--data", str(data)] if "giza" in options else options
    given = given if "--dev" in given else [*given, "--dev", "10"]
    assert cli.main(["align", str(run), *gold_options(data), *given]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("attnlab: ")
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alignment", "--layer", "3"], "--layer 3: this model's attention to the source has layers 1 to 2"),
        (["--alignment", "--head", "0"], "--head 0: this model's attention to the source has heads 1 to 2"),
        (["--head", "1"], "--head 1: needs --alignment"),
    ],
)
def test_predict_refuses_what_is_not_there(run: Path, capsys, options: list[str], says: str):
    assert cli.main(["predict", str(run), *options]) == 2
    assert capsys.readouterr().err == f"attnlab: {says}\n"


def test_gold_without_sure_links_is_refused(run: Path):
    pairs = [AlignedSentence("eins", "one", Gold(frozenset(), frozenset({(0, 0)})))] * 3
    with pytest.raises(UserError, match="gold alignment of the first 1 sentences has no sure link"):
        lab.align(run, pairs, dev=1, aligners=[])
