"""Symmetrization, baselines, IBM model 1 and alignment from attention, against hand-worked cases and other programs."""

import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnlab.analysis import alignment
from attnlab.analysis.alignment import AttendedSentence, AttentionStack, Choice
from attnlab.config.errors import UserError
from attnlab.data.translation.word_alignment import AlignedSentence, Gold
from attnlab.layers.layer_attention import PoolingInputs, Projection, layer_attention
from attnlab.tasks.bootstrap import paired_difference
from attnlab.tasks.translation.alignment import alignment_counts, alignment_score, pooled_score

LINKS = st.frozensets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def gold(sure, possible=()) -> Gold:
    return Gold(sure=frozenset(sure), possible=frozenset(sure) | frozenset(possible))


# Symmetrization


def test_grow_diag_by_hand():
    # intersection {00, 33}; union adds 11 (diagonal neighbor of 00, both words free), 10 (its source word 1 is taken by
    # 11 by then, its target word 0 by 00), 50 (no neighbor, though source word 5 is free), 23 (source word 2 is free).
    forward, backward = {(0, 0), (3, 3), (1, 1), (5, 0)}, {(0, 0), (3, 3), (1, 0), (2, 3)}
    # The neighbors of 00 are tried in the order 0−1 …, (1, 0), …, (1, 1): (1, 0) comes before (1, 1), so 10 enters
    # (source word 1 is free); then 11 enters, because target word 1 is free.
    assert alignment.grow_diag(forward, backward) == {(0, 0), (1, 0), (1, 1), (2, 3), (3, 3)}
    # final: (5, 0) has one word without a link (source word 5), not both.
    assert alignment.grow_diag_final(forward, backward) == {(0, 0), (1, 0), (1, 1), (2, 3), (3, 3), (5, 0)}
    assert alignment.grow_diag_final_and(forward, backward) == {(0, 0), (1, 0), (1, 1), (2, 3), (3, 3)}


def test_without_an_intersection_only_final_adds_links():
    forward, backward = {(0, 1)}, {(1, 0), (1, 1)}
    assert alignment.grow_diag(forward, backward) == frozenset()
    assert alignment.grow_diag_final_and(forward, backward) == {(0, 1), (1, 0)}  # forward first; (1, 1) is then covered
    assert alignment.grow_diag_final(forward, backward) == {(0, 1), (1, 0)}
    assert all(method(set(), set()) == frozenset() for method in alignment.METHODS.values())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forward=LINKS, backward=LINKS)
def test_every_method_lies_between_intersection_and_union(forward, backward):
    both, either = alignment.intersection(forward, backward), alignment.union(forward, backward)
    grown = alignment.grow_diag(forward, backward)
    final, final_and = (m(forward, backward) for m in (alignment.grow_diag_final, alignment.grow_diag_final_and))
    assert both <= grown <= final_and <= either
    assert grown <= final <= either
    covered = {s for s, _ in final}, {t for _, t in final}
    assert covered == (
        {s for s, _ in either},
        {t for _, t in either},
    )  # final leaves no word of the union without a link
    assert alignment.grow_diag(backward, forward) == grown


def test_symmetrize_names_the_methods_and_checks_lengths():
    assert alignment.symmetrize("intersection", [{(0, 0)}], [{(0, 1)}]) == [frozenset()]
    with pytest.raises(ValueError, match="grow-diag-final-and"):
        alignment.symmetrize("gdfa", [], [])
    with pytest.raises(ValueError, match="1 forward and 0 backward"):
        alignment.symmetrize("union", [{(0, 0)}], [])


