"""A function split into what does not depend on its argument, computed once, and the rest."""

from collections.abc import Callable

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun


def hoisted(function: Callable[[Array], Array], example: Array) -> Callable[[Array], Array]:
    """Return the same function of an array, without what it computes of other arrays alone.

    A search calls a model thousands of times with other attention weights; its encoder need run only once. jax's loops
    compute in every step all that stands in their body.

    Args:
        function: of one array; it may use arrays of an outer function that is being compiled.
        example: an array of the shape and dtype of its argument.

    >>> import jax.numpy as jnp
    >>> big = jnp.arange(4.0)
    >>> float(hoisted(lambda x: x + jnp.sum(big**2), jnp.zeros(()))(jnp.ones(())))
    15.0
    """
    closed = jax.make_jaxpr(function)(example)
    jaxpr = closed.jaxpr
    dependent, before, after = set(jaxpr.invars), [], []
    for equation in jaxpr.eqns:
        uses = any(not isinstance(var, Literal) and var in dependent for var in equation.invars)
        (after if uses or equation.effects else before).append(equation)
        if uses or equation.effects:
            dependent.update(equation.outvars)
    needed = [var for equation in after for var in equation.invars] + list(jaxpr.outvars)
    kept = list(dict.fromkeys(var for var in needed if not isinstance(var, Literal) and var not in dependent))
    info = jaxpr.debug_info.with_unknown_names()
    first = jaxpr.replace(constvars=[], invars=list(jaxpr.constvars), outvars=kept, eqns=before, debug_info=info)
    second = jaxpr.replace(constvars=[], invars=[*kept, *jaxpr.invars], eqns=after, debug_info=info)
    values = jaxpr_as_fun(ClosedJaxpr(first, []))(*closed.consts)
    rest = jaxpr_as_fun(ClosedJaxpr(second, []))
    return lambda argument: rest(*values, argument)[0]
