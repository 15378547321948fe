"""The first Ctrl-C or SIGTERM only asks; the second quits at once, even in the middle of a compilation."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from attnlab.training.loop import Interrupted
from attnlab.training.signals import SIGNALS, graceful

PROGRAM = """
import hashlib, sys, time
from attnlab.training.signals import graceful
with graceful() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**{power})  # one long call outside Python, as a compilation is
    while True:
        time.sleep(0.01)
        stop.poll()
"""


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_told_at_the_next_poll(number, capfd):
    with graceful() as stop:
        stop.poll()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            stop.poll()
        assert caught.value.signal_number == number
        told = []
        wait_until(lambda: told.append(capfd.readouterr().err) or "stopping after this step" in "".join(told))


def test_afterwards_all_is_as_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with graceful():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), graceful():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(wakeup) == wakeup
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)


def test_another_signal_asks_nothing():
    heard = []
    before = signal.signal(signal.SIGWINCH, lambda *_: heard.append(1))
    try:
        with graceful() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGWINCH)
            stop.poll()
    finally:
        signal.signal(signal.SIGWINCH, before)
    assert heard


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT")])
def test_the_second_signal_quits_at_once_inside_a_long_call(first, second):
    program = [sys.executable, "-c", PROGRAM.format(power=9)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.Signals[first])
        assert process.stderr.readline() == "\n"
        assert process.stderr.readline().startswith("attnlab: stopping after this step")
        start = time.monotonic()
        process.send_signal(signal.Signals[second])
        assert process.wait(timeout=20) == 128 + signal.Signals[second]
        assert time.monotonic() - start < 5


def test_one_signal_inside_a_long_call_is_told_after_it():
    program = [sys.executable, "-c", PROGRAM.format(power=6)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert "Interrupted: 15" in error