def functional_alignments(count: int):
    """Random alignments as two aligners give them: forward a source word a target word, backward the reverse."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        i, j = rng.integers(1, 9, size=2)
        forward, backward = rng.integers(0, i + 1, size=j), rng.integers(0, j + 1, size=i)
        if rng.random() < 0.7:  # agreeing ones, near the diagonal
            forward = np.clip(np.arange(j) * i // j + rng.integers(0, 3, size=j), 0, i)
            backward = np.clip(np.arange(i) * j // i + rng.integers(0, 3, size=i), 0, j)
        yield int(i), int(j), forward, backward


SYMAL = {"union": "-a=u", "intersection": "-a=i", "grow-diag": "-a=g -d=yes -f=no -b=no",
         "grow-diag-final": "-a=g -d=yes -f=yes -b=no", "grow-diag-final-and": "-a=g -d=yes -f=yes -b=yes"}  # fmt: skip


def links_of(text: str) -> list[frozenset]:
    return [frozenset(tuple(map(int, link.split("-"))) for link in line.split()) for line in text.splitlines()]


def as_pairs(forward, backward):
    return (
        {(s - 1, t) for t, s in enumerate(forward.tolist()) if s},
        {(s, t - 1) for s, t in enumerate(backward.tolist()) if t},
    )


@pytest.mark.reference
@pytest.mark.parametrize("method", SYMAL)
def test_the_order_is_that_of_symal(method):
    symal = shutil.which("symal") or pytest.skip("symal (of Moses) is not on PATH")
    cases = list(functional_alignments(2000))
    text = "".join(
        f"1\n{j} {' w' * j} # {' '.join(map(str, forward))}\n{i} {' w' * i} # {' '.join(map(str, backward))}\n"
        for i, j, forward, backward in cases
    )
    done = subprocess.run([symal, *SYMAL[method].split()], input=text, capture_output=True, text=True, check=True)
    directions = [as_pairs(forward, backward) for _, _, forward, backward in cases]
    ours = alignment.symmetrize(method, *zip(*directions, strict=True))
    assert links_of(done.stdout) == ours


@pytest.mark.reference
@pytest.mark.parametrize("method", ["grow-diag", "grow-diag-final", "grow-diag-final-and"])
def test_atools_differs_on_some_sentences(method, tmp_path, capsys):
    atools = shutil.which("atools") or pytest.skip("atools (of fast_align) is not on PATH")
    directions = [as_pairs(forward, backward) for _, _, forward, backward in functional_alignments(2000)]
    for name, side in zip("ab", zip(*directions, strict=True), strict=True):
        lines = [" ".join(f"{s}-{t}" for s, t in sorted(links)) for links in side]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    command = [atools, "-i", str(tmp_path / "a"), "-j", str(tmp_path / "b"), "-c", method]
    theirs = links_of(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours = alignment.symmetrize(method, *zip(*directions, strict=True))
    equal = np.mean([mine == other for mine, other in zip(ours, theirs, strict=True)])
    with capsys.disabled():
        print(f"\natools {method}: {equal:.1%} of 2000 random sentences equal")
    assert equal > 0.8


@pytest.mark.reference
def test_nltk_returns_the_union():
    gdfa = pytest.importorskip("nltk.translate.gdfa")
    smaller = 0
    for i, j, *words in functional_alignments(300):
        forward, backward = as_pairs(*words)
        texts = [" ".join(f"{s}-{t}" for s, t in sorted(links)) for links in (forward, backward)]
        theirs = frozenset(gdfa.grow_diag_final_and(i, j, *texts))
        ours = alignment.grow_diag_final_and(forward, backward)
        assert theirs == alignment.union(forward, backward)
        assert ours <= theirs
        smaller += ours < theirs
    assert smaller > 50


# Baselines


def test_random_links_are_uniform_and_diagonal_ones_are_not():
    links = [alignment.random_links(4, 2, np.random.default_rng(seed)) for seed in range(400)]
    counts = np.bincount([s for pairs in links for s, _ in pairs], minlength=4)
    assert all(len(pairs) == 2 for pairs in links)
    assert counts.min() > 150  # of 800, 200 each expected, standard deviation 12
    assert alignment.random_links(0, 3, np.random.default_rng(0)) == frozenset()
    assert alignment.random_links(3, 0, np.random.default_rng(0)) == frozenset()
    assert alignment.diagonal(3, 3) == {(0, 0), (1, 1), (2, 2)}


# IBM model 1


SOURCE = [
    ["the", "house", "is", "small"], ["the", "house", "is", "big"], ["the", "book", "is", "small"], ["the", "house"],
    ["the", "book"], ["a", "book"],
]  # fmt: skip
TARGET = [
    ["klein", "ist", "das", "haus"], ["das", "haus", "ist", "ja", "groß"], ["das", "buch", "ist", "ja", "klein"],
    ["das", "haus"], ["das", "buch"], ["ein", "buch"],
]  # fmt: skip


def test_one_iteration_by_hand():
    # Two pairs, t uniform at 1/2. "a b" -> "x y": each target word gives 1/3 to NULL, a, b. "a" -> "x": 1/2 to NULL, a.
    # count(a, x) = 1/3 + 1/2 = 5/6, count(a, y) = 1/3, so t(x | a) = (5/6) / (7/6) = 5/7; t(x | b) = 1/2.
    model = alignment.train_ibm1([["a", "b"], ["a"]], [["x", "y"], ["x"]], iterations=1)
    np.testing.assert_allclose(
        model.translation(["a", "b", None], ["x", "y"]), [[5 / 7, 2 / 7], [0.5, 0.5], [5 / 7, 2 / 7]]
    )
    np.testing.assert_allclose(model.log_likelihood, [np.log(0.5)])


def test_smoothing_and_null_probability_by_hand():
    # One pair "a" -> "x", and "b" -> "y"; p(0) = 0.2: NULL gets 0.2, a gets 0.8. count(a, x) = 0.8, n = 0.1, 2 words:
    # t(x | a) = 0.9 / (0.8 + 0.2) = 0.9; t(x | NULL) = (0.2 + 0.1) / (0.4 + 0.2) = 0.5.
    model = alignment.train_ibm1([["a"], ["b"]], [["x"], ["y"]], iterations=1, null_probability=0.2, smoothing=0.1)
    np.testing.assert_allclose(model.translation(["a", None], ["x"]), [[0.9], [0.5]])


def test_the_likelihood_never_decreases_and_probabilities_sum_to_1():
    for p0 in (None, 0.08, 0.0):
        model = alignment.train_ibm1(SOURCE, TARGET, iterations=12, null_probability=p0)
        assert all(later >= earlier - 1e-12 for earlier, later in pairwise(model.log_likelihood))
        table = model.translation([*model.source_ids], [*model.target_ids])
        np.testing.assert_allclose(table.sum(axis=1), 1.0)


def test_alignment_prefers_the_diagonal_and_knows_no_unseen_word():
    model = alignment.train_ibm1(SOURCE, TARGET, iterations=20)
    assert model.align(["the", "book", "the", "book"], ["das", "buch", "das", "buch"]) == {
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
    }
    assert model.align(["the", "moon"], ["mond", "das"]) == {(0, 1)}
    assert model.align([], ["das"]) == model.align(["the"], []) == frozenset()
    assert model.translation(["moon"], ["mond"]).tolist() == [[0.0]]


def test_null_takes_words_without_counterpart():
    source, target = [["a"], ["b"], ["c"]] * 5, [["x", "ja"], ["y", "ja"], ["z", "ja"]] * 5
    model = alignment.train_ibm1(source, target, iterations=20)
    assert model.align(["a"], ["x", "ja"]) == {(0, 0)}


@pytest.mark.parametrize("source", [[], [[]], [[], ["a"]]])
def test_empty_sentences_train(source):
    target = [["x"] for _ in source]
    for p0 in (None, 0.1):
        model = alignment.train_ibm1(source, target, null_probability=p0)
        assert model.align([], ["x"]) == frozenset()
    assert alignment.train_ibm1(source, [[] for _ in source]).align(["a"], ["x"]) == frozenset()


def test_ibm1_refuses_wrong_arguments():
    with pytest.raises(ValueError, match="1 source and 0 target"):
        alignment.train_ibm1([["a"]], [])
    for wrong in ({"iterations": -1}, {"smoothing": -0.1}, {"null_probability": 1.0}):
        with pytest.raises(ValueError, match="must be at least 0"):
            alignment.train_ibm1([["a"]], [["x"]], **wrong)


@pytest.mark.reference
def test_ibm1_against_nltk():
    translate = pytest.importorskip("nltk.translate")
    rng = np.random.default_rng(1)
    # No target word twice in a sentence: nltk adds up the denominators of its occurrences, and so halves its counts.
    random = [([f"s{k}" for k in rng.integers(0, 12, size=rng.integers(1, 7))],
               [f"t{k}" for k in rng.permutation(12)[: rng.integers(1, 7)]]) for _ in range(60)]  # fmt: skip
    for source, target in ((SOURCE, TARGET), tuple(zip(*random, strict=True))):
        for iterations in (1, 5, 10):
            bitext = [translate.AlignedSent(t, s) for s, t in zip(source, target, strict=True)]
            theirs = translate.IBMModel1(bitext, iterations)
            ours = alignment.train_ibm1(source, target, iterations)
            words = [None, *ours.source_ids], [*ours.target_ids]
            together = {(None, t) for t in words[1]}
            together |= {(s, t) for a, b in zip(source, target, strict=True) for s in a for t in b}
            table = ours.translation(*words)
            for i, s in enumerate(words[0]):
                for j, t in enumerate(words[1]):
                    if (s, t) in together:
                        assert table[i, j] == pytest.approx(theirs.translation_table[t][s], rel=1e-9)


# Aligners


@pytest.mark.parametrize("aligner", [alignment.fast_align, alignment.eflomal])
def test_a_missing_aligner_is_named_in_one_line(aligner, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="not on PATH") as raised:
        aligner([["a"]], [["b"]])
    assert "\n" not in str(raised.value)
    assert aligner([[]], [["b"]]) == ([frozenset()], [frozenset()])  # nothing to align, nothing to run
    with pytest.raises(ValueError, match="1 source and 0 target"):
        aligner([["a"]], [])


def test_a_failing_aligner_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "fast_align").write_text("#!/bin/sh\necho 'out of words' >&2\nexit 3\n")
    (tmp_path / "fast_align").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UserError, match="fast_align failed with exit code 3: out of words"):
        alignment.fast_align([["a"]], [["b"]])


@pytest.mark.reference
@pytest.mark.parametrize(
    ("program", "aligner"), [("fast_align", alignment.fast_align), ("eflomal-align", alignment.eflomal)]
)
def test_the_aligners_align(program, aligner):
    if not shutil.which(program):
        pytest.skip(f"{program} is not on PATH")
    source, target = [*SOURCE, [], ["a\u00a0b", "|||"]], [*TARGET, ["x"], ["c", "d"]]
    forward, backward = aligner([*source * 20], [*target * 20])
    assert len(forward) == len(backward) == 160
    assert forward[6] == backward[6] == frozenset()
    counts = alignment_counts(forward[3:5], [gold({(0, 0), (1, 1)})] * 2)
    assert pooled_score(counts).aer < 60
    assert all(len({t for _, t in links}) == len(links) for links in forward)
    assert all(len({s for s, _ in links}) == len(links) for links in backward)


# Attention


def peaked(*sources: int, width: int) -> np.ndarray:
    return 0.7 * np.eye(width, dtype=np.float32)[list(sources)] + 0.3 / width


# Two layers with two heads, three target tokens and the end token, two source tokens, the end token and padding. The
# first layer aligns at the input step, the second at the output step.
WEIGHTS = np.stack([
    np.stack([peaked(2, 0, 1, 1, width=4), peaked(2, 2, 2, 2, width=4)]),
    np.stack([peaked(0, 1, 1, 2, width=4), peaked(1, 0, 0, 2, width=4)]),
])  # fmt: skip
LAYERS = ONE, TWO = "decoder/layer_1/cross_attention", "decoder/layer_2/cross_attention"
STACK = AttentionStack(LAYERS, WEIGHTS)
SENTENCE = AttendedSentence(STACK, range(2), range(3), gold({(0, 0), (1, 1), (1, 2)}))


def test_output_step_and_input_step_by_hand():
    assert alignment.attention_links(SENTENCE, Choice(TWO, 1, "output_step")) == {(0, 0), (1, 1), (1, 2)}
    assert alignment.attention_links(SENTENCE, Choice(ONE, 1, "input_step")) == {(0, 0), (1, 1), (1, 2)}
    # Head 1 of layer 1 attends most to the end token when it predicts target token 0; of the rest the first wins.
    assert alignment.attention_links(SENTENCE, Choice(ONE, 1, "output_step")) == {(0, 0), (0, 1), (1, 2)}
    np.testing.assert_array_equal(
        alignment.aligned_weights(STACK, Choice(ONE, None, "input_step"), 2, 3), WEIGHTS[0].mean(axis=0)[1:, :2]
    )
    np.testing.assert_allclose(
        alignment.aligned_weights(STACK, Choice(None, None), 2, 3), WEIGHTS.mean(axis=(0, 1))[:3, :2], rtol=1e-6
    )


def test_the_stack_is_built_from_the_records_of_a_model():
    batch = np.stack([WEIGHTS, WEIGHTS[::-1]])
    records = [layer_attention("cross", "decoder", n + 1, batch[:, n]) for n in range(2)]
    records.insert(0, layer_attention("self", "encoder", 1, np.ones((2, 2, 4, 4))))
    first, second = alignment.cross_attention(records)
    assert first.layers == second.layers == LAYERS
    np.testing.assert_array_equal(first.weights, WEIGHTS)
    np.testing.assert_array_equal(second.weights, WEIGHTS[::-1])
    with pytest.raises(ValueError, match="here none"):
        alignment.cross_attention(records[:1])
    with pytest.raises(ValueError, match=r"layer_2/cross_attention \(2, 1, 4, 4\)"):
        alignment.cross_attention([records[1], layer_attention("cross", "decoder", 2, batch[:, 1, :1])])


def with_values(values) -> list:
    """Records of the two layers for one example, with values [s, heads, v] and an output projection of ones."""
    projection = Projection(np.ones((2, 1, 1), np.float32), None)
    pooled = [PoolingInputs(None, layer[None], np.asarray(values, np.float32)[None]) for layer in WEIGHTS]
    return [
        layer_attention("cross", "decoder", n + 1, WEIGHTS[n][None], pooled=pooled[n], projection=projection)
        for n in range(2)
    ]


def test_norms_by_hand():
    # Heads of source token 0 are opposite, and cancel where their weights are equal; token 1 is twenty times as long.
    (stack,) = alignment.cross_attention(with_values([[[1], [-1]], [[20], [20]], [[0], [0]], [[0], [0]]]))
    np.testing.assert_array_equal(stack.weights, WEIGHTS)
    lengths = np.array([1, 20, 0, 0], np.float32)
    np.testing.assert_allclose(stack.norms.heads, WEIGHTS * lengths, rtol=1e-6)
    signs = np.array([[1, 20, 0, 0], [-1, 20, 0, 0]], np.float32)
    np.testing.assert_allclose(stack.norms.layers, np.abs((WEIGHTS * signs[:, None]).sum(axis=1)), rtol=1e-5, atol=1e-6)
    head, together = Choice(TWO, 1, "output_step", "norms"), Choice(TWO, None, "output_step", "norms")
    sentence = AttendedSentence(stack, range(2), range(3), SENTENCE.gold)
    assert alignment.attention_links(sentence, Choice(TWO, 2)) == {(1, 0), (0, 1), (0, 2)}
    # Where the weights are 0.775 and 0.075, the norms are 0.775 and 1.5.
    assert alignment.attention_links(sentence, Choice(TWO, 2, quantity="norms")) == {(1, 0), (1, 1), (1, 2)}
    np.testing.assert_allclose(alignment.aligned_weights(stack, head, 2, 3), stack.norms.heads[1, 0, :3, :2])
    np.testing.assert_allclose(alignment.aligned_weights(stack, together, 2, 3), stack.norms.layers[1, :3, :2])
    assert len(alignment.choices(stack)) == 28
    cut = stack.cut(3, 2)
    assert (cut.weights.shape, cut.norms.heads.shape, cut.norms.layers.shape) == ((2, 2, 3, 2), (2, 2, 3, 2), (2, 3, 2))
    with pytest.raises(ValueError, match="norms of attention were not captured"):
        alignment.attention_links(SENTENCE, head)


def test_a_report_has_the_best_of_the_other_reading_and_of_the_norms():
    (stack,) = alignment.cross_attention(with_values([[[1], [-1]], [[20], [20]], [[0], [0]], [[0], [0]]]))
    sentences = [AttendedSentence(stack, range(2), range(3), SENTENCE.gold)] * 3
    pairs = [AlignedSentence("a b", "c d e", SENTENCE.gold)] * 3
    report = alignment.alignment_report(pairs, sentences, 1)
    assert report.chosen == Choice(TWO, 1, "output_step")
    names = ["attention", "attention, input step", "attention norms, output step", "attention norms, input step"]
    assert [row.name for row in report.rows] == [*names, "diagonal"]
    for row in report.rows[:4]:
        kind = row.choice.reading, row.choice.quantity
        rivals = [entry for entry in report.choices if (entry.choice.reading, entry.choice.quantity) == kind]
        assert row.choice == min(rivals, key=lambda entry: entry.score.aer).choice
    data = report.as_data()
    assert data["chosen"] == {"layer": 2, "head": 1, "reading": "output_step", "quantity": "weights"}
    assert (data["reverse_chosen"], len(data["dev"])) == (None, 28)
    plain = alignment.alignment_report(pairs, [SENTENCE] * 3, 1)  # captured without details
    assert [row.name for row in plain.rows] == ["attention", "attention, input step", "diagonal"]


def test_aer_by_length_is_that_of_thirds_of_the_sentences():
    words = np.array([30, 5, 12] * 20 + [5])
    right, wrong = [1, 1, 1, 1], [1, 1, 0, 0]
    counts = np.array([wrong if number == 30 else right for number in words])
    groups = alignment.by_length([counts, counts[:, [0, 1, 2, 2]]], words)
    assert [(group.words, group.label, group.sentences) for group in groups] == [
        ((5, 5), "5 words", 21), ((12, 12), "12 words", 20), ((30, 30), "30 words", 20)
    ]  # fmt: skip
    assert [group.aer for group in groups] == [(0.0, 0.0), (0.0, 0.0), (100.0, 100.0)]
    assert alignment.by_length([counts[:59]], words[:59]) == ()


def test_padding_changes_nothing():
    padded = np.full((2, 2, 7, 9), np.nan, np.float32)
    padded[:, :, :4, :4] = WEIGHTS
    other = AttendedSentence(AttentionStack(LAYERS, padded), range(2), range(3), SENTENCE.gold)
    for choice in alignment.choices(STACK):
        assert alignment.attention_links(other, choice) == alignment.attention_links(SENTENCE, choice)


def test_subwords_are_joined_to_words():
    sentence = AttendedSentence(STACK, [0, 0], [0, 1, 1], gold({(0, 0), (0, 1)}))
    assert alignment.attention_links(sentence, Choice(TWO, 1)) == {(0, 0), (0, 1)}


def test_the_choice_with_the_lowest_aer_is_chosen():
    scores = alignment.aer_of_choices([SENTENCE], alignment.choices(STACK))
    assert len(scores) == 14
    single = alignment.choices(AttentionStack((ONE,), WEIGHTS[:1, :1]))
    assert single == [Choice(ONE, None, "output_step"), Choice(ONE, None, "input_step")]
    assert alignment.choose([SENTENCE]) == Choice(TWO, 1, "output_step")  # also Choice(ONE, 1, "input_step"): the first
    assert alignment.choose([SENTENCE], alignment.choices(STACK, ("input_step",))) == Choice(ONE, None, "input_step")
    # Links (1, 0), (0, 1), (0, 2): none is gold.
    assert scores[Choice(TWO, 2, "output_step")] == 100.0
    counts = alignment.attention_counts([SENTENCE, SENTENCE], Choice(TWO, 2))
    assert counts.tolist() == [[3, 3, 0, 0]] * 2


def test_both_directions_are_symmetrized():
    # A model target -> source attends from the source to the target: its links are (target, source).
    rows = np.stack([peaked(0, 2, 2, width=4), peaked(0, 1, 2, width=4)])[None]
    backward = AttendedSentence(AttentionStack((ONE,), rows), range(3), range(2), gold({(0, 0), (1, 1), (2, 1)}))
    links = alignment.attention_links(backward, Choice(ONE, 1))
    assert links == {(0, 0), (2, 1)}
    directions = [alignment.attention_links(SENTENCE, Choice(TWO, 1))], [alignment.transposed(links)]
    assert alignment.symmetrize("intersection", *directions) == [{(0, 0), (1, 2)}]
    assert alignment.symmetrize("grow-diag", *directions) == [{(0, 0), (1, 1), (1, 2)}]


def test_what_does_not_exist_is_refused():
    for choice, words in (
        (Choice("layer 3"), "no layer 'layer 3'; the layers are decoder/layer_1"),
        (Choice(ONE, 0), "no head 0; the heads are 1 to 2"),
        (Choice(ONE, 3), "no head 3"),
    ):
        with pytest.raises(ValueError, match=words):
            alignment.attention_links(SENTENCE, choice)
    with pytest.raises(ValueError, match="needs 4 rows, one more than target tokens"):
        alignment.aligned_weights(AttentionStack(LAYERS, WEIGHTS[:, :, :3]), Choice(ONE, 1, "input_step"), 2, 3)
    with pytest.raises(ValueError, match="too small for 5 source tokens"):
        alignment.aligned_weights(STACK, Choice(ONE, 1), 5, 3)
    with pytest.raises(ValueError, match="no sentences"):
        alignment.choose([])
    with pytest.raises(ValueError, match="no candidates"):
        alignment.choose([SENTENCE], [])


# Tables


def test_counts_by_hand_and_their_row():
    golds = [gold({(0, 0)}, {(0, 1)}), gold({(1, 1), (2, 2)})]
    predicted = [[(0, 0), (0, 1), (0, 1), (3, 3)], {(1, 1)}]  # a link that is given twice counts once
    row = alignment.alignment_row("ours", predicted, golds)
    assert row.counts.tolist() == [[3, 1, 1, 2], [1, 2, 1, 1]]
    # |A| = 4, |S| = 3, |A ∩ S| = 2, |A ∩ P| = 3
    assert row.score.precision == 75.0
    assert row.score.recall == pytest.approx(200 / 3)
    assert row.score.f1 == pytest.approx(2 / (4 / 3 + 3 / 2) * 100)
    assert row.score.aer == alignment.aer(row.counts) == pytest.approx(100 * (1 - 5 / 7))
    assert row.score == alignment_score(predicted, golds)
    assert row.aer_interval is None


def test_the_interval_contains_the_aer_and_rows_can_be_compared():
    rng = np.random.default_rng(0)
    golds = [gold({(i, i) for i in range(6)}) for _ in range(60)]
    better = [{(i, i if rng.random() < 0.9 else 5 - i) for i in range(6)} for _ in golds]
    worse = [{(i, i if rng.random() < 0.5 else 5 - i) for i in range(6)} for _ in golds]
    rows = [alignment.alignment_row(name, links, golds) for name, links in (("a", better), ("b", worse))]
    for row in rows:
        low, high = row.aer_interval
        assert low < row.score.aer < high
    difference = paired_difference(rows[0].counts, rows[1].counts, alignment.aer)
    assert difference.difference < 0
    assert difference.p < 0.01
    assert alignment.aer(np.zeros((0, 4), np.int64)) == 0.0


@pytest.mark.reference
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sure=st.frozensets(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12),
    possible=LINKS,
    predicted=LINKS,
)
def test_aer_against_nltk(sure, possible, predicted):
    translate = pytest.importorskip("nltk.translate")
    theirs = translate.alignment_error_rate(
        translate.Alignment(sure), translate.Alignment(predicted), translate.Alignment(sure | possible)
    )
    row = alignment.alignment_row("", [predicted], [gold(sure, possible)])
    assert row.score.aer == pytest.approx(100 * theirs)
