"""Errors for wrong arguments, which suggest the right call, also for argument names of other libraries."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_BIAS = 'mods=(mods.bias(bias, "b h q k"),)'
_MASK = 'mask=masks.array(where, "b h q k") with True = may attend'
_LENGTHS = "mask=masks.lengths(keys, queries=queries)"
_KEEP = "dropout_rate=0.0 for no dropout"
_RNG = "rng=jax.random.key(0)"
_CAP = "mods=(mods.soft_cap(50.0),)"
_WINDOW = "mask=masks.sliding_window(left, right)"
_SCALE = "score=Partial(scores.scaled_dot, scale=scale)"
_SINK = 'normalizer=normalizers.softmax_with_sink(parts.map_over(sink, "h"))'
_WEIGHTS = 'returns=("weights",)'
_POSITIONS = "query_positions=n + jnp.arange(T)"
_HEADS = "query.reshape(*B, T, heads, features): the heads are an axis of query, key and value"

ELSEWHERE = {
    **dict.fromkeys(("scale", "sm_scale", "softmax_scale"), _SCALE),
    **dict.fromkeys(("bias", "attn_bias", "attention_bias"), _BIAS),
    **dict.fromkeys(("is_causal", "causal"), "mask=masks.causal()"),
    **dict.fromkeys(("attn_mask", "attention_mask", "block_mask"), f"{_MASK}, or {_BIAS} to add it to the logits"),
    **dict.fromkeys(("key_padding_mask", "padding_mask"), 'mask=masks.array(where, "b k") with True = may attend'),
    "mask_mod": "mask=masks.from_fn(lambda query, key, head: ...)",
    **dict.fromkeys(("score_mod", "mod"), "mods=(mod,), a function (logits, positions) -> logits"),
    **dict.fromkeys(("dropout_rng", "dropout_key", "prng_key", "rngs", "seed"), _RNG),
    **dict.fromkeys(("dropout_p", "dropout", "dropout_prob", "drop_rate"), "dropout_rate=0.1"),
    **dict.fromkeys(("deterministic", "training", "train", "inference"), _KEEP),
    **dict.fromkeys(("enable_gqa", "num_kv_heads"), "nothing: key and value may have fewer heads than the query"),
    **dict.fromkeys(("soft_cap", "softcap", "logits_soft_cap", "attn_logits_soft_cap"), _CAP),
    **dict.fromkeys(("window", "window_size", "local_window_size", "sliding_window"), _WINDOW),
    **dict.fromkeys(("lengths", "seq_lengths", "query_seq_lengths", "key_value_seq_lengths"), _LENGTHS),
    **dict.fromkeys(("segment_ids", "segments", "query_segment_ids"), "mask=masks.segments(query_ids, key_ids)"),
    **dict.fromkeys(("alibi", "alibi_slopes"), "mods=(mods.alibi(heads),)"),
    **dict.fromkeys(("need_weights", "return_weights", "output_attentions", "sow_weights"), _WEIGHTS),
    **dict.fromkeys(("return_residual", "return_lse"), 'returns=("lse",)'),
    "precision": 'with jax.default_matmul_precision("highest"): around the call',
    "dtype": "query.astype(dtype), and key and value likewise",
    **dict.fromkeys(("heads", "num_heads", "n_heads", "head_dim"), _HEADS),
    "temperature": "normalizer=normalizers.temperature(t)",
    **dict.fromkeys(("sink", "sinks", "s_aux"), _SINK),
    **dict.fromkeys(("activation", "softmax", "norm"), "normalizer=normalizers.softmax"),
    **dict.fromkeys(("positions", "position_ids", "input_positions"), _POSITIONS),
    **dict.fromkeys(("backend", "impl", "method"), 'implementation="dense"'),
    **dict.fromkeys(("q", "queries"), "query=..."),
    **dict.fromkeys(("k", "keys"), "key=..."),
    **dict.fromkeys(("v", "values"), "value=..."),
}
"""An argument name of another library -> what to write instead."""


def suggest_arguments(
    *, options_of: Callable[..., Any] | None = None, elsewhere: Mapping[str, str] = ELSEWHERE
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that unknown, missing and misplaced arguments raise an error that suggests the right call.

    Args:
        options_of: the function whose keyword arguments are the decorated function's `**options`; None if it has none.
        elsewhere: unknown argument name -> what to write instead.

    >>> @suggest_arguments()
    ... def score(query, *, mask=None): ...
    >>> score(1, causal=True)
    Traceback (most recent call last):
    TypeError: score: unexpected argument causal; write mask=masks.causal()
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plain = inspect.unwrap(function)
        signature = inspect.signature(plain)
        names = {name for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
        names |= keywords(options_of)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            check_names(plain.__name__, kwargs, names, elsewhere)
            try:
                signature.bind(*args, **kwargs)
            except TypeError:
                raise TypeError(_misplaced(plain.__name__, signature, names, args, kwargs)) from None
            return function(*args, **kwargs)

        call.__wrapped__ = plain  # pyright: ignore
        return call

    return decorate


def keywords(function: Callable[..., Any] | None) -> set[str]:
    """Return the names of a function's keyword-only arguments.

    >>> sorted(keywords(sorted))
    ['key', 'reverse']
    """
    parameters = inspect.signature(function).parameters.values() if function is not None else ()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_names(
    function: str, passed: Iterable[str], names: Collection[str], elsewhere: Mapping[str, str] = ELSEWHERE
) -> None:
    """Raise for an unknown argument name, and suggest the right one.

    >>> check_names("attention", ["mask"], ["mask", "score"])
    """
    for name in passed:
        if name not in names:
            near = get_close_matches(name, [known for known in names if known != "key"], n=1)
            instead = near[0] + "=..." if near else f"one of {', '.join(sorted(names))}"
            raise TypeError(f"{function}: unexpected argument {name}; write {elsewhere.get(name, instead)}")


def _misplaced(function: str, signature: inspect.Signature, names: set[str], args: Any, kwargs: Any) -> str:
    """Return an error message for a repeated, missing or superfluous argument."""
    parameters = signature.parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    by_name = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    hint = f"write {function}({', '.join(f'{name}=...' if name in by_name else name for name in required)})"
    if repeated := [name for name in positional[: len(args)] if name in kwargs]:
        random = f"; for a random key write {_RNG}" if repeated == ["key"] and "rng" in names else ""
        return f"{function}: {repeated[0]} is given twice, by position and by name{random or '; ' + hint}"
    if len(args) <= len(positional):
        missing = [name for name in required if name not in kwargs and name not in positional[: len(args)]]
        return f"{function}: missing argument {', '.join(missing)}; {hint}"
    if not positional:
        return f"{function}: it takes no arrays, but returns the function that does; write {function}()"
    module = type(args[len(positional)]).__module__.rpartition("functional.")[2].split(".")[0]
    name = {"mods": "mods", "normalizers": "normalizer"}.get(module, "mask" if "mask" in by_name else "")
    example = f"{function}({', '.join([*positional, *([f'{name}=...'] if name else [])])})"
    count = f"{len(args)} arguments by position, but only {', '.join(positional)} are positional"
    return f"{function}: {count}; write {example}"


def check_callable(label: str, function: Any, names: tuple[str, ...]) -> None:
    """Raise unless a function can be called with these positional arguments.

    >>> check_callable("mod", lambda logits, positions: logits, ("logits", "positions"))
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function not written in Python
        return
    try:
        signature.bind(*names)
    except TypeError:
        name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)
        expected = ", ".join(names)
        write = f"lambda {expected}: ..." if not name.isidentifier() else f"def {name}({expected})"
        raise ValueError(f"{label} is called with ({expected}), but {name} takes {signature}; write {write}") from None
