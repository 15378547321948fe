"""Translation beyond the plain: attention guided by gold alignment, Transformers, a file split by sentence."""

import gzip

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import parameters

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.translation import TsvToSplit
from attnlab.data.translation import tsv
from attnlab.data.translation.records import Link, SentencePair
from attnlab.data.translation.word_alignment import AlignedSentence, Gold
from attnlab.tasks.poll import no_poll
from attnlab.tasks.translation.task import TranslationTask
from attnlab.training.objective import guided_alignment
from attnlab.training.optimizer import optimizer

RECURRENT = {
    "kind": "recurrent_seq2seq", "embedding": 16, "encoder": {"hidden": 16},
    "decoder": {"hidden": 32, "variant": "luong"},
    "attention": {"score": {"kind": "additive", "hidden": 16}},
}  # fmt: skip
TRANSFORMER = {
    "kind": "transformer_seq2seq", "width": 32, "heads": 2, "feed_forward": 32, "max_length": 100,
    "encoder": {"layers": 1}, "decoder": {"layers": 2},
}  # fmt: skip


def experiment(model: dict, **task) -> Experiment:
    return Experiment.model_validate({
        "name": "x",
        "task": {
            "kind": "translation", "data": {"kind": "dates", "train": 200, "dev": 20, "test": 20, "max_items": 1},
            "tokenizer": {"kind": "words"}, "decoding": {"beam": 2, "max_length": 30}, "max_length": 40, **task,
        },
        "model": model,
        "training": {"steps": 10, "batch_tokens": 256, "buckets": 1},
    })  # fmt: skip


