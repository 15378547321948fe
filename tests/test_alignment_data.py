"""Files of alignments for one's own data, gold alignment, and the statistical aligners that are trained on text."""

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rotated_language import SPLITS, WORDS, sentence, write_data

from attnlab.analysis import alignment
from attnlab.config.errors import UserError
from attnlab.config.load import load as load_config
from attnlab.config.load import resolved, validated
from attnlab.config.translation import ParallelText, TsvToSplit
from attnlab.config.yaml_text import parse
from attnlab.data.text.tokenizer import Encoding
from attnlab.data.translation import load as loading
from attnlab.data.translation.alignment_files import pharaoh, read_pharaoh
from attnlab.data.translation.detokenization import detokenize
from attnlab.data.translation.gold_alignment import read_gold
from attnlab.data.translation.records import Link
from attnlab.data.translation.word_alignment import AlignedSentence, split_punctuation, word_spans
from attnlab.tasks.hypotheses import Hypothesis, output_lines
from attnlab.tasks.translation.supervision import gold_links


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def gold(data: Path) -> list[AlignedSentence]:
    return read_gold(data / "test.align", data / "test.de", data / "test.en")


# Alignments of one's own data


def load(folder: Path, **changes):
    settings = {"source": "de", "target": "en", "train": "train", "dev": "dev", "test": {"test": "test"}, **changes}
    return loading.load(ParallelText(**settings), folder)


def test_each_split_has_the_alignments_of_its_file(data: Path):
    corpus = load(data, alignments={"train": "train.align", "test": "test.align"})
    assert len(corpus.train) == SPLITS["train"]
    first, words = corpus.train[1], corpus.train[1].source.split()
    assert first.alignment is not None
    assert len(first.alignment) == len(words)
    link = next(link for link in first.alignment if link.source[0] == 0)
    assert WORDS[words[0]] == first.target[slice(*link.target)]
    assert all(pair.alignment is None for pair in corpus.dev)
    assert corpus.fingerprint() != load(data).fingerprint()


def test_possible_links_do_not_guide_attention(data: Path, tmp_path: Path):
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "train.align").write_text("0-0 1p2\n" + "\n" * (SPLITS["train"] - 1))
    corpus = load(tmp_path, alignments={"train": "train.align"})
    pair = corpus.train[0]
    assert [link.sure for link in pair.alignment or ()] == [True, False]
    encodings = [
        [Encoding(text, [*range(len(spans))], SimpleNamespace(offsets=spans))]
        for text, spans in ((text, word_spans(text)) for text in (pair.source, pair.target))
    ]
    ends = tuple(len(encoding.ids) for (encoding,) in encodings)
    assert gold_links([pair], *encodings, max_length=9) == [{(0, 0), ends}]


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


def test_a_field_of_alignments_is_the_last():
    hypotheses = [Hypothesis("a b", [5, 6], -0.5, np.ones((3, 1)))]
    assert list(output_lines(0, hypotheses, 1, ["0-0"])) == ["a b ||| 0-0"]
    assert list(output_lines(0, [], 1, [])) == [" ||| "]
    assert list(output_lines(4, hypotheses, 2, ["0-0"])) == ["4 ||| a b ||| -0.5000 ||| 0-0", "4 |||  ||| -inf ||| "]


def test_pharaoh_is_read_as_predict_writes_it(tmp_path: Path):
    (tmp_path / "a").write_text("0-1 1-0\n\n")
    assert [gold.sure for gold in read_pharaoh(tmp_path / "a", 0)] == [{(0, 1), (1, 0)}, frozenset()]
