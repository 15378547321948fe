"""The model-parameter randomization test (MPRT): do attributions depend on what the model has learned?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.faithfulness.correlation import spearman_rho

Path = tuple[str, ...]
"""Names of the modules that lead to a parameter, as ("params", "encoder", "layer_0"); a prefix stands for all below."""
Order = Literal["cascading", "independent"]
Similarity = Callable[[Float[Array, " n"], Float[Array, " n"], Bool[Array, " n"]], Float[Array, ""]]


def mprt(
    attribute: Callable[[Any], Float[Array, "b n"]],
    params: Any,
    random_params: Any,
    groups: Mapping[str, Sequence[Path]],
    valid: Bool[Array, "b n"] | None = None,
    *,
    order: Order = "cascading",
    similarity: Similarity = spearman_rho,
) -> dict[str, Float[Array, " b"]]:
    """Randomize a model layer by layer and compare its attributions with those of the trained model.

    result[g] = ρ(a(θ), a(θ with the layers up to g, or g alone, replaced by random parameters))

    A method whose attributions stay the same explains the text, or the architecture, but not the model. The lower the
    better, for layers that the prediction depends on.

    Args:
        attribute: (params) -> attributions of a batch of texts [b n]. Let it return absolute values to compare sizes
            only, as Quantus does by default. jit it, if it can be.
        params: the parameters of the trained model, a pytree of dictionaries.
        random_params: parameters of another initialization (`model.init` with another key), or those of
            `permute_parameters`.
        groups: the layers, each a name and the paths of its parameters, from the output to the input.
        valid: True for tokens that count; None if all do.
        order: "cascading" randomizes one layer after another, starting at the output, and keeps what is randomized
            (Quantus: `top_down`); "independent" randomizes each layer alone.
        similarity: (original, randomized, valid) -> number, for one text.
    Returns: for each group, in the order given, the similarity of each text; NaN where an attribution is.
    Reference: Adebayo et al. 2018 ("Sanity Checks for Saliency Maps"); Hedström et al. 2023 (Quantus, `MPRT`).

    >>> attribute = lambda params: params["top"] * params["bottom"] * jnp.array([[1.0, 2.0, 3.0]])
    >>> params, other = {"top": jnp.ones(1), "bottom": jnp.ones(1)}, {"top": -jnp.ones(1), "bottom": 2 * jnp.ones(1)}
    >>> results = mprt(attribute, params, other, {"top": [("top",)], "bottom": [("bottom",)]}, order="independent")
    >>> {name: float(values[0]) for name, values in results.items()}
    {'top': -1.0, 'bottom': 1.0}
    """
    if order not in get_args(Order):
        raise ValueError(f'mprt: order must be "cascading" or "independent", not {order!r}')
    original = attribute(params)
    if valid is not None and valid.shape != original.shape:
        raise ValueError(
            f"mprt: valid must be booleans {list(original.shape)}, as attribute returns, not {valid.shape}"
        )
    counted = jnp.ones(original.shape, bool) if valid is None else valid
    results, current = {}, params
    for name, paths in groups.items():
        current = replace_parameters(current if order == "cascading" else params, random_params, paths)
        results[name] = jax.vmap(similarity)(original, attribute(current), counted)
    return results


def replace_parameters(params: Any, others: Any, paths: Sequence[Path]) -> Any:
    """Replace the parameters whose path begins with one of the given paths by those of another pytree.

    Args:
        params: a pytree of dictionaries.
        others: a pytree of the same structure and shapes.
        paths: prefixes; each must match at least one parameter.
    Returns: a pytree of the same structure.

    >>> replace_parameters({"a": {"w": 1, "b": 2}, "c": 3}, {"a": {"w": 10, "b": 20}, "c": 30}, [("a", "w"), ("c",)])
    {'a': {'b': 2, 'w': 10}, 'c': 30}
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    if jax.tree.structure(others) != structure:
        raise ValueError("replace_parameters: the two pytrees of parameters must have the same structure")
    names = [_names(path) for path, _ in leaves]
    for prefix in paths:
        if not any(name[: len(prefix)] == tuple(prefix) for name in names):
            known = ", ".join(sorted({"/".join(name[: len(prefix)]) for name in names}))
            raise ValueError(f"replace_parameters: no parameter is below {'/'.join(prefix)}; there are {known}")
    chosen = [any(name[: len(prefix)] == tuple(prefix) for prefix in paths) for name in names]
    pairs = zip(chosen, leaves, jax.tree.leaves(others), strict=True)
    return jax.tree.unflatten(structure, [other if replaced else leaf for replaced, (_, leaf), other in pairs])


def permute_parameters(rng: Array, params: Any) -> Any:
    """Shuffle the entries of each parameter: random parameters with the distribution of the trained ones.

    For models whose initialization is not at hand. It keeps the scale of every layer, which a new initialization does
    not. Constant arrays, such as biases of zeros, stay as they are.

    Args:
        rng: a key of `jax.random`.
        params: a pytree of arrays.
    Returns: a pytree of the same structure, shapes and dtypes.
    Reference: Hedström et al. 2023 (Quantus permutes the weights of Keras models along their first axis; here all
        entries are permuted).

    >>> sorted(permute_parameters(jax.random.key(0), {"w": jnp.array([1.0, 2.0, 3.0])})["w"].tolist())
    [1.0, 2.0, 3.0]
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(rng, max(len(leaves), 1))
    flat = [jax.random.permutation(keys[number], leaf.ravel()) for number, leaf in enumerate(leaves)]
    shuffled = [entries.reshape(leaf.shape) for entries, leaf in zip(flat, leaves, strict=True)]
    return jax.tree.unflatten(structure, shuffled)


def _names(path: tuple) -> Path:
    """Return the keys of a path of jax as words: of a dictionary its keys, of a list its indices, else attributes."""
    parts = []
    for key in path:
        for attribute in ("key", "idx", "name"):
            if hasattr(key, attribute):
                parts.append(str(getattr(key, attribute)))
                break
    return tuple(parts)
