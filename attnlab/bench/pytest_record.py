"""A plugin of pytest that writes a line of JSON for every test as it ends, into the file that the environment names."""

import json
import os
from pathlib import Path

import pytest

FILE = "ATTNLAB_TEST_RECORD"
LONGEST_REASON = 300


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write what became of a test; workers of xdist leave it to their controller."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.outcome == "passed"):
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    why = str(crash.message if crash else report.longrepr or "").strip()[:LONGEST_REASON]
    line = {"test": report.nodeid, "outcome": report.outcome, "why": why}
    with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
        print(json.dumps(line), file=file)
