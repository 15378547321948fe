"""Alignment of one's own data: guided by files, scored by `attnlab align`, printed by `attnlab predict --alignment`.

The language of these tests has a word for each English word, in the reverse order.
"""

import io
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from attnlab import cli, lab
from attnlab.analysis import alignment
from attnlab.analysis.alignment import Choice
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.load import load as load_config
from attnlab.config.load import resolved, validated
from attnlab.config.translation import ParallelText, TsvToSplit
from attnlab.config.yaml_text import parse
from attnlab.data.translation import load as loading
from attnlab.data.translation.alignment_files import pharaoh, read_pharaoh
from attnlab.data.translation.detokenization import detokenize
from attnlab.data.translation.gold_alignment import read_gold
from attnlab.data.translation.records import Link
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, split_punctuation
from attnlab.tasks.hypotheses import Hypothesis, output_lines
from attnlab.tasks.poll import no_poll

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "fünfzig": "fifty", "sechzig": "sixty"}
SPLITS = {"train": 160, "dev": 8, "test": 30}
TEST_LINES = ["eins zwei", "", "  sechzig   fünfzig drei "]


def sentence(draw: random.Random) -> AlignedSentence:
    source = draw.sample(list(WORDS), k=draw.randint(2, 4))
    count = len(source)
    links = frozenset((count - 1 - t, t) for t in range(count))
    return AlignedSentence(" ".join(source), " ".join(WORDS[word] for word in reversed(source)), Gold(links, links))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    for split, count in SPLITS.items():
        pairs = [sentence(draw) for _ in range(count)]
        for name, lines in {
            "de": [pair.source for pair in pairs],
            "en": [pair.target for pair in pairs],
            "align": [pharaoh(pair.gold.sure) for pair in pairs],
            "reverse": [pharaoh(pair.gold.reversed().sure) for pair in pairs],
            "talp": [pharaoh(pair.gold.sure, 1) for pair in pairs],
            "naacl": [f"{n} {s + 1} {t + 1}" for n, pair in enumerate(pairs, 1) for s, t in pair.gold.sure],
        }.items():
            (folder / f"{split}.{name}").write_text("".join(f"{line}\n" for line in lines))
    return folder


