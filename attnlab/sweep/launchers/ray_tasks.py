"""Tasks of Ray, on this machine or a cluster; a task whose node is gone is started again on another node."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray

from attnlab.config.errors import UserError
from attnlab.sweep.job import Job, execute
from attnlab.sweep.launchers.base import Ended, Handle

OPTIONS = ("address", "num_cpus", "num_gpus", "memory", "max_retries")
RESOURCES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
"""Ray's names of the resources of a cluster -> options of a task."""
RETRIES = 10
"""How often Ray starts a task again after a failure of its node."""


class RayLauncher:
    """Runs jobs as tasks of Ray.

    Args:
        jobs: how many tasks are given to Ray at a time; None for as many as the nodes of the cluster have room for.
        cores: cores of a job.
        options: `address` of the cluster (`auto` for the one of this machine; by default Ray is started), and of a
            task `num_cpus`, `num_gpus`, `memory` and `max_retries`.
    """

    def __init__(self, jobs: int | None, cores: int, options: Mapping[str, Any]) -> None:
        if unknown := next((name for name in options if name not in OPTIONS), None):
            raise UserError(f"--option {unknown}: unknown option of --launcher ray; valid: {', '.join(OPTIONS)}")
        settings = {"num_cpus": cores, "max_retries": RETRIES, **options}
        self._own = not ray.is_initialized()
        if self._own:
            _connect(settings.pop("address", None))
        settings.pop("address", None)
        self._task = ray.remote(**settings)(execute)
        self._jobs = jobs
        self._needed = {name: settings[key] for name, key in RESOURCES.items() if settings.get(key)}

    @property
    def capacity(self) -> int:
        """How many tasks the cluster has room for now; nodes may come and go."""
        there = ray.cluster_resources()
        rooms = (there.get(name, 0) // amount for name, amount in self._needed.items())
        return self._jobs or max(int(min(rooms, default=1)), 1)

    @property
    def parallel(self) -> int:
        """The same: how many tasks run at a time."""
        return self.capacity

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Submit tasks."""
        return [_Task(self._task.remote(job)) for job in jobs]

    def close(self) -> None:
        """Disconnect from Ray."""
        if self._own:
            ray.shutdown()


class _Task:
    """A task of Ray."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def poll(self) -> Ended | None:
        done, _ = ray.wait([self._reference], timeout=0)
        if not done:
            return None
        try:
            return Ended(ray.get(self._reference))
        except Exception as error:  # of the task, of its worker, or of the cluster
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Ended(1, f"{type(error).__name__}: {lines[-1].strip() if lines else 'no message'}")

    def stop(self) -> None:
        ray.cancel(self._reference, force=False)


def _connect(address: str | None) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=False)
    except ConnectionError as error:
        raise UserError(f"--launcher ray: {str(error).splitlines()[0]}") from None
