"""Settings of analyses, which are no part of a config."""

from attnlab.config.errors import UserError

FAITHFULNESS_EXAMPLES = 200
"""Number of examples that `attnlab faithfulness` measures by default."""


def check_seed(seed: int) -> None:
    """Raise `UserError` for a seed that is not in [0, 2³²): jax uses 32 bits, so that larger ones repeat."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed}: must be at least 0 and below 2**32 = {2**32}")
