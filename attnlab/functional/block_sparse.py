"""Attention that visits only the blocks of which the mask may let something through.

The mask tells which those are without being written out (`Mask.classify`); the rest is `streaming`.
"""

from typing import Any

from attnlab.functional import streaming
from attnlab.functional.dense import Options
from attnlab.functional.inputs import Inputs


def attend(given: Inputs, options: Options) -> dict[str, Any]:
    """Attend, skipping the blocks that the mask empties: "output" and what is to be returned, [b, k, g, …]."""
    return streaming.attend(given, options, skip=True)
