"""The base of feature maps that depend on positions."""

from typing import Any

from jaxtyping import Array, Float, Int


class Positional:
    """The base of every feature map that is called as `feature_map(features, positions)`."""

    def __call__(self, features: Float[Array, "t d"], positions: Int[Array, " t"]) -> Float[Array, "t m"]:
        """Return the features of queries or keys at these positions."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    def check_positions(self, count: Any) -> None:
        """Raise if the map is not defined at positions 0 … count − 1."""
