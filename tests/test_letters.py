"""Letters of several characters: answers, words and references are whole, whichever spelling a file has."""

import itertools
import random
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, normalizers, pre_tokenizers

from attnlab.config import Bpe, Words
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.translation import ParallelText
from attnlab.data.extractive_qa.encoder import PassageEncoder
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion
from attnlab.data.story_qa.encoder import split_words
from attnlab.data.text.letters import attached, composed
from attnlab.data.text.tokenizer import Tokenizer, train
from attnlab.data.translation import load, tsv
from attnlab.tasks.captioning.metrics import words
from attnlab.tasks.extractive_qa import lexical_baseline
from attnlab.tasks.extractive_qa.metrics import exact

DECOMPOSED = "Where Zoe\u0308 lives cafe\u0301s cost a\u0302\u0301n in Ha\u0323\u0302u."
PASSAGES = {
    "accents": DECOMPOSED,
    "composed": composed(DECOMPOSED),
    "marks in another order": "q\u0307\u0323 x\u0308\u0331 e\u0302\u0323 a\u0315\u0300 b",
    "jamo": unicodedata.normalize("NFD", "한국 사람 서울 값"),
    "Hangul": "한국 사람 서울 값",
    "Thai": "ที่นี่ ภาษาไทย กำ ที่",
    "Devanagari": "हिन्दी में कि \u0958ी \u0915\u093c",
    "Malayalam": "\u0d05\u0d35\u0d28\u0d4d\u200d \u0d28\u0d4d\u200d \u0d15",
    "Bengali": "\u0995\u09c7\u09be \u0995\u09cb",
    "emoji": "👩\u200d👩\u200d👧 family ❤\ufe0f 👍🏽 🇩🇪 1\ufe0f\u20e3",
    "Hebrew points": "שָׁלוֹם עוֹלָם",
}  # fmt: skip


