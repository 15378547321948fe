"""The number of host devices of a sweep, which is fixed when it begins: batches and dropout masks depend on it."""

import json
from contextlib import suppress
from pathlib import Path

from attnlab.config.errors import UserError

DEFAULT = 1


def devices_of(directory: Path, given: int | None) -> int:
    """Return the number of host devices of a sweep: that of the runs in its directory, or else the given one, or 1.

    Raises:
        UserError: a run has another number than the given one, or than another run.
    """
    if given is not None and given < 1:
        raise UserError(f"--devices {given}: must be at least 1")
    devices, source = given, "--devices"
    for path in sorted(directory.glob("*/environment.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            recorded = int(json.loads(path.read_text(encoding="utf-8"))["fingerprint"]["devices"])
            if devices is not None and recorded != devices:
                raise UserError(
                    f"{path.parent}: was begun on {_text(recorded)}, not {devices} ({source}); all runs have the "
                    "same number: leave out --devices, or choose another --out"
                )
            devices, source = recorded, str(path.parent)
    return devices or DEFAULT


def _text(devices: int) -> str:
    return f"{devices} device{'' if devices == 1 else 's'}"
