"""The heap setting that keeps freed memory."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = """
import mmap, resource, sys
from attnlab.system.heap import keep_freed_memory

print(keep_freed_memory())
SIZE = 64 << 20

def touched() -> None:
    block = bytearray(SIZE)  # of malloc, and every page is written

touched()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touched()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * mmap.PAGESIZE / SIZE)
"""


def clean_faults(**environment: str) -> tuple[bool, float]:
    """Return whether the setting took effect, and how many of 8 blocks the kernel had to clear."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS]
    message = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return message[0] == "True", float(message[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_pages_of_a_freed_block_are_used_again():
    kept, cleared = clean_faults()
    assert kept
    assert cleared < 0.5


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_settings_of_the_environment_are_kept(name: str):
    assert clean_faults(**{name: "" if name == "GLIBC_TUNABLES" else "8"})[0] is False


TRAINING = """
import ctypes, sys
from attnlab.cli import main

main(sys.argv[1:])
libc = ctypes.CDLL(None)
libc.fdopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
libc.fflush.argtypes = (ctypes.c_void_p,)
stdout = libc.fdopen(1, b"w")
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_a_training_has_a_single_heap(tmp_path: Path):
    """The working memory of a step is mapped anew every time in the heap of a thread that began before the setting."""
    config = ROOT / "experiments/classification/synthetic_sentiment_additive.yaml"
    arguments = ["train", config, "--tiny", "training.steps=1", "--out", tmp_path / "run"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", TRAINING, *map(str, arguments)]
    ended = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert ended.stdout.count("<heap nr=") == 1
