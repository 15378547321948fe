"""Attribution by leaving out one token at a time."""

from functools import partial

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import map_over, predict_in_batches
from attnlab.analysis.attribution.checks import check_embedded, one_number
from attnlab.analysis.checks import call_predict, check_positive, check_valid
from attnlab.analysis.functions import Predict, Score
from attnlab.analysis.record import Attribution
from attnlab.functional.types import widen


def occlusion(
    score: Score,
    embedded: Float[Array, "n d"],
    *,
    replacement: Float[Array, "n d"] | Float[Array, " d"],
    internal_batch_size: int | None = None,
    removable: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Attribute to each token the drop of the score when its embedding is replaced.

    attributions_i = F(x) − F(x with x_i ← replacement_i)

    It can say what the model would lose without this one token, with sign and in the unit of the score; no gradient is
    needed. It cannot see that one of two tokens with the same content can go as long as the other stays, and the input
    with a replaced token may be unlike any that the model was trained on.

    Args:
        score: the explained number as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        replacement: what a left-out token becomes, for each token or one for all: the embedding of PAD or MASK, zeros,
            or the mean embedding.
        internal_batch_size: number of inputs that are computed at a time; None for all n.
        removable: True for tokens that may be replaced: neither padding nor special tokens; None if all may.
    Returns: an `Attribution` with attributions [n], of either sign; no completeness gap.
    Cost: n + 1 forward passes.
    Numerics: dtype of the score; tokens that may not be removed have exactly 0. Under `jit`, internal_batch_size is
        static.
    Reference: Zeiler & Fergus 2014, section 4.2; Li et al. 2016, "Understanding neural networks through representation
        erasure"; captum's `Occlusion` with a window of one token, `FeatureAblation` with one feature a token.

    >>> occlusion(lambda x: 2 * x[0, 0] - x[1, 0], jnp.ones((2, 1)), replacement=jnp.zeros(1)).attributions.tolist()
    [2.0, -1.0]
    """
    name = "occlusion"
    check_embedded(name, embedded)
    n = embedded.shape[0]
    check_valid(name, removable, n, "removable")
    check_positive(name, internal_batch_size=internal_batch_size)
    if replacement.shape not in (embedded.shape, embedded.shape[1:]):
        raise ValueError(
            f"{name}: replacement must have shape {list(embedded.shape)} or {list(embedded.shape[1:])}, not "
            f"{list(replacement.shape)}"
        )
    instead = jnp.broadcast_to(replacement, embedded.shape).astype(embedded.dtype)
    explained = one_number(name, score)
    whole = explained(embedded)
    if not n:
        return Attribution(name, jnp.zeros(0, whole.dtype))
    without = map_over(
        lambda removed: explained(jnp.where(removed[:, None], instead, embedded)),
        jnp.eye(n, dtype=bool), internal_batch_size,
    )  # fmt: skip
    drops = (widen(whole) - widen(without)).astype(whole.dtype)
    return Attribution(name, drops if removable is None else jnp.where(removable, drops, 0))


def leave_one_out(
    predict: Predict,
    n: int,
    *,
    internal_batch_size: int | None = None,
    removable: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Attribute to each token the drop of the prediction when it is removed, in whatever way `predict` removes tokens.

    attributions_i = f(x) − f(x without token i)

    `occlusion` is the special case of replaced embeddings; here the function may drop the token, or mask it in the
    attention. Like `occlusion` it can say what the model would lose without this one token, with sign, and it cannot
    see that one of two tokens can go as long as the other stays (`greedy_leave_one_out` can).

    Args:
        predict: (removed [m n]) -> predictions [m], see `functions.Predict`.
        n: number of tokens, padding included.
        internal_batch_size: number of versions of the text in a call of `predict`, which must then be traceable by
            jax; None for one call with all n + 1.
        removable: True for tokens that may be removed: neither padding nor special tokens; None if all may.
    Returns: an `Attribution` with attributions [n], of either sign; no completeness gap.
    Cost: n + 1 forward passes.
    Numerics: float32 at least; tokens that may not be removed have exactly 0. Under `jit`, n and internal_batch_size
        are static.
    Reference: Li et al. 2016, who divide by the prediction; the leave-one-out that Jain & Wallace 2019 and ferret's
        `taucorr_loo` compare with.

    >>> leave_one_out(lambda removed: 1.0 - removed[:, 0] * 0.5, 2).attributions.tolist()
    [0.5, 0.0]
    """
    name = "leave_one_out"
    check_valid(name, removable, n, "removable")
    check_positive(name, internal_batch_size=internal_batch_size)
    if n == 0:
        return Attribution(name, jnp.zeros(0, jnp.float32))
    allowed = jnp.ones(n, bool) if removable is None else removable
    masks = jnp.concatenate([jnp.zeros((1, n), bool), jnp.eye(n, dtype=bool) & allowed[None, :]])
    predictions = predict_in_batches(partial(call_predict, name, predict), masks, internal_batch_size)
    return Attribution(name, jnp.where(allowed, predictions[0] - predictions[1:], 0))
