"""Pictures: where a model attended, and how a training went. Written as PNG, without a screen."""

from attnlab.viz.curves import training_curve as training_curve
from attnlab.viz.images import regarded as regarded
from attnlab.viz.maps import alignment as alignment
