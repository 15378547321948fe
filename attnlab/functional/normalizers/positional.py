"""The base of normalizers that depend on positions."""

from jaxtyping import Array, Bool, Float

from attnlab.functional.types import Positions


class Positional:
    """The base of every normalizer that is called as `normalizer(logits, where, positions)`."""

    def __call__(
        self, logits: Float[Array, "q k"], where: Bool[Array, "q k"] | None, positions: Positions
    ) -> Float[Array, "q k"]:
        """Return the weights of these queries and keys, [q k]."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")
