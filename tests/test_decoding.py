"""Greedy and beam search against their definition: every sentence of a small language is enumerated and scored."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.config import Decoding
from attnlab.data.text.tokenizer import BOS, EOS
from attnlab.training.decoding import beam, coverage_penalty, greedy

VOCABULARY, ROWS, POSITIONS = 7, 3, 2
WORDS = range(3, VOCABULARY)


@pytest.fixture(params=range(4))
def table(request) -> np.ndarray:
    """Log-probabilities [example, last token, next token] of a random bigram language."""
    logits = np.random.default_rng(request.param).normal(size=(ROWS, VOCABULARY, VOCABULARY)) * 2
    return (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))).astype(np.float32)


LENGTHS = jnp.full(ROWS, POSITIONS)


def advance_of(table: np.ndarray, width: int):
    repeated = jnp.repeat(jnp.asarray(table), width, axis=0)

    def advance(state, tokens):
        rows = jnp.arange(len(tokens))
        attention = jnp.stack([tokens, state], axis=-1).astype(jnp.float32)
        return state + 1, repeated[rows, tokens], attention

    return advance, jnp.zeros(ROWS * width, jnp.int32)


@functools.cache
def compiled(search, config: Decoding, width: int):
    """Return a search as a compiled function of the language, so that all languages share a program."""

    @jax.jit
    def run(table, lengths):
        advance, state = advance_of(table, width)
        return search(advance, state, lengths=lengths, positions=POSITIONS, config=config)

    return lambda table, lengths=LENGTHS: jax.device_get(run(table, lengths))


def best_by_enumeration(table: np.ndarray, config: Decoding) -> list[tuple[float, tuple[int, ...]]]:
    """Return all sentences of an example with their scores, best first."""
    sentences = []
    for length in range(config.min_length, config.max_length + 1):
        for words in itertools.product(WORDS, repeat=length):
            path = [BOS, *words, EOS]
            total = sum(float(table[a, b]) for a, b in itertools.pairwise(path))
            sentences.append((total / ((5 + length + 1) / 6) ** config.length_penalty, words))
    return sorted(sentences, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize(("shortest", "longest"), [(0, 3), (2, 3)])
def test_a_wide_beam_finds_the_best_sentences_there_are(table, penalty, shortest, longest):
    width = len(WORDS) ** longest
    config = Decoding(beam=64, n_best=4, length_penalty=penalty, min_length=shortest, max_length=longest)
    assert config.beam >= width
    result = compiled(beam, config, config.beam)(table)
    for row in range(ROWS):
        expected = best_by_enumeration(table[row], config)[:4]
        np.testing.assert_allclose(result.scores[row], [score for score, _ in expected], rtol=1e-5)
        words = [tuple(result.tokens[row, n, : result.lengths[row, n]].tolist()) for n in range(4)]
        assert words == [words for _, words in expected]


def test_greedy_takes_the_likeliest_token_at_every_step(table):
    config = Decoding(beam=1, max_length=6)
    result = compiled(greedy, config, 1)(table)
    for row in range(ROWS):
        words, last, total = [], BOS, 0.0
        while last != EOS:
            allowed = [*WORDS, EOS] if len(words) < 6 else [EOS]
            last, before = max(allowed, key=lambda token: table[row, last, token]), last
            total += float(table[row, before, last])
            words += [last] if last != EOS else []
        assert result.tokens[row, 0, : result.lengths[row, 0]].tolist() == words
        np.testing.assert_allclose(result.scores[row, 0], total / ((6 + len(words)) / 6), rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_the_attention_returned_is_that_of_the_step_that_wrote_the_token(table, width):
    config = Decoding(beam=width, n_best=width, max_length=6)
    result = compiled(greedy if width == 1 else beam, config, width)(table)
    for row, n in itertools.product(range(ROWS), range(width)):
        words = result.tokens[row, n, : result.lengths[row, n]].tolist()
        expected = [[last, step] for step, last in enumerate([BOS, *words])]
        assert result.weights[row, n, : len(words) + 1].tolist() == expected


def test_lengths_are_kept(table):
    config = Decoding(beam=2, n_best=2, min_length=3, max_length=4)
    result = compiled(beam, config, 2)(table)
    assert set(result.lengths.ravel().tolist()) <= {3, 4}


@pytest.mark.parametrize("width", [1, 3])
def test_neither_neighbors_nor_filler_change_a_result(table, width):
    """The hypotheses are equal alone, beside longer sentences and beside padding rows."""
    config = Decoding(beam=width, n_best=width, max_length=30)
    search = compiled(greedy if width == 1 else beam, config, width)
    together = search(table, LENGTHS.at[2].set(0))
    for row in range(2):
        alone = search(np.repeat(table[row : row + 1], ROWS, axis=0), LENGTHS.at[1:].set(0))
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[row], b[0]), together, alone)  # noqa: B023


def test_coverage_penalty_is_its_definition_and_ignores_padding():
    weights = np.array([[[0.5, 0.0, 0.9], [0.75, 0.25, 0.0]]])
    expected = 0.4 * (np.log(1.0) + np.log(0.25))
    result = coverage_penalty(jnp.asarray(weights), jnp.array([2]), 0.4)
    np.testing.assert_allclose(result, [expected], rtol=1e-6)


@pytest.mark.parametrize("width", [1, 64])
def test_coverage_is_part_of_the_score(table, width):
    """Attention of `advance_of` is (token before, step), so coverage follows from the words alone."""
    plain = Decoding(beam=width, n_best=min(width, 4), length_penalty=1.0, max_length=3)
    covering = plain.model_copy(update={"coverage_penalty": 0.7})
    search = greedy if width == 1 else beam
    scores = {}
    for config in (plain, covering):
        result = compiled(search, config, width)(table)
        scores[config] = {
            tuple(result.tokens[0, n, : result.lengths[0, n]].tolist()): float(result.scores[0, n])
            for n in range(config.n_best)
        }
    for words, score in scores[covering].items():
        if words in scores[plain]:
            looked = np.array([[last, step] for step, last in enumerate([BOS, *words])], float).sum(axis=0)
            penalty = 0.7 * np.log(np.clip(looked, 1e-3, 1.0)).sum()
            np.testing.assert_allclose(score, scores[plain][words] + penalty, rtol=1e-5)
    assert set(scores[covering]) & set(scores[plain])
