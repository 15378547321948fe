"""A match: settings of a sweep that are given equal parameters or equal operations by one width of each."""

from typing import Literal

from pydantic import PositiveFloat

from attnlab.config.base import Config


class Match(Config):
    """Equal parameters or floating-point operations for all settings, by a width of the model that is adjusted."""

    by: Literal["parameters", "flops"] = "parameters"
    """What is made equal. parameters: the number of parameters, unused ones included; flops: the floating-point
    operations of a training step, the mean over an epoch."""
    field: str
    """Path of the width that is adjusted, such as `model.decoder.hidden`. Its values are integers; those with which a
    config is invalid are left out."""
    to: str | None = None
    """The setting that keeps its width, by its name or, with a single axis, by its label; null: the first one."""
    tolerance: PositiveFloat = 0.02
    """Largest accepted deviation from the count of that setting, as a share of it."""
