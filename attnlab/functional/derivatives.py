"""A function with a hand-written reverse rule that still differentiates forward, and again.

`jax.custom_vjp` ends forward mode and second derivatives. Here the derivative is a linear map that JAX knows in
two ways: by a fast transpose, written by hand, and by a plain function, of which JAX takes every other derivative.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from attnlab.functional.varying import vary_like

Function = Callable[[Any, Any], Any]
_PLAINLY: ContextVar[bool] = ContextVar("plainly", default=False)


def with_reverse(fast: Function, reverse: Callable[[Any, Any, Any, Any], Any], plain: Function) -> Function:
    """Return `fast` with `reverse` as its reverse rule; its other derivatives are those of `plain`.

    The tangent J t of y = fast(fixed, x) is posed as the second half of the solution of the triangular system
    [[1, 0], [−J, 1]] (a, b) = (t, 0), whose solution JAX lets one write (`jax.lax.custom_linear_solve`), forward
    with (a, b) = (t, J t) and transposed with (t + Jᵀ u, u). A derivative of J itself is found from the system's
    matrix, that is from `plain`, so reverse over reverse and forward over reverse hold.

    Args:
        fast: (fixed, x) -> y. `fixed` and `x` are pytrees; all leaves of x and y are floating-point arrays.
            It may hold loops of traced length: it is never differentiated.
        reverse: (fixed, x, y, ct) -> Jᵀ ct, of the structure and dtypes of x.
        plain: (fixed, x) -> y, the same function by operations that JAX can differentiate; it costs nothing
            but tracing until a forward or a second derivative is asked for.
    Returns: (fixed, x) -> y; `fixed` gets no gradient.
    Reference: Blondel et al. 2022, "Efficient and Modular Implicit Differentiation", section 2.

    >>> cube = with_reverse(lambda _, x: x * x * x, lambda _, x, y, ct: 3 * x * x * ct, lambda _, x: x**3)
    >>> float(jax.grad(jax.grad(lambda x: cube((), x)))(2.0))
    12.0
    """

    fast, reverse, plain = (_with_the_precision_of_now(part) for part in (fast, reverse, plain))

    @jax.custom_jvp
    def function(fixed: Any, x: Any) -> Any:
        return fast(fixed, x)

    @function.defjvp
    def tangent(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
        fixed, x = primals
        y = function(fixed, x)

        def push(change: Any) -> Any:
            return jax.jvp(lambda x: plain(fixed, x), (x,), (change,))[1]

        def matrix(vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            answer = change, jax.tree.map(lambda a, b: a - b, result, push(change))
            return _tied(answer, _total(x) * _total(vector))

        def solve(_: Any, vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            return change, jax.tree.map(lambda a, b: a + b, result, push(change))

        def transposed(_: Any, vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            return jax.tree.map(lambda a, b: a + b, change, reverse(fixed, x, y, result)), result

        start = _tied((tangents[1], jax.tree.map(jnp.zeros_like, y)), _total(tangents[1]))
        return y, lax.custom_linear_solve(matrix, start, solve, transposed)[1]

    def chosen(fixed: Any, x: Any) -> Any:
        x = jax.tree.map(jnp.asarray, x)
        return (plain if _PLAINLY.get() else function)(fixed, vary_like(x, (fixed, x)))

    return chosen


@contextmanager
def plainly() -> Iterator[None]:
    """Within this context, functions made by `with_reverse` are their plain ones.

    For the plain function of another: JAX forgets rules inside a loop that it differentiates twice.

    >>> square = with_reverse(lambda _, x: x * x, lambda _, x, y, ct: 0 * ct, lambda _, x: x * x)
    >>> with plainly():
    ...     print(jax.grad(lambda x: square((), x))(3.0))
    6.0
    """
    token = _PLAINLY.set(True)
    try:
        yield
    finally:
        _PLAINLY.reset(token)


def _with_the_precision_of_now(function: Callable[..., Any]) -> Callable[..., Any]:
    """Trace the function, whenever that may be, under the `jax.default_matmul_precision` of its definition."""
    precision: str | None = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009, jax declares it not

    def under(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return under


def _total(arrays: Any) -> jax.Array:
    return sum((jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(arrays)), jnp.float32(0.0))


def _tied(arrays: Any, number: jax.Array) -> Any:
    """Return the arrays as they are, but depending on `number`: the solve's rules know no leaf that is constant.

    A select that never selects: unlike a product with zero, it lets no NaN through in either direction, and the
    compiler removes it with all that it depends on.
    """
    return jax.tree.map(lambda a: jnp.where(False, number.astype(a.dtype), a), arrays)
