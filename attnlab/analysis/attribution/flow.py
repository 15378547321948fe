"""Attention flow: the maximum flow from an output token to each input token through the graph of attention.

All pairs of a chunk are computed together by push–relabel (Goldberg & Tarjan 1988) on arrays [pairs, n, n]: tokens of
one layer are not connected with each other, so a whole layer is discharged at once. Only the value is wanted, so a
token from which the sink cannot be reached any more is given up instead of returning its excess to the source.
"""

from collections.abc import Sequence

import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import check_self_attention, check_valid

FAR = np.int32(2**30)
"""Height of a node from which the sink cannot be reached."""
EPSILON = 1e-12
"""Excess and residual capacity below this count as 0: rounding of sums of capacities of order 1 in float64."""
CHUNK = 2**18
"""Most pairs × tokens² that are computed together, which bounds the memory to a few MB a layer."""


def attention_flow(
    weights: Float[Array | np.ndarray, "l h q k"],
    *,
    valid: Bool[Array | np.ndarray, " n"] | None = None,
    queries: Sequence[int] | None = None,
) -> Float[np.ndarray, "q k"]:
    """Return the maximum flow from each output token to each input token, with attention weights as capacities.

    a[i, j] = maxflow((L, i) → (0, j)),    capacity of (l, u) → (l−1, v): Â_l[u, v] = ½ mean_h A_l[u, v] + ½ [u = v]

    It can say how much of an input token could reach an output token if each connection carried at most its weight;
    unlike `attention_rollout` it does not shrink with the number of layers. It cannot say anything of a target or of
    signs, and it ignores value vectors, feed-forward networks and norms. With many tokens and several layers most
    flows are limited by the first or the last layer alone. The same for pre-norm and post-norm layers.

    Args:
        weights: the weights of every layer and head of self-attention, first layer first.
        valid: True for real tokens; None if there is no padding.
        queries: numbers of the output tokens whose flows are wanted; None for all. The others' rows are 0.
    Returns: [n n] flows in [0, 1], of float64. They are not normalized (the authors' code divides each row by its sum).
    Cost: 1 forward pass, for the capture, then n maximum flows a query on the CPU. A function of NumPy arrays, not
        jit-able and without gradient.
    Numerics: float64, with errors of at most about 1e-12 times the number of edges; rows and columns of padding have
        exactly 0.
    Reference: Abnar & Zuidema 2020, section 3 ("attention flow").

    >>> attention_flow(np.array([[[[0.5, 0.5], [0.0, 1.0]]]])).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    name = "attention_flow"
    n = weights.shape[-1]
    check_self_attention(name, weights, "raw_attention, gradient_x_attention, attention_norms or alti_plus")
    check_valid(name, valid, n)
    chosen = np.arange(n) if queries is None else np.asarray(queries, int).reshape(-1)
    if np.any((chosen < 0) | (chosen >= n)):
        raise ValueError(f"{name}: queries must be numbers of tokens from 0 to {n - 1}, not {chosen.tolist()}")
    real = np.ones(n, bool) if valid is None else np.asarray(valid)
    graph = _graph(np.asarray(weights, np.float64), real)
    sources, sinks = np.meshgrid(chosen[real[chosen]], np.flatnonzero(real), indexing="ij")
    flows = np.zeros((n, n))
    size = max(1, CHUNK // max(1, n * n))
    for start in range(0, sources.size, size):
        source, sink = (array.ravel()[start : start + size] for array in (sources, sinks))
        flows[source, sink] = max_flow(graph, source, sink)
    return flows


def _graph(weights: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return Â in float64, whether or not jax computes in it."""
    mean = weights.mean(axis=1) * real[:, None] * real[None, :]
    graph = 0.5 * mean + 0.5 * np.eye(len(real))
    return graph / graph.sum(axis=-1, keepdims=True)


def max_flow(
    graph: Float[np.ndarray, "l n n"], sources: Sequence[int] | np.ndarray, sinks: Sequence[int] | np.ndarray
) -> Float[np.ndarray, " p"]:
    """Return the maximum flow between nodes of the last and of the first layer of a layered graph, for several pairs.

    Args:
        graph: graph[l, u, v] is the capacity from node u above layer l to node v below it; at least 0.
        sources: for each pair, the node above the last layer.
        sinks: for each pair, the node below the first layer.
    Returns: the flows.
    Numerics: float64.
    Reference: Goldberg & Tarjan 1988, "A new approach to the maximum-flow problem", with heights that are recomputed
        as exact distances in every round (global relabeling).

    >>> max_flow(np.array([[[0.25, 0.75], [0.0, 1.0]], [[0.5, 0.5], [1.0, 0.0]]]), [0], [0]).tolist()
    [0.25]
    """
    graph, sources, sinks = np.asarray(graph, np.float64), np.asarray(sources, int), np.asarray(sinks, int)
    if len(graph) == 1:
        return graph[0][sources, sinks]
    state = _Preflow(graph, sources, sinks)
    values, running = np.zeros(len(sources)), np.arange(len(sources))
    while running.size:
        heights = state.heights()
        active = np.any((state.excess > EPSILON) & (heights < FAR), axis=(0, 2))
        values[running[~active]] = state.value[~active]
        state, running, heights = state.select(active), running[active], heights[:, active]
        if running.size:
            state.discharge(heights)
    return values


