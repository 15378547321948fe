"""Labels of the positions of an input, and the words and sentences that they belong to."""

import numpy as np
import pytest

from attnlab.analysis.explain.record import parts_of
from attnlab.data.text import contractions
from attnlab.tasks.input_parts import CLS, SEP, InputSequence, image_part, sentence_part, text_part

TEXT = "Un-do it. Now!"
SPANS = [(0, 2), (2, 3), (3, 5), (6, 8), (8, 9), (10, 13), (13, 14)]


def part(**special):
    return text_part("text", TEXT, SPANS, **special)


def test_labels_are_the_text_as_written():
    labels = part(before=[CLS], after=[SEP]).labels
    assert labels == (CLS, "Un", "-", "do", "it", ".", "Now", "!", SEP)
    assert part(before=[CLS], after=[SEP]).special == [True, *[False] * 7, True]


def test_words_are_separated_by_spaces_and_special_tokens_stay_alone():
    assert part(before=[CLS]).segments("word") == ([CLS, "Un-do", "it.", "Now!"], [0, 1, 1, 1, 2, 2, 3, 3])


def test_sentences_end_at_punctuation_before_a_space():
    assert part().segments("sentence") == (["Un-do it.", "Now!"], [0, 0, 0, 0, 0, 1, 1])
    dotted = text_part("text", "at 3.5 m", [(0, 2), (3, 6), (7, 8)])
    assert dotted.segments("sentence")[0] == ["at 3.5 m"]


def test_sentences_and_cells_are_not_divided():
    story = sentence_part("story", ["A b.", "C d."])
    assert story.segments("word") == story.segments("sentence") == (["A b.", "C d."], [0, 1])
    cells = image_part("image", 1, 2)
    assert cells.segments("sentence") == ([(0, 0), (0, 1)], [0, 1])
    assert cells.special == [False, False]


@pytest.mark.parametrize(
    ("granularity", "values"), [("token", [9, 1, 2, 3, 4, 5, 6, 7]), ("word", [9, 3, 5, 7]), ("sentence", [9, 5, 7])]
)
def test_of_the_ranks_of_a_word_the_best_counts(granularity, values):
    numbers = np.array([9, 1, 2, 3, 4, 5, 6, 7], np.float32)
    (found,) = parts_of([InputSequence((part(before=[CLS]),))], [8], numbers, granularity, ranks=True)
    assert found.attributions.tolist() == values


@pytest.mark.parametrize(
    ("granularity", "labels", "values"),
    [
        ("token", (CLS, "Un", "-", "do", "it", ".", "Now", "!"), [9, 1, 2, 3, 4, 5, 6, 7]),
        ("word", (CLS, "Un-do", "it.", "Now!"), [9, 6, 9, 13]),
        ("sentence", (CLS, "Un-do it.", "Now!"), [9, 15, 13]),
    ],
)
def test_attributions_are_summed_over_words_and_sentences(granularity, labels, values):
    sequences = [InputSequence((part(before=[CLS]),)), InputSequence((image_part("image", 1, 2),))]
    attributions = np.array([9, 1, 2, 3, 4, 5, 6, 7, 0, 0, 10, 20], np.float32)  # two positions of padding
    text, image = parts_of(sequences, [10, 2], attributions, granularity)
    assert text.labels == labels
    assert (text.unit, image.unit) == (granularity, "cell")
    assert text.special.tolist() == [True] + [False] * (len(labels) - 1)
    np.testing.assert_array_equal(text.attributions, values)
    np.testing.assert_array_equal(image.grid(), [[10, 20]])
    with pytest.raises(ValueError, match="text"):
        text.grid()


def test_contractions_are_restored():
    text = "Don’t say it's bad, you can't"
    spans = [(2, 5), (10, 12), (15, 18)]
    assert contractions.restored(text, contractions.moved(text, spans)) == spans