def test_guided_alignment_is_its_definition():
    weights = np.array([[[0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]])
    links = np.array([[[0, 1, 0], [1, 1, 0], [0, 0, 1]]], float)
    loss = guided_alignment(jnp.asarray(weights), jnp.asarray(links), jnp.array([2]))
    np.testing.assert_allclose(loss, -np.log(0.8) - 0.5 * (np.log(0.5) + np.log(0.25)), rtol=1e-5)
    slope = jax.jit(jax.grad(lambda w: guided_alignment(w, jnp.asarray(links), jnp.array([3]))))(jnp.asarray(weights))
    assert np.isfinite(slope).all()


def test_pieces_of_words_are_aligned_word_by_word(monkeypatch):
    config = experiment(TRANSFORMER, tokenizer={"kind": "bpe", "vocabulary": 100})
    task = TranslationTask.prepare(config, TranslationTask.load(config, None))
    pair = SentencePair("zwei drei", "three two", (Link((0, 4), (6, 9)), Link((5, 9), (0, 5))))
    source, target = task.tokenizers.source.encode(pair.source), task.tokenizers.target.encode(pair.target)
    assert min(len(source.ids), len(target.ids)) > 2
    weights = np.zeros((len(target.ids) + 1, len(source.ids) + 1))
    for row, (start, _) in enumerate(target.offsets):  # each piece attends to one piece of the linked word
        weights[row, len(source.ids) - 1 if start < 5 else 0] = 1.0
    monkeypatch.setattr(TranslationTask, "attention", lambda *_: [weights])
    assert task._alignment_scores({}, [pair], no_poll)["aer"] == 0.0


def test_words_with_punctuation_are_aligned_as_the_gold_alignment_counts_them(monkeypatch):
    """A tokenizer of words splits "zwei-drei" into three tokens, which are one word of the gold alignment."""
    config = experiment(TRANSFORMER, tokenizer={"kind": "words"})
    task = TranslationTask.prepare(config, TranslationTask.load(config, None))
    links = frozenset({(0, 1), (1, 0)})
    pair = AlignedSentence("zwei-drei vier", "four two-three", Gold(links, links)).pair()
    source, target = task.tokenizers.source.encode(pair.source), task.tokenizers.target.encode(pair.target)
    assert (len(source.ids), len(target.ids)) == (4, 4)
    weights = np.zeros((5, 5))
    weights[[0, 1, 2, 3], [3, 2, 0, 2]] = 1.0
    monkeypatch.setattr(TranslationTask, "attention", lambda *_: [weights])
    assert task._alignment_scores({}, [pair], no_poll)["aer"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("model", [RECURRENT, TRANSFORMER], ids=["recurrent", "transformer"])
@pytest.mark.optimized
def test_guiding_makes_attention_follow_gold(model):
    config = experiment(model, guided_alignment=1.0)
    corpus = TranslationTask.load(config, None)
    task = TranslationTask.prepare(config, corpus)
    batch = {name: jnp.asarray(array) for name, array in task.training_batches(corpus.train).batches.batch(0).items()}
    assert batch["links"].shape == (*batch["target_in"].shape, batch["source"].shape[1])
    params = jax.jit(task.initialize)(jax.random.key(0))
    update = optimizer(config.training.optimizer.replace(learning_rate=0.01, schedule="constant"), 10)

    @jax.jit
    def step(params, state):
        def total(params):
            step_loss = task.loss(params, batch, None)
            return step_loss.total, step_loss

        slope, step_loss = jax.grad(total, has_aux=True)(params)
        updates, state = update.update(slope, state, params)
        return jax.tree.map(jnp.add, params, updates), state, step_loss.metrics["alignment"] / step_loss.count

    state, before = update.init(params), None
    for _ in range(40):
        params, state, alignment = step(params, state)
        before = alignment if before is None else before
    assert alignment < 0.6 * before


def test_guiding_needs_gold_and_attention():
    files = {"kind": "tsv", "source": "a", "target": "b", "train": "t", "dev": "d", "test": {"test": "e"}}
    with pytest.raises(
        ValueError, match=r"guided_alignment needs gold alignments, which task.data.alignments.train: FILE"
    ):
        experiment(RECURRENT, guided_alignment=1.0, data=files)
    with pytest.raises(ValueError, match=r"guided_alignment needs model.attention"):
        experiment(RECURRENT | {"attention": None}, guided_alignment=1.0)


def test_a_transformer_must_be_long_enough_for_the_sentences():
    with pytest.raises(ValueError, match=r"model.max_length 30 is below 41, the longest sentence"):
        experiment(TRANSFORMER | {"max_length": 30})


def test_a_sentence_with_more_tokens_than_positions_is_refused():
    config = experiment({**TRANSFORMER, "positions": {"kind": "learned"}, "max_length": 41})
    task = TranslationTask.prepare(config, TranslationTask.load(config, None))
    params = parameters(task)
    assert len(list(task.predict(params, ["drei " * 40], 0, None))) == 1
    (weights,) = task.attention(params, [SentencePair("drei " * 40, "3 " * 40)])
    assert weights.shape == (41, 41)
    with pytest.raises(UserError, match="with its end token a sentence has 42 tokens, and the learned"):
        list(task.predict(params, ["drei " * 41], 0, None))
    with pytest.raises(UserError, match="with its start token a target has 42 tokens, and the learned positions hold"):
        task.attention(params, [SentencePair("drei", "3 " * 41)])


def test_a_transformer_translates_and_shows_its_attention():
    config = experiment(TRANSFORMER)
    corpus = TranslationTask.load(config, None)
    task = TranslationTask.prepare(config, corpus)
    params = parameters(task)
    text = corpus.test["test"][0].source
    views = task.attention_maps(params, task.parse_example([text]))
    words = len(task.tokenizers.source.encode(text).ids) + 1
    assert all(view.weights.shape == (len(view.row_labels), words) for view in views)
    np.testing.assert_allclose(views[0].weights.sum(axis=-1), 1.0, rtol=1e-5)
    assert len(list(task.predict(params, [text, ""], 0, None))) == 2


ROWS = [("Hallo", "Hi."), ("Tag", "hi. "), ("Lauf", "Run!"), ("Renn", "Run!"), ("Wer", "Who?"), ("Was", "What?")]


def split_config(**changes) -> TsvToSplit:
    return TsvToSplit(
        **{"source": "de", "target": "en", "file": "pairs.tsv", "group_by": "en", "dev": 1, "test": 1} | changes
    )


@pytest.fixture
def folder(tmp_path):
    rows = ["de\ten", *("\t".join(row) for row in ROWS)]
    (tmp_path / "pairs.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return tmp_path


@pytest.mark.parametrize("seed", range(5))
def test_equal_sentences_never_stand_in_two_splits(folder, seed):
    corpus = tsv.read_and_split(split_config(seed=seed), folder)
    seen = {name: {pair.target.strip().casefold() for pair in pairs} for name, pairs in corpus.splits().items()}
    assert sum(map(len, corpus.splits().values())) == len(ROWS)
    assert not seen["train"] & (seen["dev"] | seen["test"])
    assert not seen["dev"] & seen["test"]
    assert corpus == tsv.read_and_split(split_config(seed=seed), folder)


def test_another_seed_is_another_split(folder):
    splits = {tsv.read_and_split(split_config(seed=seed), folder).fingerprint() for seed in range(8)}
    assert len(splits) > 1


def test_too_few_rows_and_a_wrong_column_are_reported(folder):
    with pytest.raises(UserError, match="6 rows are too few for dev 3, test 4"):
        tsv.read_and_split(split_config(dev=3, test=4), folder)
    with pytest.raises(ValueError, match="by fr is neither source de nor target en"):
        split_config(group_by="fr")