def wordpiece(lowercase: bool) -> Tokenizer:
    """BERT's reading; every character is a piece, the base letters alone as in uncased vocabularies."""
    bare = {c for text in PASSAGES.values() for c in unicodedata.normalize("NFD", text) + text if not c.isspace()}
    pieces = [f"{before}{c}" for c in sorted(bare | set("".join(bare).lower())) for before in ("", "##")]
    vocabulary = {piece: number for number, piece in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *pieces])}
    inner = Inner(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return Tokenizer(inner)


KINDS = {
    "words": train(Words(), [*PASSAGES.values()], "source"),
    "words, lower case": train(Words(lowercase="both"), ["of another text"], "source"),
    "bpe": train(Bpe(vocabulary=300), [*PASSAGES.values()] * 3, "source"),
    "bpe of letters": train(Bpe(vocabulary=200, lowercase="both"), [" ".join(t) for t in PASSAGES.values()], "source"),
    "pretrained, cased": wordpiece(lowercase=False),
    "pretrained, uncased": wordpiece(lowercase=True),
}
SETTINGS = ExtractiveQA.model_validate({"data": {"kind": "squad", "train": "t", "dev": "d", "test": {"test": "e"}}})


@pytest.mark.parametrize("passage", PASSAGES.values(), ids=PASSAGES)
@pytest.mark.parametrize("tokenizer", KINDS.values(), ids=KINDS)
def test_an_answer_reads_back_whole(tokenizer: Tokenizer, passage: str):
    """A perfect model points at the first and last token of the gold answer: any run of words is read as it stands."""
    reader = PassageEncoder(SETTINGS, tokenizer, "", 0)
    places = [0, *(n + 1 for n, c in enumerate(passage) if c == " "), len(passage) + 1]
    for start, end in itertools.combinations(places, 2):
        gold = passage[start : end - 1]
        question = PassageQuestion("q", "?", passage, (AnswerSpan(gold, start),))
        (window,) = reader.encode([question])
        first, last = window.target
        assert first > 0
        assert exact(gold, answer := reader.answer(question, window, first - 1, last - 1)) == 1.0
        assert answer == gold


@pytest.mark.parametrize("tokenizer", KINDS.values(), ids=KINDS)
def test_no_letter_is_cut_in_any_mixture_of_marks(tokenizer: Tokenizer):
    """Marks, jamo and joiners after a letter belong to a token that has it, in any order."""
    draw = random.Random(0)
    for _ in range(100):
        text = "".join(
            draw.choices("eao .q\u0323\u0302\u0301\u0315\u0308ᄒ\u1161\u11ab가\u0e35\u0e48क\u093f\u094d\u200d", k=12)
        )
        offsets = tokenizer.encode(text).offsets
        assert all(0 <= start <= end <= len(text) for start, end in offsets)
        covered = {place for start, end in offsets for place in range(start, end)}
        for place in range(1, len(text)):
            if attached(text[place]) and place - 1 in covered:
                assert place in covered, f"{text!r}: {place} of {offsets}"


@pytest.mark.parametrize("spelling", ["NFC", "NFD"])
def test_words_in_another_spelling_are_the_same_word(spelling: str):
    """The question's `Zoë` is the passage's, as a word (exact match) and by its letters."""
    passage, question = "Zoe\u0308 saw \u1112\u1161\u11ab.", unicodedata.normalize(spelling, "Did Zoë see 한?")
    reader = PassageEncoder.fit(SETTINGS, 4, [PassageQuestion("q", "Zoë 한?", "Zoë 한.", ())])
    (window,) = reader.encode([PassageQuestion("q", question, passage, ())])
    assert window.match.tolist() == [1, 0, 1, 0]
    assert (window.passage.letters[0] == window.question.letters[1]).all()
    assert window.passage.surface == ["zoë", "saw", "한", "."]


@pytest.mark.parametrize(("text", "read"), [
    ("Wo ist Zoe\u0308?", ["wo", "ist", "zoë"]), ("हिन्दी में कि", ["हिन्दी", "में", "कि"]), ("ที่นี่!", ["ที่นี่"]),
    (unicodedata.normalize("NFD", "한국 값"), ["한국", "값"]),
])  # fmt: skip
def test_words_of_stories_captions_and_the_sliding_window_keep_their_marks(text: str, read: list[str]):
    read = [composed(word) for word in read]
    assert split_words(text) == read
    assert words(text).split() == read
    assert words("की") != words("का")
    passage = f"Ann met {text[:-1]} in the park"
    assert (
        lexical_baseline.predict(PassageQuestion("q", "Who was it that Ann met in the park?", passage, ())) in passage
    )


def test_the_sliding_window_gives_whole_letters():
    question = PassageQuestion("q", "Where does Ann live?", "Ann does live Cafe\u0301s.", ())
    assert lexical_baseline.predict(question) == "Cafe\u0301s"


def test_a_perfect_translation_of_decomposed_text_matches(tmp_path: Path):
    """What a tokenizer writes is composed, so references are too: BLEU and exact match compare the same spelling."""
    for side, text in {"de": "Zoe\u0308 läuft", "en": "Zoe\u0308 runs"}.items():
        (tmp_path / f"t.{side}").write_text(unicodedata.normalize("NFD", text) + "\n", encoding="utf-8")
    config = ParallelText(source="de", target="en", train="t", dev="t", test={"test": "t"})
    (pair,) = load.load(config, tmp_path).test["test"]
    tokenizer = train(Words(), [pair.target], "target")
    assert tokenizer.decode(tokenizer.encode(pair.target).ids) == pair.target == "Zoë runs"
    assert pair.source == "Zoë läuft"


def test_a_column_is_found_in_either_spelling(tmp_path: Path):
    name = "français"
    for form in ("NFC", "NFD"):
        header = unicodedata.normalize("NFC" if form == "NFD" else "NFD", f"{name}\ten")
        (tmp_path / "t.tsv").write_text(f"{header}\nça\tthis\n", encoding="utf-8")
        (pair,) = tsv.read_pairs(tmp_path / "t.tsv", unicodedata.normalize(form, name), "en")
        assert pair.target == "this"
