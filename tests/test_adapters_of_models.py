"""Model adapters: each satisfies the contract, and a small new one needs nothing else."""

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from weights import parameters

from attnlab.config.load import load
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import record
from attnlab.tasks.adapter import ModelAdapter, Output
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
READER = (
    "model={kind: transformer_reader, encoder: {layers: 2, width: 8, heads: 2, feed_forward: 8, "
    "positions: {kind: sinusoidal}}}"
)


MODELS = {
    "recurrent translation": ("translation/dates_additive.yaml", ()),
    "Transformer translation": ("translation/dates_transformer.yaml", ()),
    "recurrent classifier": ("classification/synthetic_sentiment_additive.yaml", ()),
    "Transformer classifier": ("classification/synthetic_sentiment_transformer.yaml", ()),
    "memory network": ("story_qa/story_qa_1_memory.yaml", ()),
    "story Transformer": ("story_qa/story_qa_1_transformer.yaml", ()),
    "sentence Transformer": ("story_qa/story_qa_2_sentences.yaml", ()),
    "BiDAF": ("extractive_qa/passages_bidaf.yaml", ()),
    "Transformer reader": ("extractive_qa/passages_bidaf.yaml", (READER,)),
    "recurrent captioner": ("captioning/scenes_soft.yaml", ()),
    "Transformer captioner": ("captioning/scenes_transformer.yaml", ()),
    "visual questions": ("visual_qa/scenes_cross_attention.yaml", ()),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.quick(
    "recurrent classifier", "memory network", "sentence Transformer", "Transformer reader", "recurrent captioner"
)
def test_an_adapter_fills_embeds_and_applies(name):
    """By default those of models that are cheap to compile; test_analysis_explain.py embeds and applies the others."""
    path, changes = MODELS[name]
    config = load(EXPERIMENTS / path, changes, tiny=True)
    splits = task_class(config).load(config, None)
    task = task_class(config).prepare(config, splits)
    adapter = task.adapter
    params = parameters(adapter)
    batch = task.training_batches(splits.train).batches.batch(0)

    output = jax.jit(forward(adapter))(params, batch)
    assert isinstance(output, dict)
    rows = len(output["logits"])
    assert output["attention"]
    for layer in output["attention"]:
        chex.assert_rank(layer.weights, 4)
        assert len(layer.weights) == rows
    assert output["auxiliary_loss"].shape == (rows,)

    def embedded_logits(params, batch):
        embedded = adapter.embed(params, batch)
        return adapter.forward(params, batch, embedded=embedded, attention=False).logits

    np.testing.assert_allclose(jax.jit(embedded_logits)(params, batch), output["logits"], atol=1e-5)


def forward(adapter: ModelAdapter):
    def apply(params, batch):
        output = adapter.forward(params, batch)
        return {"logits": output.logits, "attention": output.attention, "auxiliary_loss": output.auxiliary_loss}

    return apply


class Mean(nn.Module):
    """The mean of embeddings as a classifier."""

    def setup(self) -> None:
        self.table, self.classes = nn.Embed(9, 4), nn.Dense(3)

    def embed(self, tokens, lengths):
        return self.table(tokens)

    def __call__(self, tokens, lengths, *, train, embedded=None):
        states = self.table(tokens) if embedded is None else embedded
        real = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
        weights = real / jnp.maximum(lengths, 1)[:, None]
        record(self, weights[:, None, None], kind="pooling", stack="encoder")
        return self.classes(jnp.einsum("bs,bsd->bd", weights, states))


class MeanAdapter(ModelAdapter):
    """All that a new model needs. An example is a list of token numbers."""

    input_names = ("tokens", "lengths")
    model = Mean()

    @property
    def example_batch(self):
        return self.arrays([[1]], Shape(1, 1, 1))

    def lengths(self, example):
        return len(example), len(example)

    def arrays(self, examples, shape):
        tokens = np.zeros((shape.rows, shape.source), np.int32)
        for row, ids in enumerate(examples):
            tokens[row, : len(ids)] = ids
        lengths = np.zeros(shape.rows, np.int32)
        lengths[: len(examples)] = [len(ids) for ids in examples]
        return {"tokens": tokens, "lengths": lengths}

    def output(self, raw, layers):
        return Output(raw, layers, jnp.zeros(len(raw)))


def test_a_new_adapter_is_a_model_its_inputs_and_its_batches():
    adapter = MeanAdapter()
    params = adapter.initialize(jax.random.key(0))
    batch = adapter.fill([[5, 6, 7], [8]])
    assert batch["tokens"].shape == (jax.device_count() * -(-2 // jax.device_count()), 3)
    output = adapter.forward(params, batch)
    (layer,) = output.attention
    np.testing.assert_allclose(layer.weights[:2, 0, 0], [[1 / 3] * 3, [1, 0, 0]], rtol=1e-6)
    doubled = adapter.forward(params, batch, embedded=2 * adapter.embed(params, batch))
    assert not np.allclose(doubled.logits[:2], output.logits[:2])
    assert not adapter.forward(params, batch, attention=False).attention
