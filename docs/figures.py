"""Draw the pictures of docs/attention with attnlab itself: `make figures`. Nothing is trained; every seed is fixed."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial
from matplotlib.axes import Axes

from attnlab import attention, attention_weights, masks, normalizers, scores
from attnlab.functional import mods
from attnlab.functional.rotary import rotary
from attnlab.functional.types import Positions

HERE = Path(__file__).parent / "attention"
BLUE, GRAY = "#2b6cb0", "#999999"


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Any, list[Axes]]:
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    return figure, list(axes.ravel())


def write(figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(HERE / f"{name}.png", dpi=80)
    plt.close(figure)
    print(f"docs/attention/{name}.png")


def one_head(array: Any) -> jax.Array:
    """[positions, features] as [positions, one head, features]."""
    return jnp.asarray(array, jnp.float32)[:, None, :]


# Scores: one query, and the weight of a key that may lie anywhere in the plane


def draw_scores() -> None:
    side = np.linspace(-2.5, 2.5, 101)
    plane = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    query = np.array([[1.2, 0.6]])
    turn = jnp.array([[0.0, 1.2], [-1.2, 0.0]])
    net = jax.random.normal(jax.random.key(4), (5, 12))
    network = {"w_query": net[:2], "w_key": net[2:4] * 1.3, "v": 1.2 * net[4]}
    shown = {
        "dot": scores.dot,
        "scaled_dot  (÷ √2)": scores.scaled_dot,
        "general  (W a quarter turn)": Partial(scores.general, w=turn),
        "additive  (12 hidden)": Partial(scores.additive, **network),
        "cosine  (× 3)": Partial(scores.cosine, scale=jnp.float32(3.0)),
        "negative squared distance": scores.negative_squared_distance,
    }
    figure, axes = panels(2, 3, 2.9, 3.0)
    for panel, (name, score) in zip(axes, shown.items(), strict=True):
        weights = attention_weights(one_head(query), one_head(plane), score=score)[0, 0].reshape(101, 101)
        share = weights / weights.max()
        logits = score(jnp.asarray(query, jnp.float32), jnp.asarray(plane, jnp.float32))[0].reshape(101, 101)
        panel.imshow(share, cmap="Blues", origin="lower", extent=(-2.5, 2.5, -2.5, 2.5), vmin=0, vmax=1)
        panel.contour(side, side, logits, levels=8, colors=GRAY, linewidths=0.6, linestyles="solid")
        panel.annotate("", query[0], (0, 0), arrowprops={"arrowstyle": "->", "color": "black", "lw": 1.4})
        panel.set_title(name, fontsize=10)
        panel.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    axes[3].set(xlabel="first feature of the key", ylabel="second feature of the key")
    write(figure, "scores")


# Normalizers: one row of logits, and the weights that each makes of it


def draw_normalizers() -> None:
    logits = jnp.array([[2.0, 1.6, 1.2, 0.8, 0.2, -0.2, -1.0, -1.8]])
    shown = {
        "softmax": normalizers.softmax,
        "temperature(0.5)": normalizers.temperature(0.5),
        "softmax_plus_one": normalizers.softmax_plus_one,
        "softmax_with_sink(2.0)": normalizers.softmax_with_sink(2.0),
        "entmax(1.2)": normalizers.entmax(1.2),
        "entmax15": normalizers.entmax15,
        "sparsemax": normalizers.sparsemax,
        "top_k(3)": normalizers.top_k(3),
        "hardmax": normalizers.hardmax,
        "gumbel_softmax (a draw)": normalizers.gumbel_softmax(jax.random.key(1)),
        "sigmoid(−log 8)": normalizers.sigmoid(-np.log(8.0)),
        "relu_over_length": normalizers.relu_over_length,
        "linear": normalizers.linear,
        "local_p(2.5, 3.0)": normalizers.local_p(jnp.array([2.5]), 3.0),
        "softmax, two keys masked": normalizers.softmax,
    }
    # A row's weights come from attention itself: one query of 1 against keys that are the logits.
    where = masks.array(jnp.array([True, False, True, True, True, False, True, True]), axes="k")
    figure, axes = panels(3, 5, 2.4, 1.9)
    for panel, (name, normalizer) in zip(axes, shown.items(), strict=True):
        options = {"score": scores.dot, "normalizer": normalizer, "mask": where if "masked" in name else None}
        found = attention_weights(one_head([[1.0]]), one_head(logits.T), **options)
        weights = found[0, 0]
        panel.bar(range(8), weights, color=BLUE)
        panel.axhline(0.0, color="black", lw=0.6)
        for place, weight in enumerate(weights):
            if weight == 0.0:
                panel.plot(place, 0.0, marker="x", color="#c53030", ms=5, clip_on=False)
        panel.set_ylim((-2.0, 2.2) if name == "linear" else (0.0, 1.05 if weights.max() > 0.6 else 0.6))
        panel.set_title(f"{name}   Σ = {weights.sum():.2f}", fontsize=9)
        panel.set_xticks(range(8), [f"{x:g}" for x in logits[0].tolist()], fontsize=7)
        panel.tick_params(axis="y", labelsize=7)
    for panel in axes[-5:]:
        panel.set_xlabel("logit", fontsize=8)
    write(figure, "normalizers")


# Mods: what each does to the weights of 24 queries and 24 keys


def draw_mods() -> None:
    length = 24
    rng = np.random.default_rng(5)
    nothing = one_head(np.zeros((length, 8)))
    strong = one_head(2.2 * rng.standard_normal((length, 8))), one_head(rng.standard_normal((length, 8)))
    ones = rotary(one_head(np.ones((length, 8))))
    table = jnp.array([0.0, 0.5, 1.0, 2.0, 3.0, 0.0, -1.0, -2.0, -3.0])
    buckets = jnp.asarray(1.5 * rng.standard_normal(16), jnp.float32)
    places = jnp.asarray(rng.standard_normal((8, length)), jnp.float32)
    asked = jnp.asarray(rng.standard_normal((length, 8)), jnp.float32)
    shown = {
        "no mod; these logits": (*strong, ()),
        "soft_cap(2.0)\non the same": (*strong, (mods.soft_cap(2.0),)),
        "rotary: one vector\nat every position": (ones, ones, ()),
        "alibi(8), 2nd head": (nothing, nothing, (second_head,)),
        "alibi, then soft_cap(2.0)": (nothing, nothing, (second_head, mods.soft_cap(2.0))),
        "relative_bias, R = 4": (nothing, nothing, (mods.relative_bias(table),)),
        "t5_bias, 16 buckets to 24": (nothing, nothing, (mods.t5_bias(buckets, max_distance=24),)),
        "location": (nothing, nothing, (mods.location(asked, places),)),
        "diagonal_bias(2.0)": (nothing, nothing, (mods.diagonal_bias(2.0),)),
        "random_bias(rng)": (nothing, nothing, (mods.random_bias(jax.random.key(0)),)),
        'bias, axes "k"': (nothing, nothing, (mods.bias(places[0], "k"),)),
        'bias, axes "q k"': (nothing, nothing, (mods.bias(jnp.eye(length)[::-1] * 2, "q k"),)),
    }
    figure, axes = panels(2, 6, 2.1, 2.4)
    for panel, (name, (query, key, chosen)) in zip(axes, shown.items(), strict=True):
        weights = attention_weights(query, key, mods=chosen)[0]
        panel.imshow(weights, cmap="Blues", vmin=0.0, vmax=max(0.15, float(weights.max()) * 0.8))
        panel.set_title(name, fontsize=8)
        panel.set(xticks=[], yticks=[])
    axes[6].set(xlabel="24 keys", ylabel="24 queries")
    write(figure, "mods")


def second_head(logits: jax.Array, positions: Positions) -> jax.Array:
    return mods.alibi(8)(logits, positions._replace(head=jnp.int32(1)))


# Masks: 32 queries against 32 keys


def draw_masks() -> None:
    documents = jnp.repeat(jnp.arange(4), jnp.array([9, 6, 10, 7]), total_repeat_length=32)
    causal, window = masks.causal(), masks.sliding_window(3, 3)
    shown = {
        "causal()": causal,
        "sliding_window(6, 0)": masks.sliding_window(6, 0),
        "lengths(22, queries=26)": masks.lengths(22, 26),
        "segments(ids) & causal()": masks.segments(documents) & causal,
        "causal() | prefix(10)": causal | masks.prefix(10),
        "dilated(6, 3)": masks.dilated(6, 3),
        "strided(6)": masks.strided(6),
        "fixed(8, 2)": masks.fixed(8, 2),
        "sliding_window(3, 3)\n| global_tokens([0, 13])": window | masks.global_tokens([0, 13]),
        "random_blocks(4, 2, seed=0)": masks.random_blocks(4, 2, seed=0),
        "big_bird(2, random=2, seed=0)": masks.big_bird(2, random=2, seed=0),
        "block_layout(layout, 8)": masks.block_layout(np.random.default_rng(2).random((4, 4)) < 0.5, 8),
        "from_fn: i − j is a power of 2": causal & masks.from_fn(lambda i, j, head: (i - j) & (i - j - 1) == 0),
        "~sliding_window(6, 6)": ~masks.sliding_window(6, 6),
        'causal("lower_right"), 20 queries': masks.causal("lower_right"),
    }
    figure, axes = panels(3, 5, 2.1, 2.4)
    for panel, (name, mask) in zip(axes, shown.items(), strict=True):
        queries = 20 if "20 queries" in name else 32
        panel.imshow(np.asarray(mask.dense(queries, 32)), cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        panel.set_title(name, fontsize=8)
        panel.set(xticks=[], yticks=[])
    axes[10].set(xlabel="32 keys", ylabel="32 queries")
    write(figure, "masks")


# Implementations: which blocks are computed, and what memory the compiled program needs


def draw_implementations() -> None:
    size, block = 4096, 256
    shown = {
        "causal()": masks.causal(),
        "sliding_window(512, 0)": masks.sliding_window(512, 0),
        "four packed documents, causal": masks.causal()
        & masks.segments(jnp.repeat(jnp.arange(4), jnp.array([1100, 700, 1496, 800]), total_repeat_length=size)),
    }
    figure, axes = panels(1, 4, 2.9, 2.9)
    positions = np.arange(size, dtype=np.int32).reshape(-1, block)
    for panel, (name, mask) in zip(axes, shown.items(), strict=False):
        some, every = mask.fitted(size, size).classify(positions, positions)
        panel.imshow(np.asarray(some).astype(int) + np.asarray(every), cmap="Blues", vmin=0, vmax=2.6)
        panel.set_title(f"{name}\n{np.mean(np.asarray(some)):.0%} of the blocks", fontsize=8)
        panel.set(xticks=[], yticks=[])
    axes[0].set(xlabel="blocks of keys", ylabel="blocks of queries")
    lengths = [256, 512, 1024, 2048, 4096]
    for name, color in {"dense": "#c53030", "streaming": BLUE}.items():
        for backward, style in ((False, "-"), (True, "--")):
            memory = [temporary_bytes(name, length, backward) / 2**20 for length in lengths]
            label = f"{name}, {'with gradient' if backward else 'forward'}"
            axes[3].loglog(lengths, memory, style, color=color, marker="o", ms=3, label=label)
    axes[3].set_title("MiB of the compiled program,\n8 heads of 64, float32", fontsize=8)
    axes[3].set_xticks(lengths, [str(length) for length in lengths], fontsize=7)
    axes[3].minorticks_off()
    axes[3].set_ylim(1, 3e4)
    axes[3].legend(fontsize=6, loc="upper left")
    axes[3].set_xlabel("length", fontsize=8)
    write(figure, "implementations")


def temporary_bytes(implementation: str, length: int, backward: bool) -> int:
    """What exists beyond inputs and outputs, as the compiler says."""
    shape = jax.ShapeDtypeStruct((1, length, 8, 64), jnp.float32)

    def loss(query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
        output = attention(query, key, value, implementation=implementation)
        return output.sum() if backward else output

    function = jax.grad(loss, argnums=(0, 1, 2)) if backward else loss
    return jax.jit(function).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes


DRAWN = {
    "scores": draw_scores,
    "mods": draw_mods,
    "masks": draw_masks,
    "normalizers": draw_normalizers,
    "implementations": draw_implementations,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or DRAWN:
        DRAWN[chosen]()
