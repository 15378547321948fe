"""Oracle of linear attention: float64 loops over pairs of tokens, with the transition matrices of the papers.

The weight of token j for query i is query_iᵀ A_i ⋯ A_{j+1} b_j, where A_l is the matrix by which token l multiplies the
state, and b_j what token j adds for its value. No state is carried from token to token.
"""

import math

import numpy as np

RULES = ("sum_rule", "not normalized", "retention", "gated", "gated by feature", "normalized gated", "delta_rule",
         "gated_delta_rule", "gated_delta_rule by feature")  # fmt: skip


def transition(rule, key, gates):
    """Return A and the factor of the key for one token, from eq. 10 of gated DeltaNet and its special cases."""
    width = len(key)
    decay = np.eye(width)
    if "log_decay" in gates:
        decay = np.diag(np.broadcast_to(np.exp(gates["log_decay"]), (width,)))
    if "decay" in gates:
        decay = gates["decay"] * np.eye(width)
    if "beta" not in gates:
        return decay, 1.0
    return (np.eye(width) - gates["beta"] * np.outer(key, key)) @ decay, gates["beta"]


def linear_attention(rule, query, key, value, gates, where, state, normalized):
    """Return the state after the last token and the outputs, of one head."""
    tokens, width = key.shape
    if normalized:
        value = np.concatenate([value, np.ones((tokens, 1))], axis=1)
    of = [{name: gate[n] for name, gate in gates.items()} for n in range(tokens)]
    steps = [transition(rule, key[n], of[n]) if where[n] else None for n in range(tokens)]

    def state_at(i):
        total = np.zeros((width, value.shape[1]))
        for j in range(-1, i + 1):
            if j >= 0 and steps[j] is None:
                continue
            term = state.copy() if j < 0 else steps[j][1] * np.outer(key[j], value[j])
            for step in range(j + 1, i + 1):
                if steps[step] is not None:
                    term = steps[step][0] @ term
            total += term
        return total

    output = np.stack([state_at(i).T @ query[i] for i in range(tokens)])
    if normalized:
        sums = output[:, -1:]
        output = np.divide(output[:, :-1], sums, out=np.zeros_like(output[:, :-1]), where=sums != 0)
    return state_at(tokens - 1), output


def elu_plus_one(x):
    return np.vectorize(lambda a: a + 1.0 if a > 0 else math.exp(a))(x)


def silu_unit(x):
    rows = []
    for row in x:
        silu = [a / (1.0 + math.exp(-a)) for a in row]
        norm = math.sqrt(sum(a * a for a in silu))
        rows.append([a / norm if norm else 0.0 for a in silu])
    return np.array(rows)


def favor(x, projection):
    x = x / x.shape[1] ** 0.25
    rows = [[math.exp(np.dot(w, row) - np.dot(row, row) / 2) for w in projection] for row in x]
    return np.array(rows) / math.sqrt(len(projection))


def cosformer(x, positions, max_length):
    angles = [math.pi * position / (2 * max_length) for position in positions]
    positive = np.maximum(x, 0)
    halves = [[row * f(angle) for row, angle in zip(positive, angles, strict=True)] for f in (math.cos, math.sin)]
    return np.concatenate(halves, axis=1)


def hedgehog(x, w, b):
    return np.array([[math.exp(sign * (np.dot(row, column) + c)) for sign in (1, -1)
                      for column, c in zip(w.T, b, strict=True)] for row in x])  # fmt: skip
