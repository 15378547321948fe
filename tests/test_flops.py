"""Operations counted from a jaxpr: loops, convolutions, devices, and two training steps computed by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from attnlab.bench.flops import Flops, count, flops
from attnlab.config.load import load
from attnlab.tasks.registry import task_class
from attnlab.training.steps import initial_state, make_train_step, shard_batch

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
A, B = jnp.ones((4, 5)), jnp.ones((5, 6))
PRODUCT = 2 * 4 * 5 * 6


def test_products_and_elementwise_functions():
    assert count(lambda a, b: jnp.tanh(a @ b) + 1.0, A, B) == Flops(PRODUCT, 2 * 24)
    assert count(jnp.sum, A).other == 20
    batched = jnp.ones((3, 4, 5)), jnp.ones((3, 5, 6))
    assert count(jnp.matmul, *batched).matmul == 3 * PRODUCT
    assert count(lambda a: a.reshape(20)[::2], A) == Flops()
    assert count(lambda n: n + 1, jnp.arange(3)) == Flops(), "integers"


def test_what_the_compiler_removes_does_not_count():
    assert count(lambda a, b: (a @ b, a + 1)[1], A, B) == Flops(0, 20)


SQUARE = jnp.ones((5, 5))


def scanned(a, b):
    return jax.lax.scan(lambda carry, _: (carry @ b, None), a, length=7)[0]


@pytest.mark.parametrize(
    ("function", "times", "unbounded"),
    [
        (scanned, 7, 0),
        (lambda a, b: jax.lax.fori_loop(0, 7, lambda _, c: c @ b, a), 7, 0),
        (lambda a, b: jax.lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 2, c[1] @ b), (0, a))[1], 5, 0),
        (lambda a, b: jax.lax.while_loop(lambda c: c.sum() < 9.0, lambda c: c @ b, a), 1, 1),
        (lambda a, b: jax.lax.cond(a.sum() > 0, lambda: a @ b @ b, lambda: a @ b), 2, 0),
        (lambda a, b: jax.lax.map(lambda row: row @ b, a), 1, 0),
        (jax.checkpoint(lambda a, b: a @ b), 1, 0),
        (jax.vmap(scanned, (0, None)), 7, 0),
        (lambda a, b: jax.lax.scan(lambda c, _: (scanned(c, b), None), a, length=3)[0], 21, 0),
    ],
    ids=["scan", "fori_loop", "while", "while_unknown", "cond", "map", "checkpoint", "vmap", "nested"],
)  # fmt: skip
def test_a_loop_counts_as_often_as_it_runs(function, times: int, unbounded: int):
    found = count(function, A, SQUARE)
    assert found.matmul == times * 2 * 4 * 5 * 5
    assert found.unbounded_loops == unbounded


def test_the_gradient_of_a_loop_takes_two_products_more_and_xla_counts_its_body_once():
    gradient = jax.jit(jax.grad(lambda a, b: scanned(a, b).sum(), argnums=(0, 1)))
    traced = gradient.trace(A, SQUARE)
    found, body = flops(traced.jaxpr), 2 * 4 * 5 * 5
    assert found.matmul == 3 * 7 * body
    assert traced.lower().compile().cost_analysis()["flops"] < found.matmul / 2


@pytest.mark.parametrize(("stride", "padding"), [(1, "VALID"), (1, "SAME"), (2, "SAME"), (3, "VALID")])
@pytest.mark.quick("2-SAME")
def test_a_convolution_counts_its_products_by_hand(stride: int, padding: str):
    image, kernel = np.zeros((2, 9, 8, 3)), np.zeros((3, 3, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    convolve = lambda i, k: jax.lax.conv_general_dilated(  # noqa: E731
        i, k, (stride, stride), padding, dimension_numbers=numbers
    )
    places = []
    for size in (9, 8):
        result = -(-size // stride) if padding == "SAME" else (size - 3) // stride + 1
        low = max((result - 1) * stride + 3 - size, 0) // 2 if padding == "SAME" else 0
        places.append(sum(0 <= out * stride + tap - low < size for out in range(result) for tap in range(3)))
    forward = 2 * 2 * 4 * 3 * places[0] * places[1]
    assert count(convolve, image, kernel).matmul == forward
    gradient = jax.grad(lambda i, k: convolve(i, k).sum(), argnums=(0, 1))
    assert count(gradient, jnp.asarray(image), jnp.asarray(kernel)).matmul == 2 * forward, "zeros are not multiplied"


def test_devices_share_the_work():
    devices = min(jax.device_count(), 2)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    specs = (PartitionSpec("data"), PartitionSpec())
    product = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("data"))
    assert count(product, A, B).matmul == PRODUCT


def step_of(file: str) -> tuple[Flops, dict[str, tuple[int, ...]], int]:
    """Count a training step: its operations, the shapes of its batch, and the size of the target vocabulary."""
    config = load(EXPERIMENTS / f"translation/{file}.yaml", ["task.data.train=200", "task.data.dev=5"])
    splits = task_class(config).load(config, None)
    task = task_class(config).prepare(config, splits)
    batch = task.training_batches(splits.train).batches.batch(0)
    state = jax.eval_shape(lambda: initial_state(task.initialize, config.training, config.seed))
    step = make_train_step(task.loss, config.training, config.seed)
    traced = step.func.trace(state, shard_batch(batch), **step.keywords)
    vocabulary = task.tokenizer.target.vocabulary_size
    return flops(traced.jaxpr), {name: array.shape for name, array in batch.items()}, vocabulary


def test_a_recurrent_training_step_by_hand():
    """Forward products of an encoder-decoder with additive attention; backward takes twice as many."""
    found, shapes, vocabulary = step_of("dates_additive")
    (rows, source), target = shapes["source"], shapes["target_in"][1]
    embedding, encoder, decoder, hidden = 64, 64, 128, 64
    encoded = 2 * source * (embedding * 3 * encoder + encoder * 3 * encoder)  # two directions, three gates
    keys, bridge = source * 2 * encoder * hidden, 2 * encoder * decoder
    attention = source * hidden + source * 2 * encoder  # scores and pooling
    cell = (embedding + embedding + decoder) * 3 * decoder  # input, fed attentional state, recurrence
    readout = (decoder + 2 * encoder) * embedding + embedding * vocabulary
    decoded = target * (cell + decoder * hidden + attention + readout)
    assert found.matmul == 3 * 2 * rows * (encoded + keys + bridge + decoded)
    assert found.unbounded_loops == 0
    assert 0 < found.other < found.matmul


def test_a_transformer_training_step_by_hand():
    found, shapes, vocabulary = step_of("dates_transformer")
    (rows, source), target = shapes["source"], shapes["target_in"][1]
    width, inner = 128, 256
    encoder = source * (4 * width * width + 2 * width * inner) + 2 * source * source * width
    decoder = target * (6 * width * width + 2 * width * inner) + source * 2 * width * width
    decoder += 2 * target * target * width + 2 * target * source * width
    readout = target * width * vocabulary
    assert found.matmul == 3 * 2 * rows * (2 * encoder + 2 * decoder + readout)