class _Preflow:
    """A preflow for every pair, between the source's edges, which are saturated, and the sink."""

    def __init__(self, graph: np.ndarray, sources: np.ndarray, sinks: np.ndarray) -> None:
        pairs, inner = len(sources), len(graph) - 2
        self.down = np.repeat(graph[1:-1, None], pairs, axis=1)
        """[inner layers, pairs, n above, n below]: residual capacities downward."""
        self.up = np.zeros_like(self.down)
        """The flows, which are the residual capacities upward."""
        self.last = graph[0].T[sinks].copy()
        """[pairs, n]: residual capacities to the sink."""
        self.excess = np.zeros((inner + 1, pairs, graph.shape[1]))
        """[inner + 1, pairs, n]: excess of the nodes between the layers, the lowest first."""
        self.excess[-1] = graph[-1][sources]
        self.value = np.zeros(pairs)

    def select(self, pairs: np.ndarray) -> "_Preflow":
        """Return the preflow of some pairs."""
        if pairs.all():
            return self
        chosen = object.__new__(_Preflow)
        chosen.down, chosen.up, chosen.excess = self.down[:, pairs], self.up[:, pairs], self.excess[:, pairs]
        chosen.last, chosen.value = self.last[pairs], self.value[pairs]
        return chosen

    def heights(self) -> np.ndarray:
        """Return every node's distance to the sink in the residual graph; FAR where it cannot be reached."""
        heights = np.full(self.excess.shape, FAR, np.int32)
        heights[0][self.last > EPSILON] = 1
        down = [np.where(residual > EPSILON, np.int32(0), FAR) for residual in self.down]
        up = [np.where(residual > EPSILON, np.int32(0), FAR) if residual.any() else None for residual in self.up]
        while True:
            before = heights.copy()
            for layer, blocked in enumerate(down):
                below = np.min(heights[layer][:, None, :] | blocked, axis=2) + 1
                np.minimum(heights[layer + 1], below, out=heights[layer + 1])
            for layer, blocked in reversed(list(enumerate(up))):
                if blocked is not None:
                    above = np.min(heights[layer + 1][:, :, None] | blocked, axis=1) + 1
                    np.minimum(heights[layer], above, out=heights[layer])
            if np.array_equal(before, heights):
                return heights

    def discharge(self, heights: np.ndarray) -> None:
        """Push every node's excess along edges that lead one step nearer to the sink: from the farthest layer down,
        then from the lowest up, so that what is pushed upward goes on in the same round."""
        layers = range(len(self.excess))
        for layer in [*reversed(layers), *layers]:
            if layer == 0:
                pushed = np.minimum(self.excess[0], self.last)
                self.last -= pushed
                self.excess[0] -= pushed
                self.value += pushed.sum(axis=1)
            else:
                self._push(layer, layer - 1, heights)
            if layer + 1 < len(self.excess):
                self._push(layer, layer + 1, heights)

    def _push(self, origin: int, target: int, heights: np.ndarray) -> None:
        """Move excess from the nodes of one layer to nearer nodes of the layer below or above."""
        pair, node = np.nonzero((self.excess[origin] > EPSILON) & (heights[origin] < FAR))
        if not pair.size:
            return
        forth, back = (self.down, self.up) if target < origin else (self.up, self.down)
        edges = (pair, node) if target < origin else (pair, slice(None), node)
        residuals, reverse = forth[min(origin, target)], back[min(origin, target)]
        residual = residuals[edges]
        near = heights[target][pair] + 1 == heights[origin][pair, node][:, None]
        capacity = np.where(near & (residual > EPSILON), residual, 0.0)
        left = self.excess[origin][pair, node]
        before = np.cumsum(capacity, axis=1) - capacity
        amounts = np.clip(left[:, None] - before, 0.0, capacity)
        residuals[edges] = residual - amounts
        reverse[edges] += amounts
        self.excess[origin][pair, node] = np.maximum(left - amounts.sum(axis=1), 0.0)
        pairs, starts = np.unique(pair, return_index=True)
        self.excess[target][pairs] += np.add.reduceat(amounts, starts, axis=0)
