"""Usual mistakes end in one line that names the argument and writes the call that was meant."""

import json
import subprocess
import sys

import pytest
from mistakes import ARGUMENTS, MISTAKES, ORDER, TYPES


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """The errors by the calls that raise them, of a process whose annotations are not checked."""
    here = __file__.replace("test_mistakes", "mistakes")
    found = subprocess.run([sys.executable, here], capture_output=True, text=True, check=False)
    assert not found.returncode, found.stderr
    return json.loads(found.stdout)


def test_there_are_eighty():
    assert len({call for call, _, _ in (*ARGUMENTS, *ORDER, *TYPES)}) >= 80


@pytest.mark.parametrize(("call", "named", "written"), MISTAKES, ids=[call for call, _, _ in MISTAKES])
def test_a_mistake_names_the_argument_and_writes_the_call(errors, call, named, written):
    kind, _, message = errors[call].partition(": ")
    assert kind in ("TypeError", "ValueError"), errors[call]
    assert "\n" not in message
    assert named in message
    assert written in message
