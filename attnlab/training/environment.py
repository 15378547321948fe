"""The software and hardware environment of a run."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

import attnlab
from attnlab.system.cores import cores, threads

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "sacrebleu",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Return attnlab's version and commit, the command, Python, packages, devices, cores and threads, as plain data."""
    return {
        "attnlab": attnlab.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if (changes := _git("status", "--porcelain", "--untracked-files=no")) is None else changes != "",
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "cores": cores(),
        "threads": threads(),
        "processor": _processor(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List the entries that differ between two environments, except the command and entries missing from the first."""
    return [name for name in now if name != "command" and name in before and before[name] != now[name]]


def _processor() -> str | None:
    """Return the model name of the CPU, or None if the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _git(*words: str) -> str | None:
    """Return the output of git in attnlab's checkout; None if attnlab is not installed from one."""
    home = Path(attnlab.__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return None
    try:
        process = subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return process.stdout.strip()
