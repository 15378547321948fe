"""The battery: metrics of faithfulness and plausibility of all methods, and tests of attention, on many examples.

`run_battery(battery, examples)` returns a record for each example, `battery.summary(records)` the means with bootstrap
intervals. Nothing here knows of a run on disk.
"""

from attnlab.analysis.battery.battery import Battery
from attnlab.analysis.battery.report import FaithfulnessReport
from attnlab.analysis.battery.running import run_battery
from attnlab.analysis.battery.settings import BatterySettings, battery_settings
from attnlab.analysis.battery.summary import summarize

__all__ = ["Battery", "BatterySettings", "FaithfulnessReport", "battery_settings", "run_battery", "summarize"]
