"""The battery: metrics of faithfulness and plausibility of all methods, and tests of attention, on many examples.

`measure(battery, examples)` returns a record for each example, `battery.summary(records)` the means with bootstrap
intervals. Nothing here knows of a run on disk.
"""

from attnlab.analysis.battery.battery import Battery
from attnlab.analysis.battery.measuring import measure
from attnlab.analysis.battery.report import FaithfulnessReport
from attnlab.analysis.battery.settings import BatterySettings, battery_settings
from attnlab.analysis.battery.summary import summarize

__all__ = ["Battery", "BatterySettings", "FaithfulnessReport", "battery_settings", "measure", "summarize"]
