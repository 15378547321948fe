"""Files of word alignments: what is read is what was written, and every mistake names its place."""

import gzip
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlab.config.errors import UserError
from attnlab.data.records import Span
from attnlab.data.translation import alignment_files as files
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, word_spans, words_of, words_of_tokens
from attnlab.tasks.translation.alignment import gold_pairs

SOURCE, TARGET = ["das Haus ist klein", "ja"], ["the house is small", "yes , sure"]
GOLDS = [
    Gold(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (2, 2), (3, 3)})),
    Gold(frozenset({(0, 0)}), frozenset({(0, 0), (0, 2)})),
]


@pytest.fixture
def write(tmp_path):
    def to_file(text: str):
        path = tmp_path / "links"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.mark.parametrize("base", [0, 1])
def test_each_format_is_read_as_written(tmp_path, base):
    path = tmp_path / "links"
    files.write_talp(path, GOLDS, base)
    assert files.read_pharaoh(path, base, SOURCE, TARGET) == GOLDS
    files.write_naacl(path, GOLDS, base)
    assert files.read_naacl(path, base, SOURCE, TARGET) == GOLDS
    sentences = [AlignedSentence(*pair) for pair in zip(SOURCE, TARGET, GOLDS, strict=True)]
    files.write_jsonl(path, sentences, base)
    assert files.read_jsonl(path, base) == sentences
    links = [gold.sure for gold in GOLDS]
    files.write_pharaoh(path, links, base)
    assert [gold.sure for gold in files.read_pharaoh(path, base)] == links


def test_what_is_written(tmp_path):
    path = tmp_path / "links"
    files.write_pharaoh(path, [frozenset({(10, 0), (2, 1)}), frozenset()], 0)
    assert path.read_text() == "2-1 10-0\n\n"
    files.write_talp(path, GOLDS[1:], 1)
    assert path.read_text() == "1-1 1p3\n"
    files.write_naacl(path, GOLDS[1:], 1)
    assert path.read_text() == "1 1 1 S\n1 1 3 P\n"


def test_every_notation_of_a_possible_link(write):
    (gold,) = files.read_pharaoh(write("1-1 1p2 2?2 3-3p 3-4P\n"), 1)
    assert gold.sure == {(0, 0)}
    assert gold.possible == {(0, 0), (0, 1), (1, 1), (2, 2), (2, 3)}


def test_a_link_that_is_sure_and_possible_is_sure(write):
    (gold,) = files.read_pharaoh(write("0p0 0-0"), 0)
    assert gold == Gold(frozenset({(0, 0)}), frozenset({(0, 0)}))


def test_target_first_exchanges_the_sides(write):
    (gold,) = files.read_pharaoh(write("2-0"), 0, ["a"], ["x y z"], target_first=True)
    assert gold.sure == {(0, 2)}
    with pytest.raises(UserError, match=":1: link 2-0: no source word 2"):
        files.read_pharaoh(write("2-0"), 0, ["a"], ["x y z"])


def test_the_wrong_base_is_found_and_the_right_one_suggested(write):
    counted_from_1 = write("1-1 2-2 3-3 4-4\n1-1\n")
    with pytest.raises(UserError, match=r":1: link 4-4: no source word 4 with base=0, index 3 .*use base=1"):
        files.read_pharaoh(counted_from_1, 0, SOURCE, TARGET)
    counted_from_0 = write("1-1\n0-0\n")
    with pytest.raises(UserError, match=r":2: link 0-0: no source word 0 with base=1, .*use base=0"):
        files.read_pharaoh(counted_from_0, 1, SOURCE, TARGET)
    with pytest.raises(UserError, match=r":1: link \[4, 4\]: no source word 4"):
        files.read_jsonl(write('{"src": "a b c d", "tgt": "a b c d", "sure": [[4, 4]]}'), 0)
    with pytest.raises(UserError, match=r":1: link 1 4 4 S: no source word 4"):
        files.read_naacl(write("1 4 4 S"), 0, SOURCE, TARGET)


@pytest.mark.parametrize("text", ["0", "0-", "a-b", "0-0-0", "0:0", "-1-0", "0p0p", "٣-٣", "9999999-0"])
def test_what_is_no_link(write, text):
    with pytest.raises(UserError, match=r":1: .* is not a link; write 3-4"):
        files.read_pharaoh(write(text), 0)


def test_the_number_of_lines_must_match(write):
    with pytest.raises(UserError, match="1 lines for 2 source sentences"):
        files.read_pharaoh(write("0-0\n"), 0, SOURCE)


def test_two_spaces_in_a_row_are_found(write):
    with pytest.raises(UserError, match=r":1: source sentence: word 1 is empty"):
        files.read_pharaoh(write("0-0"), 0, ["a  b"], ["x"])


