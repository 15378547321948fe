"""Launchers carry out the jobs of a sweep: one file each, behind the protocol of `base`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.overrides import parse_override
from attnlab.sweep.launchers.base import Launcher
from attnlab.sweep.plan import LOGS


def make_launcher(
    name: str, folder: Path, runs: int, jobs: int | None, devices: int, options: Sequence[str]
) -> Launcher:
    """Return a launcher.

    Args:
        name: local, slurm or ray.
        folder: directory of the sweep.
        runs: number of runs to carry out.
        jobs: how many runs are carried out at a time; None for the launcher's default.
        devices: number of host devices of a run, each of which gets a core.
        options: texts `key=value` for the engine.

    Raises:
        UserError: the engine is not installed, or an option is unknown.
    """
    given = _options(options)
    if name == "local":
        from attnlab.sweep.launchers.local import LocalLauncher, available_cores

        if given:
            raise UserError(f"--option {next(iter(given))}: --launcher local has no options")
        jobs = jobs or max(len(available_cores()) // devices, 1)
        return LocalLauncher(min(jobs, max(runs, 1)))
    if name == "slurm":
        with _installed(name, "submitit"):
            from attnlab.sweep.launchers.slurm_jobs import SlurmLauncher
        return SlurmLauncher(folder / LOGS / "submitit", jobs, devices, given)
    with _installed(name, "ray"):
        from attnlab.sweep.launchers.ray_tasks import RayLauncher
    return RayLauncher(jobs, devices, given)


def _options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options of an engine by name."""
    options = {}
    for text in texts:
        place, value = parse_override(text)
        options[".".join(place)] = value
    return options


@contextmanager
def _installed(launcher: str, package: str) -> Iterator[None]:
    """Turn the failure to import a package into a `UserError` that says how to install it."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise UserError(
            f"--launcher {launcher}: needs {package}, which is not installed; pip install 'attnlab[{launcher}]'"
        ) from None
