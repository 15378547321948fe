"""Alignments against hand counts and an independent count of AER."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab.data.translation.records import Link
from attnlab.data.translation.word_alignment import spans_of_any_text, words_of_tokens
from attnlab.tasks.attention_map import AttentionMap
from attnlab.tasks.translation.alignment import (
    Gold,
    alignment_score,
    by_word,
    diagonal,
    gold_pairs,
    hard,
)

PAIRS = st.frozensets(st.tuples(st.integers(0, 4), st.integers(0, 4)))


def gold(sure, possible=()) -> Gold:
    return Gold(sure=frozenset(sure), possible=frozenset(sure) | frozenset(possible))


def test_gold_spans_become_token_pairs():
    #           0123456789012345678901
    # source = "der siebte März", target = "March seventh"
    source = [(0, 3), (3, 8), (8, 10), (10, 15)]  # der · sieb te März; white space belongs to the token after it
    target = [(0, 5), (5, 11), (11, 13)]  # March · seven th
    links = [
        Link(source=(11, 15), target=(0, 5)),
        Link(source=(4, 8), target=(6, 11)),
        Link(source=(8, 10), target=(11, 13)),
        Link(source=(0, 3), target=(6, 13), sure=False),
    ]
    alignment = gold_pairs(links, source, target)
    assert alignment.sure == {(3, 0), (1, 1), (2, 2)}
    assert alignment.possible == alignment.sure | {(0, 1), (0, 2)}


def test_a_span_over_several_tokens_links_them_all():
    alignment = gold_pairs([Link(source=(0, 4), target=(0, 2))], [(0, 2), (2, 4), (4, 6)], [(0, 2), (2, 3)])
    assert alignment.sure == {(0, 0), (1, 0)}


def test_hard_takes_the_largest_weight_of_each_row():
    weights = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert hard(weights, 3, 2) == {(1, 0), (0, 1)}


def test_hard_leaves_out_end_and_padding():
    weights = np.array([
        [0.1, 0.2, 0.7, 0.0],  # attends most to the end token (column 2)
        [0.3, 0.1, 0.6, 0.0],
        [0.0, 0.0, 1.0, 0.0],  # writes the end token
    ])  # fmt: skip
    assert hard(weights, source_length=2, target_length=2) == {(1, 0), (0, 1)}


def test_hard_gives_no_link_to_a_row_without_weight():
    assert hard(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), 2, 2) == {(1, 1)}
    assert hard(np.zeros((2, 3)), 0, 2) == frozenset()


def test_hard_attention_refuses_invalid_inputs():
    with pytest.raises(ValueError, match="finite"):
        hard(np.array([[np.nan, 1.0]]), 2, 1)
    with pytest.raises(ValueError, match="too small"):
        hard(np.ones((1, 2)), 3, 1)


def test_diagonal():
    assert diagonal(4, 4) == {(i, i) for i in range(4)}
    assert diagonal(1, 3) == {(0, 0), (0, 1), (0, 2)}
    assert diagonal(0, 3) == frozenset()
    assert all(0 <= s < 7 for s, _ in diagonal(7, 100))


def test_words_of_a_text_with_any_spaces():
    text = " zwei  Katzen ."
    spans = spans_of_any_text(text)
    assert [text[start:end] for start, end in spans] == ["zwei", "Katzen", "."]
    # The offsets of byte-pair encoding: a space alone has no characters.
    assert words_of_tokens(spans, [(1, 5), (6, 6), (7, 10), (10, 13), (14, 14), (14, 15)]) == [0, 1, 1, 1, 2, 2]


def test_subword_links_become_word_links():
    links = gold({(0, 0), (1, 0)}, possible={(2, 1), (3, 2)})
    words = links.by_word(source_words=[0, 0, 1, 1], target_words=[0, 1, 1])
    assert words == gold({(0, 0)}, possible={(1, 1)})
    assert by_word({(0, 0), (0, 1)}, [0], [0, 0]) == {(0, 0)}


def test_alignment_score_by_hand():
    # Two sentences. A: 3 + 1 links; S: 2 + 2; A∩S: 2 + 0; A∩P: 3 + 0.
    hypotheses = [{(0, 0), (1, 1), (2, 2)}, {(0, 1)}]
    golds = [gold({(0, 0), (1, 1)}, possible={(2, 2), (3, 3)}), gold({(0, 0), (1, 1)})]
    score = alignment_score(hypotheses, golds)
    assert score.precision == pytest.approx(100 * 3 / 4)
    assert score.recall == pytest.approx(100 * 2 / 4)
    assert score.aer == pytest.approx(100 * (1 - (2 + 3) / (4 + 4)))


@given(st.lists(st.tuples(PAIRS, PAIRS, PAIRS), min_size=1, max_size=4))
def test_alignment_score_equals_counting_one_link_at_a_time(sentences):
    hypotheses = [a for a, _, _ in sentences]
    golds = [gold(s, p) for _, s, p in sentences]
    tagged_a = {(i, *link) for i, (a, _, _) in enumerate(sentences) for link in a}
    tagged_s = {(i, *link) for i, (_, s, _) in enumerate(sentences) for link in s}
    tagged_p = {(i, *link) for i, (_, s, p) in enumerate(sentences) for link in s | p}
    if not tagged_a and not tagged_s:
        with pytest.raises(ValueError, match="no links"):
            alignment_score(hypotheses, golds)
        return
    score = alignment_score(hypotheses, golds)
    hits = sum(link in tagged_s for link in tagged_a) + sum(link in tagged_p for link in tagged_a)
    assert score.aer == pytest.approx(float(100 - 100 * Fraction(hits, len(tagged_a) + len(tagged_s))))
    assert -1e-9 <= score.aer <= 100
    assert 0 <= score.precision <= 100
    assert 0 <= score.recall <= 100


def test_only_the_gold_itself_has_no_error():
    golds = [gold({(0, 0), (1, 1)}, possible={(2, 2)})]
    assert alignment_score([{(0, 0), (1, 1)}], golds).aer == pytest.approx(0.0)
    assert alignment_score([{(0, 0), (1, 1), (2, 2)}], golds).aer == pytest.approx(0.0)
    assert alignment_score([{(1, 0)}], golds).aer == pytest.approx(100.0)
    assert alignment_score([set()], golds).precision == 0.0


def test_alignment_score_refuses_unequal_counts():
    with pytest.raises(ValueError, match="1 alignments for 2"):
        alignment_score([set()], [gold({(0, 0)})] * 2)


def test_gold_refuses_sure_links_that_are_not_possible():
    with pytest.raises(ValueError, match="possible"):
        Gold(sure=frozenset({(0, 0)}), possible=frozenset())


@pytest.mark.parametrize(
    ("weights", "message"),
    [(np.ones((2, 1)), "need"), (np.array([[np.nan], [1], [1]]), "finite")],
)
def test_an_attention_map_refuses_weights_that_do_not_fit(weights, message):
    with pytest.raises(ValueError, match=message):
        AttentionMap(["b", "c", "d"], ["a"], weights, "b c d", 0.0)
