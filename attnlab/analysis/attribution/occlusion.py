"""Attribution by leaving out one token at a time."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import map_over
from attnlab.analysis.attribution.checks import check_embedded, check_positive, check_valid, one_number
from attnlab.analysis.attribution.record import Attribution, Scores, ScoresWithout


def occlusion(
    scores: Scores,
    embedded: Float[Array, "n d"],
    *,
    replacement: Float[Array, "n d"] | Float[Array, " d"],
    internal_batch_size: int | None = None,
    valid: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Attribute to each token the drop of the score when its embedding is replaced.

    attributions_i = F(x) − F(x with x_i ← replacement_i)

    It can say what the model would lose without this one token, with sign and in the unit of the score; no gradient is
    needed. It cannot see tokens that stand in for each other (either one can go without loss), and the input with a
    replaced token may be unlike any that the model was trained on.

    Args:
        scores: the explained number as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        replacement: what a left-out token becomes, for each token or one for all: the embedding of PAD or MASK, zeros,
            or the mean embedding.
        internal_batch_size: number of inputs that are computed at a time; None for all n.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n], of either sign; no completeness gap.
    Cost: n + 1 forward passes.
    Numerics: dtype of the score; padding has exactly 0.
    Reference: Zeiler & Fergus 2014, section 4.2; Li et al. 2016, "Understanding neural networks through representation
        erasure"; captum's `Occlusion` with a window of one token, `FeatureAblation` with one feature a token.

    >>> occlusion(lambda x: 2 * x[0, 0] - x[1, 0], jnp.ones((2, 1)), replacement=jnp.zeros(1)).attributions.tolist()
    [2.0, -1.0]
    """
    name = "occlusion"
    check_embedded(name, embedded)
    if replacement.shape not in (embedded.shape, embedded.shape[1:]):
        raise ValueError(
            f"{name}: replacement must have shape {list(embedded.shape)} or {list(embedded.shape[1:])}, not "
            f"{list(replacement.shape)}"
        )
    instead = jnp.broadcast_to(replacement, embedded.shape).astype(embedded.dtype)
    score = one_number(name, scores)
    drops = _leave_one_out(
        name, lambda removed: score(jnp.where(removed[:, None], instead, embedded)), embedded.shape[0],
        internal_batch_size, valid,
    )  # fmt: skip
    return Attribution(name, drops)


def leave_one_out(
    scores: ScoresWithout,
    n: int,
    *,
    internal_batch_size: int | None = None,
    valid: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Attribute to each token the drop of the score when it is removed, in whatever way `scores` removes tokens.

    attributions_i = F(nothing removed) − F(token i removed)

    `occlusion` is the special case of replaced embeddings; here the function may drop the token, or mask it in the
    attention. It says and cannot say what `occlusion` can and cannot.

    Args:
        scores: the explained number as a function of which tokens are removed; traceable by jax.
        n: number of tokens, padding included.
        internal_batch_size: number of inputs that are computed at a time; None for all n.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n], of either sign; no completeness gap.
    Cost: n + 1 forward passes.
    Numerics: dtype of the score; padding has exactly 0.
    Reference: Li et al. 2016; the leave-one-out that Jain & Wallace 2019 and ferret's `taucorr_loo` compare with.

    >>> leave_one_out(lambda removed: 1.0 - removed[0] * 0.5, 2).attributions.tolist()
    [0.5, 0.0]
    """
    score = one_number("leave_one_out", scores)
    return Attribution("leave_one_out", _leave_one_out("leave_one_out", score, n, internal_batch_size, valid))


def _leave_one_out(
    method: str, score: ScoresWithout, n: int, batch_size: int | None, valid: Bool[Array, " n"] | None
) -> Float[Array, " n"]:
    check_valid(method, valid, n)
    check_positive(method, internal_batch_size=batch_size)
    whole = score(jnp.zeros(n, bool))
    if n == 0:
        return jnp.zeros(0, whole.dtype)
    drops = whole - map_over(score, jnp.eye(n, dtype=bool), batch_size)
    return drops if valid is None else jnp.where(valid, drops, 0)
