"""Pictures: where a model attended, and how a training went. Written as PNG, without a screen."""

from attnlab.plots.curves import training_curve as training_curve
from attnlab.plots.images import regarded as regarded
from attnlab.plots.maps import alignment as alignment