@pytest.mark.parametrize(("text", "words"), [
    ("1 1", "is not a link; write: sentence source target S"),
    ("1 x 1 S", "is not a link"),
    ("3 1 1 S", "no sentence 3; sentences are numbered 1 to 2"),
    ("0 1 1 S", "no sentence 0"),
    ("1 1 1 S P", "'P' is no confidence"),
    ("1 1 1 X", "'X' is no confidence"),
    ("1 1 1 sure", "'sure' is no confidence"),
    ("1 1 1 0.5 P", "more fields"),
    ("1 1 1 S nan", "'nan' is no confidence"),
    ("1 1 1 -1", "'-1' is no confidence"),
    ("1 1 1 S 0.5 0.7", "more fields"),
    ("1 5 1 S", "no source word 5 with base=1, index 4 is the last"),
])  # fmt: skip
def test_mistakes_in_naacl(write, text, words):
    with pytest.raises(UserError, match=rf":2: .*{words}"):
        files.read_naacl(write(f"1 1 1 S\n{text}\n"), 1, SOURCE, TARGET)


def test_naacl_defaults_confidence_and_null(write):
    first, second = files.read_naacl(write("0001 1 1\n1 2 2 P 0.5\n1 3 0 S\n\n2 1 1 s\n"), 1, SOURCE, TARGET)
    assert (first.sure, first.possible) == ({(0, 0)}, {(0, 0), (1, 1)})
    assert second.sure == {(0, 0)}


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not JSON"),
    ('{"src": "a", "tgt": "b", "sure": [], "posible": []}', "unknown key 'posible'; did you mean 'possible'"),
    ('{"src": "a", "tgt": "b", "sure": [], "id": 3}', "unknown key 'id'; the keys are src, tgt, sure, possible"),
    ("[]", "keys src, tgt and sure"),
    ('{"src": "a", "tgt": "b"}', "keys src, tgt and sure"),
    ('{"src": ["a"], "tgt": "b", "sure": []}', "must be strings"),
    ('{"src": "a", "tgt": "b", "sure": {}}', "sure must be a list"),
    ('{"src": "a", "tgt": "b", "sure": [[0, true]]}', "is not a link"),
    ('{"src": "a", "tgt": "b", "sure": [], "possible": [[0]]}', "possible: .* is not a link"),
    ('{"src": "a ", "tgt": "b", "sure": []}', "src sentence: word 1 is empty"),
    ('{"src": "", "tgt": "b", "sure": [[0, 0]]}', "no source word 0 with base=0, the sentence has no words"),
])  # fmt: skip
def test_mistakes_in_jsonl(write, text, words):
    good = '{"src": "a", "tgt": "b", "sure": [[0, 0]], "possible": [[0, 0]]}'
    assert files.read_jsonl(write(good), 0)[0].gold.sure == {(0, 0)}
    with pytest.raises(UserError, match=rf":2: .*{words}"):
        files.read_jsonl(write(f"{good}\n{text}\n"), 0)


def test_gzip_and_carriage_returns(tmp_path):
    path = tmp_path / "links.gz"
    path.write_bytes(gzip.compress(b"0-0 1-1\r\n\r\n"))
    assert [gold.sure for gold in files.read_pharaoh(path, 0)] == [{(0, 0), (1, 1)}, frozenset()]


WORDS = st.lists(st.text(st.sampled_from("aß\u00a0\u2028😀"), min_size=1), max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(source=WORDS, target=WORDS, data=st.data())
def test_links_of_words_survive_as_links_of_characters(source, target, data):
    pairs = [(s, t) for s in range(len(source)) for t in range(len(target))]
    possible = data.draw(st.frozensets(st.sampled_from(pairs), max_size=5)) if pairs else frozenset()
    sure = frozenset(pair for pair in possible if sum(pair) % 2)
    sentence = AlignedSentence(" ".join(source), " ".join(target), Gold(sure, possible))
    assert words_of(sentence.source) == source
    spans = word_spans(sentence.source), word_spans(sentence.target)
    assert [sentence.source[start:end] for start, end in spans[0]] == source
    assert gold_pairs(sentence.pair().alignment, *spans) == sentence.gold


def test_tokens_belong_to_the_word_they_overlap():
    words: list[Span] = [(0, 3), (4, 8)]  # "10\u00a0% Haus" would be two words: (0, 4) and (5, 9)
    assert words_of_tokens(words, [(0, 3), (3, 6), (6, 8)]) == [0, 1, 1]  # a token may begin with the space before it
    assert words_of_tokens(word_spans("10\u00a0% ja"), [(0, 2), (2, 4), (4, 7)]) == [0, 0, 1]
    with pytest.raises(ValueError, match="source sentence 7: token 2, characters 3 to 4, overlaps no word"):
        words_of_tokens(words, [(0, 3), (3, 4)], "source sentence 7")


def test_a_token_without_characters_belongs_to_the_word_that_it_is_in_or_before():
    words: list[Span] = [(0, 3), (4, 8)]
    assert words_of_tokens(words, [(0, 0), (1, 1), (3, 3), (4, 4), (8, 8)]) == [0, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="overlaps no word"):
        words_of_tokens([], [(0, 0)])


def test_an_empty_file_is_refused(write):
    for read in (partial(files.read_pharaoh, base=0), partial(files.read_jsonl, base=0)):
        with pytest.raises(UserError, match="empty"):
            read(write(""))
