"""Generated scenes: a caption is a function of what is seen, every word's place is where its object is painted."""

import random

import numpy as np
import pytest

from attnlab.config.captioning import Scenes
from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.captioning.scenes import generate
from attnlab.data.images import scenes
from attnlab.data.visual_qa import scenes as questions

SMALL = Scenes(train=150, dev=20, test=40)


@pytest.fixture(scope="module")
def splits():
    return generate(SMALL)


def test_same_seed_same_data_and_longer_begins_with_shorter(splits):
    assert generate(SMALL).fingerprint() == splits.fingerprint()
    assert generate(SMALL.replace(seed=1)).fingerprint() != splits.fingerprint()
    shorter = generate(SMALL.replace(train=30))
    for example, other in zip(shorter.train, splits.train[:30], strict=True):
        assert example.captions == other.captions
        np.testing.assert_array_equal(example.image, other.image)


def test_a_seed_always_generates_the_same_data():
    captions, asked = (
        generate(Scenes(train=50, dev=5, test=5)),
        questions.generate(SceneQuestions(train=50, dev=5, test=5)),
    )
    assert captions.fingerprint() == "332ae767ae8a9368d0d72c126e66e452fd34aa2485bc8185fc6246c1d43869c7"
    assert asked.fingerprint() == "bb264c003a926ded7a34f1e4321cbeba20d38c632141acf87f2c215c76bd6723"


def test_no_caption_is_in_two_splits_and_every_test_word_is_in_training(splits):
    captions = {name: {e.captions[0] for e in examples} for name, examples in splits.splits().items()}
    assert not captions["train"] & captions["dev"]
    assert not captions["train"] & captions["test"]
    assert not captions["dev"] & captions["test"]
    words = {name: {word for text in texts for word in text.split()} for name, texts in captions.items()}
    assert words["test"] <= words["train"]


def test_content_words_have_regions_in_which_the_named_color_is_painted(splits):
    for example in splits.test["test"]:
        words = example.captions[0].split()
        assert len(words) == len(example.regions)
        for word, region in zip(words, example.regions, strict=True):
            placed = word in (*scenes.COLORS, *scenes.SHAPES, *scenes.SIZES)
            assert (region is not None) == placed
            if word in scenes.COLORS:
                left, top, right, bottom = region
                part = example.image[top:bottom, left:right].astype(float)
                wanted = np.asarray(scenes.COLORS[word])
                lit = part @ wanted / (np.linalg.norm(part, axis=-1) * np.linalg.norm(wanted) + 1e-9)
                assert (lit > 0.995).sum() >= 20, (word, example.captions)


def test_caption_tells_relations_in_reading_order():
    thing = lambda place: scenes.Thing(place, "small", "red", "cross")  # noqa: E731
    assert scenes.caption((thing(1), thing(2), thing(4))) == (
        "a small red cross left of a small red cross above a small red cross"
    )


def test_sizes_and_shapes_differ_in_their_pixels():
    areas = {
        (shape, size): scenes._inside(shape, half, 8.0, 8.0).sum()
        for shape in scenes.SHAPES
        for size, half in scenes.SIZES.items()
    }
    assert len({scenes._inside(shape, 7.0, 8.0, 8.0).tobytes() for shape in scenes.SHAPES}) == len(scenes.SHAPES)
    assert all(areas[shape, "large"] > 2 * areas[shape, "small"] for shape in scenes.SHAPES)


def test_questions_have_a_unique_answer():
    rng = random.Random(0)
    scene = (scenes.Thing(0, "small", "red", "cross"), scenes.Thing(9, "large", "blue", "circle"))
    pairs = {questions.question_about(scene, rng) for _ in range(300)}
    assert ("what color is the cross?", "red") in pairs
    assert ("what shape is the blue thing?", "circle") in pairs
    assert ("how many things are there?", "two") in pairs
    assert ("is there a red cross?", "yes") in pairs
    assert ("is there a red cross?", "no") not in pairs
    twins = (scene[0], scenes.Thing(2, "large", "red", "cross"))
    assert {question.split()[0] for question, _ in (questions.question_about(twins, rng) for _ in range(100))} == {
        "is",
        "how",
    }


def test_half_of_the_yes_no_questions_are_true():
    examples = questions.generate(SceneQuestions(train=1500)).train
    answers = [example.answer for example in examples if example.question.startswith("is")]
    assert 0.45 < np.mean([answer == "yes" for answer in answers]) < 0.55
