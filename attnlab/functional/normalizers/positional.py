"""The mark of a normalizer that depends on where its logits lie."""

from jaxtyping import Array, Bool, Float

from attnlab.functional.types import Positions


class Positional:
    """The base of every normalizer that is called `(logits, where, positions)`."""

    def __call__(
        self, logits: Float[Array, "q k"], where: Bool[Array, "q k"] | None, positions: Positions
    ) -> Float[Array, "q k"]:
        """Weigh the keys of these positions for the queries of these positions."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it normalizes")
