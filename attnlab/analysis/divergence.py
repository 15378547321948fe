"""Differences between two distributions, as the analyses name them; `functional/divergence.py` computes them.

They stand on the ground floor because a training objective uses them too.
"""

from attnlab.functional.divergence import jsd as jsd
from attnlab.functional.divergence import kl as kl
from attnlab.functional.divergence import tvd as tvd
