"""Floating-point operations of a function, counted from its jaxpr.

XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, however often it runs, which makes a
recurrent network look as cheap as one of its steps. Here the body of a loop counts as often as it runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

ARITHMETIC = frozenset({
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "clamp", "cos",
    "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "integer_pow", "lgamma", "log",
    "log1p", "logistic", "max", "min", "mul", "neg", "nextafter", "pow", "rem", "round", "rsqrt", "select_n", "sign",
    "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh",
})  # fmt: skip
"""Primitives that take one operation for each element of their result."""
REDUCTIONS = frozenset({
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "psum", "reduce_max", "reduce_min",
    "reduce_prod", "reduce_sum",
})  # fmt: skip
"""Primitives that take one operation for each element of their operands."""
INLINE = ("reduce", "scatter", "reduce_window", "select_and_scatter", "sort", "linear_call")
"""Beginnings of the names of primitives whose jaxprs are no calls."""


@dataclass(frozen=True)
class Flops:
    """Floating-point operations.

    Attributes:
        matmul: of matrix products and convolutions, 2 for each multiplication with its addition.
        other: of elementwise functions and reductions, 1 for each element, also of exp and tanh.
        unbounded_loops: loops whose number of iterations depends on the data; their bodies are counted once.
    """

    matmul: int = 0
    other: int = 0
    unbounded_loops: int = 0

    @property
    def total(self) -> int:
        """All operations."""
        return self.matmul + self.other

    def __add__(self, more: "Flops") -> "Flops":
        return Flops(self.matmul + more.matmul, self.other + more.other, self.unbounded_loops + more.unbounded_loops)

    def __mul__(self, times: int) -> "Flops":
        return Flops(self.matmul * times, self.other * times, self.unbounded_loops)


def flops(jaxpr: Any) -> Flops:
    """Count the operations of a closed jaxpr, on all devices together.

    A matrix product [m k] [k n] takes 2 m k n operations. A convolution counts the products with elements of its
    input, not those with padding or with the zeros between the elements of a dilated input. `scan` counts its body
    `length` times, `while` as often as a counter with constant bounds says, `cond` its most expensive branch,
    `shard_map` its body on every device. Equations without an effect on the outputs do not count, as the compiler
    removes them. Moving, comparing and converting numbers, and integer arithmetic, count 0. What the compiler
    recomputes or simplifies is unknown here.

    Args:
        jaxpr: such as `jax.jit(function).trace(*arguments).jaxpr`.
    Reference: the convention of 2 operations for a multiplication and an addition: Kaplan et al. 2020, section 2.1.

    >>> import jax.numpy as jnp
    >>> product = jax.jit(lambda a, b: a @ b).trace(jnp.ones((2, 3)), jnp.ones((3, 5)))
    >>> flops(product.jaxpr)
    Flops(matmul=60, other=0, unbounded_loops=0)
    """
    used, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))
    return _of_equations(used)


def _of_equations(jaxpr: Any) -> Flops:
    return sum((_of_equation(equation) for equation in jaxpr.eqns), Flops())


def _of_equation(equation: Any) -> Flops:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        return Flops(matmul=_matrix_product(equation))
    if name == "conv_general_dilated":
        return Flops(matmul=_convolution(equation))
    if name == "scan":
        return _of_equations(parameters["jaxpr"].jaxpr) * parameters["length"]
    if name == "while":
        return _loop(equation)
    if name == "cond":
        return max((_of_equations(branch.jaxpr) for branch in parameters["branches"]), key=lambda flops: flops.total)
    if name == "shard_map":
        sizes = dict(parameters["mesh"].shape)
        devices = prod(sizes[axis] for axis in parameters.get("manual_axes", sizes))
        return _of_equations(parameters["jaxpr"]) * devices
    if name == "linear_call":
        return _of_equations(parameters["callee"].jaxpr)
    if not name.startswith(INLINE) and (bodies := list(_bodies(parameters))):
        return sum(map(_of_equations, bodies), Flops())
    return Flops(other=_elementwise(equation))


def _bodies(parameters: dict[str, Any]) -> Iterator[Any]:
    """Yield the jaxprs that a call runs."""
    for value in parameters.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _matrix_product(equation: Any) -> int:
    ((contracted, _), _) = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * equation.outvars[0].aval.size * prod(shape[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    image, kernel = (variable.aval.shape for variable in equation.invars)
    result, parameters = equation.outvars[0].aval.shape, equation.params
    numbers = parameters["dimension_numbers"]
    products = result[numbers.out_spec[0]] * result[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for axis in range(len(numbers.out_spec) - 2):
        products *= _products_along_axis(
            image[numbers.lhs_spec[2 + axis]],
            kernel[numbers.rhs_spec[2 + axis]],
            result[numbers.out_spec[2 + axis]],
            stride=parameters["window_strides"][axis],
            low=parameters["padding"][axis][0],
            dilation=(parameters["lhs_dilation"][axis], parameters["rhs_dilation"][axis]),
        )
    return 2 * products


def _products_along_axis(
    image: int, kernel: int, result: int, *, stride: int, low: int, dilation: tuple[int, int]
) -> int:
    """Count the pairs of a place of the result and one of the kernel that meet an element of the image."""
    places = np.arange(result)[:, None] * stride + np.arange(kernel) * dilation[1] - low
    inside = (places >= 0) & (places <= (image - 1) * dilation[0]) & (places % dilation[0] == 0)
    return int(inside.sum())


def _loop(equation: Any) -> Flops:
    parameters = equation.params
    once = _of_equations(parameters["body_jaxpr"].jaxpr) + _of_equations(parameters["cond_jaxpr"].jaxpr)
    trips = _iterations(equation)
    return once + Flops(unbounded_loops=1) if trips is None else once * trips


def _iterations(equation: Any) -> int | None:
    """Return how often a loop runs whose condition is counter < bound, with constants; None for any other."""
    parameters = equation.params
    condition, body = parameters["cond_jaxpr"].jaxpr, parameters["body_jaxpr"].jaxpr
    before = parameters["cond_nconsts"]
    init = equation.invars[before + parameters["body_nconsts"] :]
    (test,) = condition.eqns if len(condition.eqns) == 1 else (None,)
    if test is None or test.primitive.name != "lt":
        return None
    counter, bound = test.invars
    carried = condition.invars[before:]
    if counter not in carried:
        return None
    index = carried.index(counter)
    if not isinstance(bound, core.Literal) and bound in condition.invars[:before]:
        bound = equation.invars[condition.invars.index(bound)]
    step = _added(body, body.invars[parameters["body_nconsts"] + index], body.outvars[index])
    if step is None or not all(isinstance(value, core.Literal) for value in (init[index], bound)):
        return None
    return max(ceil((bound.val - init[index].val) / step), 0)


def _added(body: Any, before: Any, after: Any) -> int | None:
    """Return the positive constant that the body of a loop adds to a variable; None if it does anything else."""
    for equation in body.eqns:
        if after in equation.outvars and equation.primitive.name == "add" and before in equation.invars:
            steps = [value.val for value in equation.invars if isinstance(value, core.Literal)]
            return int(steps[0]) if steps and steps[0] > 0 else None
    return None


def _elementwise(equation: Any) -> int:
    name = equation.primitive.name
    result = equation.outvars[0].aval
    if not hasattr(result, "dtype") or not np.issubdtype(getattr(result.dtype, "type", object), np.inexact):
        if name not in ("argmax", "argmin"):
            return 0
    if name in ARITHMETIC:
        return result.size
    if name in REDUCTIONS:
        return sum(variable.aval.size for variable in equation.invars)
    return equation.invars[-1].aval.size if name in ("scatter-add", "scatter-mul", "scatter_add") else 0


def count(function: Callable[..., Any], *arguments: Any) -> Flops:
    """Count the operations of a call without running it."""
    return flops(jax.jit(function).trace(*arguments).jaxpr)
