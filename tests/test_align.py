"""`attnlab align`, `attnlab predict --alignment` and guided alignment, on a run that has learned a small language."""

import copy
import io
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import jax
import numpy as np
import pytest
from rotated_language import SPLITS, experiment, write_data

from attnlab import cli, lab
from attnlab.analysis import alignment
from attnlab.analysis.alignment import Choice, sentences
from attnlab.config.errors import UserError
from attnlab.data.translation.alignment_files import write_jsonl
from attnlab.data.translation.gold_alignment import read_gold
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, word_spans
from attnlab.lab import alignment as alignment_of_run
from attnlab.lab import trained as trained_module
from attnlab.lab.alignment import aligned_prediction
from attnlab.tasks.hypotheses import Hypothesis
from attnlab.tasks.poll import no_poll
from attnlab.viz.alignment import notes

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


def with_nan(params):
    """Parameters with NaN in the second head's queries of the first layer's attention to the source."""
    params = copy.deepcopy(jax.device_get(params))
    bias = params["decoder"]["body"]["layer_0"]["cross_attention"]["query"]["bias"]
    params["decoder"]["body"]["layer_0"]["cross_attention"]["query"]["bias"] = np.where(
        np.arange(32) < 16, bias, np.nan
    )
    return params


def test_nan_in_the_attention_is_one_line_that_names_the_head(run: Path, data: Path, monkeypatch, capsys):
    trained = lab.load(run)
    task, params = trained.task, with_nan(trained.params)
    monkeypatch.setattr(trained_module, "read_parameters", lambda *_: [(60, params)])
    (run / "alignment.json").unlink(missing_ok=True)
    fault = r"no alignment can be read: decoder/layer_1/cross_attention, head 2 \(and 2 other heads\) has NaN or Inf"
    assert cli.main(["align", str(run), *gold_options(data), "--dev", "10", "--aligners", "none"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f'attnlab: {fault} among the weights, for the source "', message), message
    assert not (run / "alignment.json").exists()
    hypothesis = Hypothesis("one", task.tokenizer.target.encode("one").ids, 0.0, np.ones((1, 1)))
    monkeypatch.setattr(task, "hypotheses_of_lines", lambda *_: [[hypothesis]])
    with pytest.raises(UserError, match=fault):
        list(aligned_prediction(trained, layer=2).predict(params, ["eins"], 0, 1))
    with pytest.raises(UserError, match=r"no alignment error rate: the attention to the source \(layer 1, mean of its"):
        task._alignment_scores(params, task.load(trained.run.config, data).test["test"], no_poll)


# attnlab align


@pytest.fixture
def undecided(run: Path):
    """The run before `attnlab align`."""
    (run / "alignment.json").unlink(missing_ok=True)
    return run


@pytest.fixture(scope="module")
def written(run: Path, data: Path) -> dict:
    """What `attnlab align` writes, with its messages."""
    (run / "alignment.json").unlink(missing_ok=True)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert cli.main(["align", str(run), *gold_options(data), "--dev", "10", "--data", str(data)]) == 0
    text = (run / "alignment.json").read_text()
    return {"text": text, "out": out.getvalue(), "err": err.getvalue(), **json.loads(text)}


def rows_of(report: dict) -> dict[str, dict]:
    return {row["name"]: row for row in report["test"]}


def aligned(run: Path, *options: str) -> dict:
    dev = [] if "--dev" in options else ["--dev", "10"]
    assert cli.main(["align", str(run), *options, *dev]) == 0
    return json.loads((run / "alignment.json").read_text())


def test_align_chooses_on_dev_and_scores_on_the_rest(written: dict):
    assert (
        "IBM model 1: training on 160 sentence pairs and on the texts of the 30 with gold alignment" in written["err"]
    )
    assert (written["dev_sentences"], written["test_sentences"], written["trained_on"]) == (10, 20, 160)
    assert (written["exactly_tokenized"], written["reverse"], written["reverse_chosen"]) == (30, None, None)
    dev = {
        quantity: [row for row in written["dev"] if row["quantity"] == quantity] for quantity in ("weights", "norms")
    }
    assert [len(rows) for rows in dev.values()] == [2 * (2 * 3 + 1)] * 2
    best = min(dev["weights"], key=lambda entry: entry["aer"])
    assert best["aer"] < 5.0
    assert written["chosen"] == {name: best[name] for name in ("layer", "head", "reading", "quantity")}
    rows = rows_of(written)
    assert rows["attention"]["choice"] == written["chosen"]
    for name, row in rows.items():
        assert row["aer_ci95"][0] <= row["aer"] <= row["aer_ci95"][1]
        assert name == "attention" or row["minus_first"] == pytest.approx(row["aer"] - rows["attention"]["aer"])
    assert rows["attention"]["aer"] < 5.0 < rows["diagonal"]["aer"]
    assert rows["IBM model 1"]["aer"] < 15.0 < rows["diagonal"]["aer"]


def test_the_other_reading_and_the_norms_stand_beside_the_chosen_attention(written: dict):
    rows, chosen = rows_of(written), written["chosen"]["reading"]
    other = {"output_step": "input_step", "input_step": "output_step"}[chosen]
    beside = [("attention", other), ("attention norms", chosen), ("attention norms", other)]
    names = ["attention", *(f"{name}, {reading.replace('_', ' ')}" for name, reading in beside)]
    assert list(rows) == [*names, "IBM model 1", "diagonal"]
    for name in names[1:]:
        choice = rows[name]["choice"]
        rivals = [row for row in written["dev"] if all(row[key] == choice[key] for key in ("reading", "quantity"))]
        assert min(rivals, key=lambda row: row["aer"])["head"] == choice["head"]


def test_a_reader_is_told_what_the_tables_mean(written: dict):
    chosen, rows = written["chosen"], rows_of(written)
    head = f"head {chosen['head']}" if chosen["head"] else "mean of 2 heads"
    for text in (
        "AER on the first 10 sentences (dev)", "Other 20 sentences (test)", "attention (de→en): each target token",
        "words are linked if any of their tokens are",
        "each target word is linked to one source word or none",
        "percent, of sure and possible links", "AER minus that",
        f"chosen on dev: layer {chosen['layer']}, {head}, {chosen['reading'].replace('_', ' ')}", "written: ",
        f"{rows['diagonal']['aer']:.1f}", f"{rows['diagonal']['minus_first']:+.1f}",
    ):  # fmt: skip
        assert text in written["out"]
    assert f"*{min(row['aer'] for row in written['dev'] if row['quantity'] == 'weights'):.1f}" in written["out"]


def test_swap_exchanges_source_and_target(undecided: Path, data: Path, written: dict):
    exchanged = ["--gold", data / "test.reverse", "--source", data / "test.en", "--target", data / "test.de"]
    options = [*map(str, exchanged), "--data", str(data)]
    assert aligned(undecided, *options, "--swap") == json.loads(written["text"])
    rows = rows_of(aligned(undecided, *options))
    assert rows["attention"]["aer"] > 30.0


@pytest.mark.slow
def test_text_is_what_the_aligners_are_trained_on(run: Path, data: Path, gold, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("ATTNLAB_DATA", raising=False)
    write_jsonl(tmp_path / "few.jsonl", gold[:2], 0)  # too few to learn their words from
    options = ["--gold", str(tmp_path / "few.jsonl"), "--dev", "1", "--aligners", "ibm1"]
    files = [str(data / "train.de"), str(data / "train.en")]
    of_data = aligned(run, *options, "--data", str(data))
    assert rows_of(of_data)["IBM model 1"]["aer"] == 0.0
    assert aligned(run, *options, "--text", *files) == of_data
    exchanged = rows_of(aligned(run, *options, "--text", *files[::-1]))
    assert exchanged["IBM model 1"]["aer"] > 0.0
    assert exchanged["attention"] == rows_of(of_data)["attention"]
    other = aligned(run, *options, "--text", str(data / "dev.de"), str(data / "dev.en"))
    assert (other["trained_on"], of_data["trained_on"]) == (SPLITS["dev"], SPLITS["train"])


@pytest.mark.slow
def test_detokenized_gold_is_what_the_model_was_trained_on(undecided: Path, gold, tmp_path: Path):
    tokenized = [AlignedSentence(f"{pair.source} !", f"{pair.target} !", pair.gold) for pair in gold]
    plain = [AlignedSentence(f"{pair.source}!", f"{pair.target}!", pair.gold) for pair in gold]
    trained = lab.load(undecided)
    joined, whole, apart = (
        alignment.tokenized(trained.task, pairs, detokenized)
        for pairs, detokenized in ((tokenized, True), (plain, False), (tokenized, False))
    )
    assert [(pair.source, pair.target) for pair in joined] == [(pair.source, pair.target) for pair in whole]
    assert joined[0].source.endswith("!") > joined[0].source.endswith(" !")
    assert joined[0].target != apart[0].target
    assert joined[0].source_words == [*range(len(gold[0].source.split()) + 1)]  # the mark is a word of its own
    assert all(pair.exact for pair in [*joined, *whole, *apart])
    write_jsonl(tmp_path / "gold.jsonl", tokenized, 0)
    options = ["--gold", str(tmp_path / "gold.jsonl"), "--aligners", "none"]
    report, other = aligned(undecided, *options, "--detokenize"), aligned(undecided, *options)
    assert (report["detokenized"], other["detokenized"]) == (True, False)
    attended = alignment.attended_sentences(trained.task, trained.params, joined)
    chosen = alignment.source_attention(trained.task).choice(*list(report["chosen"].values())[:3])
    links = [alignment.attention_links(sentence, chosen) for sentence in attended]
    row = alignment.alignment_row("", links[10:], [pair.gold for pair in gold[10:]])
    assert rows_of(report)["attention"]["aer"] == pytest.approx(row.score.aer)
    assert [entry["aer"] for entry in report["dev"]] != [entry["aer"] for entry in other["dev"]]


def test_tokens_of_several_words_are_counted_and_reported(undecided: Path, gold, monkeypatch, capsys):
    monkeypatch.setattr(sentences, "detokenize", lambda words: (" ".join(words), within_a_token(words)))
    report, _ = lab.align(undecided, gold[:4], dev=1, detokenize=True, aligners=[])
    message = "attnlab: 4 of 4 sentence pairs have tokens of several words, which count for the first of them"
    assert message in capsys.readouterr().err
    assert json.loads((undecided / "alignment.json").read_text())["exactly_tokenized"] == 0
    assert report.rows[0].aer_interval is None


def within_a_token(words: list[str]) -> list[tuple[int, int]]:
    """The spans of words, but for the end of the first, which is behind its first letter."""
    (start, _), (_, second), *others = word_spans(" ".join(words))
    return [(start, start + 1), (start + 1, second), *others]


@pytest.mark.slow
def test_both_directions_are_symmetrized(run: Path, data: Path, gold, tmp_path: Path):
    other = lab.train(experiment("en", "de", "reverse", 60), tmp_path / "backward", data)
    report, attention = lab.align(run, gold, dev=10, reverse=other, aligners=["ibm1"], data_dir=data)
    names = [row.name for row in report.rows]
    kinds = ["", ", reverse", ", intersection", ", union", ", grow-diag-final-and"]
    attended = [f"attention{kind}" for kind in kinds]
    assert [name for name in names if not name.startswith("attention norms") and " step" not in name] == [
        *attended, *(f"IBM model 1{kind}" for kind in kinds), "diagonal",
    ]  # fmt: skip
    rows = dict(zip(names, report.rows, strict=True))
    assert all(rows[name].score.aer < 10.0 for name in attended)  # links that were not transposed would be wrong
    assert rows["IBM model 1, reverse"].score.aer < 15.0
    assert rows["attention, intersection"].score.recall <= rows["attention"].score.recall
    assert rows["attention, union"].score.recall >= rows["attention"].score.recall
    written = json.loads((run / "alignment.json").read_text())
    best = min((entry for entry in report.choices if entry.choice.quantity == "weights"), key=lambda e: e.score.aer)
    assert report.chosen == best.choice
    assert written["reverse"]["run"] == str(other)
    assert (
        written["reverse_chosen"]
        == attention.as_data(report.reverse_chosen)
        == rows_of(written)["attention, reverse"]["choice"]
    )
    assert rows["attention, reverse"].choice == report.reverse_chosen
    assert "chosen on dev, reverse: " in notes(report)
    assert attention.describe(Choice(None, 2, "input_step")) == "mean of all layers, head 2, input step"
    with pytest.raises(UserError, match="forward: translates de→en; the other direction of de→en is expected"):
        lab.align(run, gold, dev=10, reverse=run, aligners=[])


def test_data_that_are_not_those_of_the_training_are_refused(undecided: Path, data: Path, tmp_path: Path, capsys):
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    lines = (data / "train.de").read_text().splitlines()
    (tmp_path / "train.de").write_text("\n".join([*lines[:-1], lines[-1] + " eins"]) + "\n")
    assert cli.main(["align", str(undecided), *gold_options(data), "--dev", "10", "--data", str(tmp_path)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"was trained on different data \(fingerprint .*; .* or give --text SOURCE TARGET", message), (
        message
    )
    assert not (undecided / "alignment.json").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dev", "30"], "--dev 30: must be between 1 and 29"),
        (["--aligners", "giza"], "--aligners giza: must be one of ibm1, fast_align, eflomal, or none"),
        (["--aligners", "fast_align"], "fast_align is not on PATH: "),
        (["--aligners", "none", "--text", "a", "b"], "--text: .*--aligners none"),
        ([], "give --data DIR or set ATTNLAB_DATA; .*--text SOURCE TARGET, or --aligners none"),
        (["--base", "1"], "test.align:1: link 0-.: no source word 0 with base=1, .*use base=0"),
    ],
)
def test_mistaken_options_are_one_line(run: Path, data: Path, capsys, monkeypatch, options: list[str], says: str):
    monkeypatch.delenv("ATTNLAB_DATA", raising=False)
    monkeypatch.setenv("PATH", "")
    assert (
        cli.main(
            ["align", str(run), *gold_options(data), *(["--dev", "10"] if "--dev" not in options else []), *options]
        )
        == 2
    )
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("attnlab: ")
    assert re.search(says, message), message


def test_text_for_no_aligner_is_refused_in_python_too(run: Path, gold):
    with pytest.raises(UserError, match=r"--text: .*--aligners none"):
        lab.align(run, gold, dev=10, aligners=[], text=[("eins", "one")])


# attnlab predict --alignment


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
    assert lines == ALIGNED
    assert "alignment: layer 1, mean of 2 heads, output step (see `attnlab align`" in said
    options = ["--alignment", "--n-best", "2", "--layer", "1", "--reading", "input"]
    several, said = predicted(undecided, monkeypatch, capsys, *options)
    assert [line.split(" ||| ")[0] for line in several] == ["0", "0", "1", "1", "2", "2"]
    assert several[4].split(" ||| ")[1] == ALIGNED[2].split(" ||| ")[0]
    assert several[4].split(" ||| ")[3] != ALIGNED[2].split(" ||| ")[1]
    assert "alignment: layer 1, mean of 2 heads, input step\n" in said


@pytest.fixture
def decided(run: Path, written: dict):
    """Return a function that writes alignment.json with changes, and returns the run."""

    def write(text: str | None = None, **changes) -> Path:
        record = json.loads(written["text"]) | changes
        (run / "alignment.json").write_text(json.dumps(record) if text is None else text)
        return run

    yield write
    (run / "alignment.json").unlink()


def test_predict_uses_what_align_has_chosen(decided, written: dict, monkeypatch, capsys):
    lines, said = predicted(decided(), monkeypatch, capsys, "--alignment")
    assert lines == ALIGNED
    assert f"layer {written['chosen']['layer']}, " in said
    assert "alignment.json)" in said


@pytest.fixture(scope="module")
def model(run: Path):
    """The run, and its layers that attend to the source."""
    trained = lab.load(run)
    return trained, alignment.source_attention(trained.task)


def test_an_option_replaces_its_part_of_the_choice(decided, model):
    decided(chosen={"layer": 2, "head": 2, "reading": "input_step", "quantity": "weights"})
    one, two = model[1].names
    for given, choice in (
        ((None, None, None), Choice(two, 2, "input_step")),
        ((None, 1, None), Choice(two, 1, "input_step")),
        ((None, None, "output"), Choice(two, 2, "output_step")),
        ((None, 1, "output"), Choice(two, 1, "output_step")),
        ((1, None, None), Choice(one, None, "output_step")),
        ((2, 1, None), Choice(two, 1, "output_step")),
        ((1, None, "input"), Choice(one, None, "input_step")),
    ):
        assert alignment_of_run._selected(*model, *given)[0] == choice
    assert alignment_of_run._selected(*model, None, 1, "output")[1].endswith(
        "alignment.json, but for --head and --reading)"
    )
    decided("{")
    assert alignment_of_run._selected(*model, 1, None, None)[0] == Choice(one, None, "output_step")  # needs no record


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"layer": 9}, "chosen.layer 9: this model's attention to the source has layers 1 to 2"),
        ({"layer": True}, "chosen.layer is true, not a number or null"),
        ({"head": 0}, "chosen.head 0: this model's attention to the source has heads 1 to 2"),
        ({"head": "1"}, 'chosen.head is "1", not a number or null'),
        ({"reading": "sideways"}, 'chosen.reading is "sideways", not output_step or input_step'),
        ({"reading": ["input_step"]}, "chosen.reading is "),
        ({"quantity": "norms"}, 'chosen.quantity is "norms", not weights'),
    ],
)
def test_a_choice_that_align_does_not_write_is_one_line(decided, model, written: dict, chosen: dict, says: str):
    decided(chosen=written["chosen"] | chosen)
    refused(model, rf"is not what attnlab align has written for this run: {re.escape(says)}")


def test_a_damaged_record_is_one_line(decided, model, written: dict, capsys):
    for text in ("", "[]", '{"chosen": 1}', "[" * 100_000, json.dumps({"chosen": written["chosen"]})):
        decided(text)
        refused(model, "is not what attnlab align has written for this run; delete it")
    assert cli.main(["predict", str(decided("")), "--alignment"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("attnlab: ")


def test_a_choice_for_other_parameters_is_one_line(decided, model, written: dict):
    for changed in ({"steps": [7], "sha256": "0"}, written["checkpoint"] | {"sha256": "0"}):
        decided(checkpoint=changed)
        steps = re.escape(str(changed["steps"]))
        refused(model, rf"the choice was made for other parameters \(of checkpoints {steps}; now \[60\]\); repeat")
    decided(checkpoint="best")
    refused(model, "is not what attnlab align has written")


def refused(model, says: str) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*alignment.json: {says}"):
        alignment_of_run._recorded_choice(*model)


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
