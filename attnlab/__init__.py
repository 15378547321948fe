"""attnlab: a library for attention research in JAX and Flax.

The public names are imported on first use, so that `import attnlab` and `attnlab --help` do not import jax.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_HOMES = {
    "load": "attnlab.lab",
    "attention": "attnlab.functional.attention",
    "attention_weights": "attnlab.functional.attention",
    "pool": "attnlab.functional.attention",
    "AttentionOutput": "attnlab.functional.attention",
    "plan": "attnlab.functional.attention",
    "merge": "attnlab.functional.merge",
    "linear_attention": "attnlab.functional.linear.attention",
    "linear": "attnlab.functional",
    "extras": "attnlab.functional",
    "parts": "attnlab.functional",
    "scores": "attnlab.functional",
    "masks": "attnlab.functional",
    "normalizers": "attnlab.functional",
    "mods": "attnlab.functional",
    "rotary": "attnlab.functional.rotary",
    "rotary_scaling": "attnlab.functional",
    "cache": "attnlab.functional",
    "linen_attention_fn": "attnlab.layers.adapters",
    "nnx_attention_fn": "attnlab.layers.adapters",
    "jax_nn_dot_product_attention": "attnlab.layers.jax_nn",
}
_MODULES = {"scores", "masks", "mods", "normalizers", "rotary_scaling", "cache", "extras", "parts", "linear"}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'attnlab' has no attribute {name!r}")
    home = _HOMES[name]
    return _import_module(f"{home}.{name}") if name in _MODULES else getattr(_import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