def experiment(source: str, target: str, suffix: str, steps: int) -> Experiment:
    return Experiment.model_validate({
        "name": f"{source}_{target}",
        "task": {
            "kind": "translation", "guided_alignment": 1.0, "max_length": 30,
            "data": {
                "kind": "parallel_text", "source": source, "target": target,
                "train": "train", "dev": "dev", "test": {"test": "test"},
                "alignments": {"train": f"train.{suffix}", "test": f"test.{suffix}"},
            },
            "tokenizer": {"kind": "bpe", "vocabulary": 100},
            "decoding": {"beam": 2, "max_length": 20},
        },
        "model": {
            "kind": "transformer_seq2seq", "width": 32, "heads": 2, "feed_forward": 32, "max_length": 40,
            "encoder": {"layers": 1}, "decoder": {"layers": 2}, "dropout": 0.0,
        },
        "training": {
            "steps": steps, "batch_tokens": 512, "buckets": 1, "evaluate_every": steps,
            "optimizer": {"kind": "adamw", "learning_rate": 0.01, "schedule": "constant"},
        },
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.train(experiment("de", "en", "align", 60), tmp_path_factory.mktemp("runs") / "forward", data)


@pytest.fixture(scope="module")
def gold(data: Path) -> list[AlignedSentence]:
    return read_gold(data / "test.align", data / "test.de", data / "test.en")


def gold_options(data: Path) -> list[str]:
    return ["--gold", str(data / "test.align"), "--source", str(data / "test.de"), "--target", str(data / "test.en")]


# Alignments of one's own data


def load(folder: Path, **changes):
    settings = {"source": "de", "target": "en", "train": "train", "dev": "dev", "test": {"test": "test"}, **changes}
    return loading.load(ParallelText(**settings), folder)


def test_each_split_has_the_alignments_of_its_file(data: Path):
    corpus = load(data, alignments={"train": "train.align", "test": "test.align"})
    assert len(corpus.train) == SPLITS["train"]
    first, words = corpus.train[0], corpus.train[0].source.split()
    assert first.alignment is not None
    assert len(first.alignment) == len(words)
    link = next(link for link in first.alignment if link.source[0] == 0)
    assert WORDS[words[0]] == first.target[slice(*link.target)]
    assert all(pair.alignment is None for pair in corpus.dev)
    assert corpus.fingerprint() != load(data).fingerprint()


def test_composed_letters_move_the_links(tmp_path: Path):
    for name, line in {"de": "fu\u0308nf zwei", "en": "two five", "align": "0-1 1-0"}.items():
        for split in ("train", "dev", "test"):
            (tmp_path / f"{split}.{name}").write_text(line + "\n")
    (pair,) = load(tmp_path, alignments={"train": "train.align"}).train
    assert pair.source == "fünf zwei"
    assert pair.alignment == (Link((0, 4), (4, 8)), Link((5, 9), (0, 3)))


def test_rows_of_one_file_keep_their_alignments_in_every_split(tmp_path: Path):
    draw = random.Random(1)
    pairs = [sentence(draw) for _ in range(40)]
    (tmp_path / "all.tsv").write_text("de\ten\n" + "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs))
    (tmp_path / "all.align").write_text("".join(f"{pharaoh(pair.gold.sure)}\n" for pair in pairs))
    settings = {"source": "de", "target": "en", "file": "all.tsv", "group_by": "en", "dev": 4, "test": 4}
    corpus = loading.load(TsvToSplit(**settings, alignments="all.align"), tmp_path)
    expected = {pair.source: set(pair.pair().alignment or ()) for pair in pairs}
    found = [pair for split in corpus.splits().values() for pair in split]
    assert len(found) == 40
    assert all(set(pair.alignment or ()) == expected[pair.source] for pair in found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("0-0\n", r"train.align:2: 1 lines for 160 source sentences; expected a line each"),
        ("0-9\n" + "\n" * 159, r"train.align:1: link 0-9: no target word 9 with base=0, index \d is the last"),
        ("\n\n0:0\n" + "\n" * 157, r"train.align:3: '0:0' is not a link; write 3-4"),
    ],
)
def test_a_mistake_in_an_alignment_file_names_its_line(data: Path, tmp_path: Path, content: str, says: str):
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train.align").write_text(content)
    with pytest.raises(UserError, match=says):
        load(tmp_path, alignments={"train": "train.align"})


def test_two_spaces_in_a_row_would_shift_the_words(data: Path, tmp_path: Path):
    for path in data.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (data / "train.de").read_text().splitlines()
    (tmp_path / "train.de").write_text("\n".join([lines[0], lines[1].replace(" ", "  ", 1), *lines[2:]]) + "\n")
    with pytest.raises(UserError, match=r"train.align:2: source sentence: word 1 is empty: .*single spaces"):
        load(tmp_path, alignments={"train": "train.align"})
    assert len(load(tmp_path).train) == SPLITS["train"]


def test_an_alignment_file_of_no_split_is_refused():
    with pytest.raises(ValueError, match=r"alignments.tset: no such split; the splits are train, dev, test"):
        ParallelText(source="a", target="b", train="t", dev="d", test={"test": "e"}, alignments={"tset": "f"})


@pytest.mark.parametrize("name", ["multi30k_de_en_dot", "tatoeba_de_en_transformer"])
def test_a_config_without_alignments_is_written_as_before_there_were_some(name: str):
    """Archived runs have no such key, and the YAML of a config is what makes runs a group."""
    experiments = Path(__file__).parents[1] / "experiments/translation"
    config = load_config(experiments / f"{name}.yaml")
    assert "alignments" not in resolved(config)
    given = "a" if isinstance(config.task.data, TsvToSplit) else {"train": "a"}
    config = config.replace(task=config.task.replace(data=config.task.data.replace(alignments=given)))
    assert validated(parse(resolved(config), "").data, "").task.data.alignments == given


# Reading gold alignment


@pytest.mark.parametrize("name", ["align", "talp", "naacl"])
def test_each_format_is_told_by_its_name(data: Path, gold, name: str):
    assert read_gold(data / f"test.{name}", data / "test.de", data / "test.en") == gold


def test_a_file_without_sentences_needs_them_and_one_with_them_does_not(data: Path):
    with pytest.raises(UserError, match=r"test.align: the format pharaoh holds no sentences; give the files of source"):
        read_gold(data / "test.align")
    with pytest.raises(UserError, match="holds the sentences; leave out"):
        read_gold(data / "test.align", data / "test.de", data / "test.en", format="jsonl")


def test_detokenized_text_has_every_word_at_its_place():
    words = ["(", "we", "'ve", "said", ":", '"', "no", '"', ",", "10", "%", "!", ")", "'", "x", "'", "..."]
    text, spans = detokenize(words)
    assert text == "(we've said: \"no\", 10 %!) 'x' ..."
    assert [text[slice(*span)] for span in spans] == words
    assert detokenize([]) == ("", [])


# Statistical aligners and the report


def test_statistical_aligners_know_tokenized_and_plain_text_alike(gold):
    plain = [("Eins, zwei!", "Two, one!"), ("Eins.", "One."), ("Zwei?", "Two?"), ("Drei!", "Three!")] * 3
    pairs = [AlignedSentence("eins , zwei !", "two , one !", gold[0].gold)]
    links = alignment.statistical_alignment("ibm1", pairs, plain, both=True)
    assert links.forward == links.backward == [{(0, 2), (1, 1), (2, 0), (3, 3)}]
    assert alignment.statistical_alignment("ibm1", pairs, plain).backward is None
    with pytest.raises(UserError, match="--aligners giza: must be one of ibm1, fast_align, eflomal"):
        alignment.statistical_alignment("giza", pairs, plain)
    assert "ibm1" in alignment.available()


def test_words_are_split_into_letters_and_marks():
    assert split_punctuation(["d.h.", "हिन्दी", "10%"]) == (
        ["d", ".", "h", ".", "हिन्दी", "10", "%"],
        [0, 0, 0, 0, 1, 2, 2],
    )


def test_offsets_are_those_of_the_decoded_text(run: Path):
    tokenizer = lab.load(run).task.tokenizer.target
    ids = [*tokenizer.encode("one fifty").ids, 3, *tokenizer.encode("sixty").ids]
    text, offsets = tokenizer.decode(ids), tokenizer.offsets(ids)
    assert "".join(text[slice(*span)] for span in offsets) == text.replace(" ", "")
    assert text[slice(*offsets[0])] == tokenizer.token(ids[0])
    assert tokenizer.offsets([]) == []
    assert tokenizer.offsets([1]) == [(0, 0)]


def test_a_field_of_alignments_is_the_last():
    hypotheses = [Hypothesis("a b", [5, 6], -0.5, np.ones((3, 1)))]
    assert list(output_lines(0, hypotheses, 1, ["0-0"])) == ["a b ||| 0-0"]
    assert list(output_lines(0, [], 1, [])) == [" ||| "]
    assert list(output_lines(4, hypotheses, 2, ["0-0"])) == ["4 ||| a b ||| -0.5000 ||| 0-0", "4 |||  ||| -inf ||| "]


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


def test_pharaoh_is_read_as_predict_writes_it(tmp_path: Path):
    (tmp_path / "a").write_text("0-1 1-0\n\n")
    assert [gold.sure for gold in read_pharaoh(tmp_path / "a", 0)] == [{(0, 1), (1, 0)}, frozenset()]
