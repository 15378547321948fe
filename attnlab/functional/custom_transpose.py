"""Custom reverse-mode derivatives that keep forward mode and higher derivatives.

`jax.custom_vjp` forbids forward mode and second derivatives. Here the derivative is a linear map with a fast,
hand-written transpose; JAX derives every other derivative from a reference implementation of the same function.
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from attnlab.functional.varying import vary_like

Function = Callable[[Any, Any], Any]
_USE_REFERENCE: ContextVar[bool] = ContextVar("reference_derivatives", default=False)


def custom_transpose(
    function: Function, transpose: Callable[[Any, Any, Any, Any], Any], reference: Function
) -> Function:
    """Return `function` with a custom reverse rule; its other derivatives are those of `reference`.

    The tangent J t of y = function(fixed, x) is the second half of the solution of the triangular system
    [[1, 0], [−J, 1]] (a, b) = (t, 0), for which `jax.lax.custom_linear_solve` takes a custom solution: (a, b) =
    (t, J t), and transposed (t + Jᵀ u, u). Derivatives of J itself come from the matrix of the system, that is from
    `reference`, so reverse over reverse and forward over reverse are correct.

    Args:
        function: (fixed, x) -> y. `fixed` and `x` are pytrees; all leaves of x and y are floating-point arrays. It is
            never differentiated, so its loops may have traced lengths.
        transpose: (fixed, x, y, cotangent) -> Jᵀ cotangent, with the structure and dtypes of x.
        reference: (fixed, x) -> y, the same function in operations that JAX differentiates. It is traced, but
            computed only for forward and second derivatives.
    Returns: (fixed, x) -> y; `fixed` gets no gradient.
    Reference: Blondel et al. 2022, "Efficient and Modular Implicit Differentiation", section 2.

    >>> cube = custom_transpose(lambda _, x: x * x * x, lambda _, x, y, ct: 3 * x * x * ct, lambda _, x: x**3)
    >>> float(jax.grad(jax.grad(lambda x: cube((), x)))(2.0))
    12.0
    """

    function, transpose, reference = map(_with_current_precision, (function, transpose, reference))

    @jax.custom_jvp
    def with_tangent(fixed: Any, x: Any) -> Any:
        return function(fixed, x)

    @with_tangent.defjvp
    def tangent(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
        fixed, x = primals
        y = with_tangent(fixed, x)

        def push(change: Any) -> Any:
            return jax.jvp(lambda x: reference(fixed, x), (x,), (change,))[1]

        def matrix(vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            product = change, jax.tree.map(lambda a, b: a - b, result, push(change))
            return _depend_on(product, _total(x) * _total(vector))

        def solve(_: Any, vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            return change, _add(result, push(change))

        def transposed(_: Any, vector: tuple[Any, Any]) -> tuple[Any, Any]:
            change, result = vector
            return _add(change, transpose(fixed, x, y, result)), result

        start = _depend_on((tangents[1], jax.tree.map(jnp.zeros_like, y)), _total(tangents[1]))
        return y, lax.custom_linear_solve(matrix, start, solve, transposed)[1]

    def differentiable(fixed: Any, x: Any) -> Any:
        x = jax.tree.map(jnp.asarray, x)
        return (reference if _USE_REFERENCE.get() else with_tangent)(fixed, vary_like(x, (fixed, x)))

    return differentiable


@contextmanager
def reference_derivatives() -> Iterator[None]:
    """Replace functions made by `custom_transpose` by their references, within this context.

    Used inside the reference of another such function, since JAX drops custom rules inside a loop that it
    differentiates twice.

    >>> square = custom_transpose(lambda _, x: x * x, lambda _, x, y, ct: 0 * ct, lambda _, x: x * x)
    >>> with reference_derivatives():
    ...     print(jax.grad(lambda x: square((), x))(3.0))
    6.0
    """
    token = _USE_REFERENCE.set(True)
    try:
        yield
    finally:
        _USE_REFERENCE.reset(token)


def _with_current_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function traced with the current `jax.default_matmul_precision`, whenever it is traced."""
    precision: str | None = getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009, which jax does not declare

    def with_precision(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return with_precision


def _add(trees: Any, others: Any) -> Any:
    return jax.tree.map(operator.add, trees, others)


def _total(arrays: Any) -> jax.Array:
    return sum((jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(arrays)), jnp.float32(0.0))


def _depend_on(arrays: Any, number: jax.Array) -> Any:
    """Return the same arrays, made to depend on `number`: the rules of the solve do not support constant leaves.

    The select never selects `number`: unlike a product with zero, it passes on no NaN in either direction, and the
    compiler removes it.
    """
    return jax.tree.map(lambda a: jnp.where(False, number.astype(a.dtype), a), arrays)
