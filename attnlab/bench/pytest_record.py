"""A pytest plugin that writes a line of JSON for every test outcome to the file in `ATTNLAB_TEST_RECORD`."""

import json
import os
from pathlib import Path

import pytest

FILE = "ATTNLAB_TEST_RECORD"
LONGEST_REASON = 300


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a test; with xdist only the controller writes."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.outcome == "passed"):
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    reason = str(crash.message if crash else report.longrepr or "").strip()[:LONGEST_REASON]
    line = {"test": report.nodeid, "outcome": report.outcome, "reason": reason}
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)
