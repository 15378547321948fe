"""Tokenizers: nothing lost, nothing special in a text, offsets that point at the text."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlab.config import Bpe, Words
from attnlab.config.errors import UserError
from attnlab.data.text.tokenizer import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer, Tokenizers, train, train_tokenizers
from attnlab.data.translation.records import ParallelCorpus, SentencePair

TEXTS = [
    "Ein Mann (mit Hut) läuft: schnell!", "Two dogs aren't running.", "<s> </s> <pad> <unk> x<s>y <unk>",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z ä ö ü ß",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    '0 1 2 3 4 5 6 7 8 9 , . ; : ! ? ( ) " \' - _ / & % < > *', "Ein Hund und ein Mann, ein Hut (ein Hut).",
]  # fmt: skip
TEXTS += [" ".join(text.replace(" ", "")) for text in TEXTS]
KINDS = {"words": Words(), "bpe": Bpe(vocabulary=300)}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train(KINDS[request.param], TEXTS * 3, "joint")


def corpus(*pairs: tuple[str, str]) -> ParallelCorpus:
    return ParallelCorpus(tuple(SentencePair(*pair) for pair in pairs), (SentencePair("dev", "dev"),), {}, "de", "en")


def test_special_tokens_have_their_numbers(tokenizer: Tokenizer) -> None:
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert tuple(tokenizer.token(i) for i in range(4)) == SPECIALS


@pytest.mark.parametrize("text", ["<s>", "</s>", "<pad>", "<unk>", "Ein <s> Mann</s>", "x<s>y", "<s><s>"])
def test_text_is_never_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert not {PAD, BOS, EOS} & set(ids)
    if UNK not in ids:
        assert tokenizer.decode(ids) == text


def test_special_names_in_the_training_text_do_not_become_special() -> None:
    bpe = train(Bpe(vocabulary=300), ["<s> a</s> <s>b </s> <pad> x<unk>"] * 500, "joint")
    for text in ("<s> a</s>", "b<pad>", "x<unk>"):
        ids = bpe.encode(text).ids
        assert min(ids) > UNK
        assert bpe.decode(ids) == text


def test_nothing_is_added_at_the_ends(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("").ids == []
    assert tokenizer.encode(" \t ").ids == []
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("Hund").ids + tokenizer.encode("Mann").ids == tokenizer.encode("Hund Mann").ids


def test_special_tokens_are_not_written(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Ein Hund").ids
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == "Ein Hund"


@pytest.mark.parametrize("text", [*TEXTS, "Mann,Hund ( Hut ) 'Mann'", "  Ein \t Mann\u00a0! ", "La\u0308uft", "_a__b_"])
def test_bpe_gives_the_text_back(text: str) -> None:
    bpe = train(KINDS["bpe"], TEXTS * 3, "joint")
    assert bpe.decode(bpe.encode(text).ids) == " ".join(unicodedata.normalize("NFC", text).split())


@pytest.mark.parametrize("text", TEXTS)
def test_words_give_the_text_back(text: str) -> None:
    words = train(Words(), TEXTS, "joint")
    assert words.decode(words.encode(text).ids) == text


BPE = train(KINDS["bpe"], TEXTS * 3, "joint")
WORDS = train(KINDS["words"], TEXTS * 3, "joint")


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("abcXYZ äß,.'<s>/()_-09\t\u00a0"), max_size=40))
def test_bpe_gives_any_text_of_known_characters_back(text: str) -> None:
    ids = BPE.encode(text).ids
    assert UNK not in ids
    assert BPE.decode(ids) == " ".join(text.split())


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.sampled_from([BPE, WORDS]))
def test_any_text_is_read_without_loss_of_place(text: str, tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode(text)
    assert len(encoding.ids) == len(encoding.tokens) == len(encoding.offsets)
    assert not {PAD, BOS, EOS} & set(encoding.ids)
    end = 0
    for start, stop in encoding.offsets:
        assert 0 <= start <= stop <= len(text)
        assert stop >= end
        end = stop
    covered = {i for start, stop in encoding.offsets for i in range(start, stop)}
    assert all(i in covered for i, character in enumerate(text) if character.isalnum())


def test_tokens_are_shown_without_marks_and_offsets_point_at_them(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("  Ein  Hund, (ein Hut).")
    assert [encoding.text[start:stop] for start, stop in encoding.offsets] == encoding.tokens
    assert "▁" not in "".join(encoding.tokens)


def test_batches_of_texts_are_encoded_as_single_ones(tokenizer: Tokenizer) -> None:
    assert [e.ids for e in tokenizer.encode_batch(TEXTS)] == [tokenizer.encode(text).ids for text in TEXTS]


def test_unknown_tokens_are_listed() -> None:
    words = train(Words(), ["ein Hund"], "source")
    encoding = words.encode("ein Drache schläft")
    assert encoding.ids[1:] == [UNK, UNK]
    assert encoding.offsets == [(0, 3), (4, 10), (11, 18)]
    assert words.decode(encoding.ids) == "ein <unk> <unk>"
    bpe = train(Bpe(vocabulary=100), ["ein Hund"] * 3, "source")
    assert bpe.decode(bpe.encode("ein 漢 Hu漢nd").ids) == "ein <unk> Hu<unk>nd"


@pytest.mark.parametrize(
    ("config", "unknown"), [(Words(), ["Zebra", "gnu", "日本"]), (Bpe(vocabulary=300), ["日", "本"])]
)
def test_unknown_words_are_returned_as_in_the_text(config: Words | Bpe, unknown: list[str]) -> None:
    encoding = train(config, TEXTS * 3, "joint").encode("ein Zebra, ein gnu  日本 <unk>")
    assert encoding.unknown_words == unknown
    assert [encoding.ids[place] for place in encoding.unknown] == [UNK] * len(unknown)


def test_a_number_outside_the_vocabulary_is_an_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocabulary_size])


def test_the_vocabulary_has_at_most_the_given_size() -> None:
    assert train(Words(vocabulary=10), TEXTS, "joint").vocabulary_size == 10
    many = ["".join(chr(c) for c in range(0x4E00 + i, 0x4E00 + i + 50)) for i in range(0, 5000, 50)]
    for size in (100, 200, 400):
        assert train(Bpe(vocabulary=size, min_frequency=1), many, "joint").vocabulary_size <= size


def test_rare_words_become_unknown() -> None:
    words = train(Words(min_frequency=2), ["ein Hund", "ein Mann"], "source")
    assert words.encode("ein Hund").ids == [words.encode("ein").ids[0], UNK]


def test_lower_case_is_by_side() -> None:
    for lowercase, lowered in (("none", []), ("source", ["source"]), ("both", ["source", "target", "joint"])):
        for side in ("source", "target", "joint"):
            tokens = train(Words(lowercase=lowercase), ["Ein HUT"], side).encode("Ein HUT").tokens
            assert tokens == (["ein", "hut"] if side in lowered else ["Ein", "HUT"])


def test_a_split_pattern_cuts_inside_words() -> None:
    words = train(Words(), ["einundzwanzig und"], "source", split="und|zwanzig")
    encoding = words.encode("einundzwanzig und")
    assert encoding.tokens == ["ein", "und", "zwanzig", "und"]
    assert encoding.ids[1] != encoding.ids[3], "the space before a word is part of its token"
    assert words.decode(encoding.ids) == "einundzwanzig und"


def test_joint_tokenizers_are_the_same_object() -> None:
    data = corpus(("ein Hund", "a dog"))
    joint = train_tokenizers(Words(joint=True), data)
    assert joint.source is joint.target
    assert joint.source.vocabulary_size == 4 + 4
    separate = train_tokenizers(Words(joint=False), data)
    assert separate.source.vocabulary_size == separate.target.vocabulary_size == 4 + 2


@pytest.mark.parametrize("config", [Words(joint=True, lowercase="source"), Bpe(vocabulary=200, lowercase="source")])
def test_a_joint_vocabulary_serves_two_readings(config: Words | Bpe) -> None:
    both = train_tokenizers(config, corpus(*[("Der Hund <s>", "The Dog <s>")] * 4))
    assert both.source.vocabulary_size == both.target.vocabulary_size
    assert both.source.decode(both.source.encode("Der Hund").ids) == "der hund"
    assert both.target.decode(both.target.encode("The Dog").ids) == "The Dog"
    numbers = range(both.source.vocabulary_size)
    assert [both.source.token(i) for i in numbers] == [both.target.token(i) for i in numbers]


def test_only_the_training_part_is_learned_from() -> None:
    assert train_tokenizers(Words(), corpus(("ein", "one"))).source.encode("dev").ids == [UNK]


@pytest.mark.parametrize("config", [*KINDS.values(), Words(joint=True), Bpe(vocabulary=200, lowercase="source")])
def test_saved_and_loaded_is_the_same(tmp_path: Path, config: Words | Bpe) -> None:
    before = train_tokenizers(config, corpus(*[(text, text[::-1]) for text in TEXTS]))
    before.save(tmp_path / "tokenizers")
    after = Tokenizers.load(tmp_path / "tokenizers")
    for text in [*TEXTS, "unbekannt 漢"]:
        for side in ("source", "target"):
            first, second = (getattr(both, side).encode(text) for both in (before, after))
            assert (first.ids, first.tokens, first.offsets) == (second.ids, second.tokens, second.offsets)
    assert (after.source is after.target) == (before.source is before.target)


def test_a_broken_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "source.json"
    with pytest.raises(UserError, match=r"source\.json"):
        Tokenizer.load(path)
    for content in (b"", b"{}", b"\xff", b"[1, 2]"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"source\.json") as error:
            Tokenizer.load(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_exact_in_any_process(kind: str, tmp_path: Path) -> None:
    code = (
        "import sys; from attnlab.config import Bpe, Words; from attnlab.data.text.tokenizer import train; "
        "import pathlib;"
        f"train({KINDS[kind]!r}, {TEXTS!r}, 'joint').save(pathlib.Path(sys.argv[1]))"
    )
    files = []
    for seed in ("1", "2"):
        files.append(tmp_path / seed)
        environment = os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed}
        subprocess.run([sys.executable, "-c", code, str(files[-1])], check=True, env=environment)
    train(KINDS[kind], TEXTS, "joint").save(tmp_path / "here")
    assert files[0].read_bytes() == files[1].read_bytes() == (tmp_path / "here").read_bytes()


def test_equally_rare_characters_are_chosen_the_same_way_every_time():
    """Of 300 characters that occur once each, 200 fit: always the first in Unicode."""
    texts = [chr(0x4E00 + number) for number in range(300)]
    learned = [train(Bpe(vocabulary=400, min_frequency=1), texts, "joint").to_json() for _ in range(3)]
    assert learned[0] == learned[1] == learned[2]
    assert "\u4e00" in learned[0]
    assert chr(0x4E00 + 299) not in learned[0]
