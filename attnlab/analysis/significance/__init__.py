"""Statistics of comparisons: intervals over seeds and test items, tests, effect sizes, and what a design can detect."""

from attnlab.analysis.significance.corpus import pseudo_values as pseudo_values
from attnlab.analysis.significance.crossed import crossed_contrast as crossed_contrast
from attnlab.analysis.significance.crossed import crossed_difference as crossed_difference
from attnlab.analysis.significance.crossed import crossed_mean as crossed_mean
from attnlab.analysis.significance.effect import detectable_difference as detectable_difference
from attnlab.analysis.significance.effect import hedges_g as hedges_g
from attnlab.analysis.significance.estimate import Estimate as Estimate
from attnlab.analysis.significance.holm import holm as holm
from attnlab.analysis.significance.seeds import independent_sum as independent_sum
from attnlab.analysis.significance.seeds import seeds_difference as seeds_difference
from attnlab.analysis.significance.seeds import seeds_mean as seeds_mean
