"""The first Ctrl-C or SIGTERM requests a stop; the second quits at once, even during a compilation."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from attnlab.training.signals import SIGNALS, WARNINGS, Interrupted, graceful_shutdown

PROGRAM = """
import hashlib, sys, time
from attnlab.training.signals import graceful_shutdown
with graceful_shutdown() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**{power})  # one long call outside Python, as a compilation is
    while True:
        time.sleep(0.01)
        stop.poll()
"""


@pytest.fixture(autouse=True)
def default_handlers():
    """Restore the handlers that `nohup` and background jobs of a shell set to ignore."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_raised_at_the_next_poll(number, capfd):
    with graceful_shutdown() as stop:
        stop.poll()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            stop.poll()
        assert caught.value.signal_number == number
        error = []
        wait_until(lambda: error.append(capfd.readouterr().err) or "stopping after this step" in "".join(error))


def test_afterwards_all_is_as_before():
    before = [signal.getsignal(number) for number in SIGNALS]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with graceful_shutdown():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), graceful_shutdown():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(wakeup) == wakeup
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)


def test_another_signal_asks_nothing():
    heard = []
    before = signal.signal(signal.SIGWINCH, lambda *_: heard.append(1))
    try:
        with graceful_shutdown() as stop:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGWINCH)
            stop.poll()
    finally:
        signal.signal(signal.SIGWINCH, before)
    assert heard


@pytest.mark.parametrize(("first", "second"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGTERM", "SIGINT")])
@pytest.mark.quick("SIGTERM-SIGINT")
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


def test_a_signal_during_a_long_call_is_raised_after_it():
    program = [sys.executable, "-c", PROGRAM.format(power=6)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        error = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert "Interrupted: 15" in error


@pytest.mark.parametrize("number", WARNINGS)
@pytest.mark.quick("10", "24")
def test_a_warning_that_comes_again_and_a_kill_after_it_let_the_state_be_saved(number):
    """SLURM warns before it kills; after a limit of CPU time SIGXCPU repeats every second."""
    program = [sys.executable, "-c", SAVES]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        for sent in (number, number, number, signal.SIGTERM):
            process.send_signal(sent)
            time.sleep(0.05)
        out, err = process.communicate(b"\n", timeout=20)
    assert (process.returncode, out) == (0, f"saved {int(number)}\n".encode())
    assert err.count(b"stopping after this step") == 2
    assert f"stopping after this step ({number.name})".encode() in err


SAVES = """
import sys
from attnlab.training.signals import Interrupted, graceful_shutdown
with graceful_shutdown() as stop:
    print("ready", flush=True)
    sys.stdin.readline()  # a step
    try:
        stop.poll()
    except Interrupted as interrupted:
        print("saved", interrupted.signal_number)
"""


@pytest.mark.parametrize("number", WARNINGS)
def test_a_warning_that_is_ignored_stays_ignored(number):
    """SIGHUP is ignored under nohup."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with graceful_shutdown() as stop:
            os.kill(os.getpid(), number)
            stop.poll()
    finally:
        assert signal.signal(number, before) is signal.SIG_IGN


def test_saving_continues_after_the_terminal_is_closed():
    """After SIGHUP nothing can be written to stderr, and the message is not needed."""
    script = SAVES.replace("import sys", "import os, sys; os.close(2); os.open('/dev/full', os.O_WRONLY)")
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        out, _ = process.communicate(b"\n", timeout=20)
    assert out == b"saved 1\n"


STOPS = """
import hashlib
from attnlab.training.signals import exit_on_signal
with exit_on_signal("evaluate: stopped"):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.quick("15")
def test_work_without_cleanup_stops_at_once_with_one_line(number):
    with subprocess.Popen([sys.executable, "-c", STOPS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err.decode() == f"\nattnlab: {number.name}: evaluate: stopped\n"


SLOW_IMPORT = """
import time
print("ready", flush=True)
try:
    time.sleep(20)  # a module that swallows what it does not know
except BaseException:
    raise ImportError("this module is broken")
"""


@pytest.mark.parametrize("module", ["attnlab.cli", "pydantic", "jax"])
@pytest.mark.quick("attnlab.cli", "jax")
def test_ctrl_c_during_imports_gives_no_traceback(module, tmp_path):
    """One of the modules imports slowly, and would turn Ctrl-C into another exception."""
    hold = (
        "import sys, importlib.abc, importlib.util\n"
        "class Hold(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: exec({SLOW_IMPORT!r}, {{}})\n"
        "sys.meta_path.insert(0, Hold())\n"
        f"sys.argv = ['attnlab', 'results', {str(tmp_path)!r}]\n"
        "from attnlab.__main__ import main\nsys.exit(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (-signal.SIGINT, b"", b"")
