"""What the numbers of a run may depend on besides its config and its data."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

import attnlab
from attnlab.system.cores import cores

PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers", "sacrebleu",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Describe attnlab, its checkout, the command, Python, packages, devices and cores, as plain data."""
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
        "processor": _processor(),
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name what differs between two environments; the command does not count, nor what was not recorded before."""
    return [name for name in now if name != "command" and name in before and before[name] != now[name]]


def _processor() -> str | None:
    """Return the name that the CPU gives itself; None where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _git(*words: str) -> str | None:
    """Return what git says about attnlab's own checkout; None when attnlab is no checkout."""
    home = Path(attnlab.__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "-C", str(home), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()
