"""Sweeps by engines: submitit on this machine and its script for Slurm, and a Ray cluster of two nodes.

They need the extras `slurm` and `ray`; the script is also checked against sbatch, where there is one.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlab.sweep.plan import make_plan
from attnlab.sweep.status import read_status
from attnlab.sweep.sweep import Engine, describe, sweep

ROOT = Path(__file__).parents[1]
SENTIMENT = ROOT / "experiments/classification/synthetic_sentiment_uniform.yaml"


def fingerprint(text: str) -> str:
    """The fingerprint of the parameters that a training printed last."""
    return re.findall(r"parameters after step \d+: sha256 (\w{64})", text)[-1]


def alone(run, given: list[str], folder: Path) -> str:
    """Train a run of a sweep by itself, on as many devices, and return the fingerprint of its parameters."""
    command = ["train", str(SENTIMENT), *given, "--tiny", "--seed", str(run.seed), "--out", str(folder / run.name)]
    done = subprocess.run(
        [sys.executable, "-m", "attnlab", *command], env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    return fingerprint(done.stderr)


class TestSlurm:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("submitit", reason="the extra `slurm` is not installed")

    def script(self, tmp_path: Path, *options: str) -> str:
        plan = make_plan(SENTIMENT, ["training.steps=2"], (1, 2, 3), tmp_path / "my sweep")
        text = "\n".join(describe(plan, Engine("slurm", jobs=2, options=options)))
        return text[text.index("#!/bin/bash") :]

    def test_the_script_is_one_of_bash_and_an_array_of_jobs(self, tmp_path: Path):
        script = self.script(tmp_path, "partition=gpu", "mem_gb=8", "timeout_min=90", "gpus_per_node=1")
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
        for line in ("--array=0-2%2", "--partition=gpu", "--mem=8GB", "--time=90", "--cpus-per-task=1"):
            assert f"#SBATCH {line}\n" in script
        assert "submitit.core._submit" in script

    def test_its_options_are_those_of_sbatch(self, tmp_path: Path):
        if shutil.which("sbatch") is None:
            pytest.skip("there is no sbatch: apt-get install slurm-client")
        settings = tmp_path / "slurm.conf"  # sbatch wants one, even to print its help
        settings.write_text("ClusterName=none\nSlurmctldHost=localhost\n")

        def sbatch(*arguments: str) -> str:
            environment = {**os.environ, "SLURM_CONF": str(settings)}
            done = subprocess.run(
                ["sbatch", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            return done.stdout + done.stderr

        script = self.script(tmp_path, "partition=gpu", "mem_gb=8", "timeout_min=90", "gpus_per_node=1")
        names, known = re.findall(r"^#SBATCH (--[\w-]+)", script, re.MULTILINE), sbatch("--help")
        assert len(names) > 8
        assert {name for name in names if not re.search(rf"{name}\b", known)} <= {"--open-mode"}, "missing in its help"
        for text, is_valid in ((script, True), (script.replace("--open-mode", "--opn-mode"), False)):
            (tmp_path / "script.sh").write_text(text)
            assert ("unrecognized option" in sbatch("--test-only", str(tmp_path / "script.sh"))) != is_valid

    def test_an_unknown_option_and_a_missing_slurm_are_one_line(self, tmp_path: Path):
        from attnlab.config.errors import UserError

        plan = make_plan(SENTIMENT, ["training.steps=2"], (1,), tmp_path)
        with pytest.raises(UserError, match=r"--option partitoin: unknown option .* valid: account, "):
            Engine("slurm", options=("partitoin=gpu",)).make_launcher(plan, 1)
        if shutil.which("srun") is None:
            with pytest.raises(UserError, match="there is no srun on this machine"):
                sweep(plan, Engine("slurm"))

    @pytest.mark.slow
    def test_jobs_of_submitit_on_this_machine(self, tmp_path: Path):
        given = ["training.steps=6", "training.evaluate_every=3"]
        plan = make_plan(SENTIMENT, given, (1, 2), tmp_path / "sweep", tiny=True)
        assert sweep(plan, Engine("slurm", jobs=1, options=("cluster=local",)))
        for run in plan.runs:
            assert read_status(run).complete
        log = (plan.directory / "logs" / f"{plan.runs[0].name}.log").read_text()
        assert fingerprint(log) == alone(plan.runs[0], given, tmp_path)
        submitted = list((plan.directory / "logs" / "submitit").iterdir())
        assert sweep(plan, Engine("slurm", jobs=1, options=("cluster=local",))), "there is nothing left to do"
        assert list((plan.directory / "logs" / "submitit").iterdir()) == submitted


@pytest.fixture
def cluster():
    """A cluster of two nodes of one core each, one of which runs the driver's queue."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_node_of_ray_is_killed_and_every_run_is_completed(cluster, tmp_path: Path):
    other = cluster.add_node(num_cpus=1)
    given = ["training.steps=400", "training.evaluate_every=20"]
    plan = make_plan(SENTIMENT, given, (1, 2, 3), tmp_path / "sweep", tiny=True)
    killed = []

    def poll() -> None:
        """Kill the node when both nodes train."""
        training = [run for run in plan.runs if 20 <= read_status(run).step < 300]
        if not killed and len(training) >= 2:
            killed.append(time.monotonic())
            cluster.remove_node(other, allow_graceful=False)

    assert sweep(plan, Engine("ray", options=(f"address={cluster.address}",)), poll=poll)
    assert killed
    logs = {run.name: (plan.directory / "logs" / f"{run.name}.log").read_text() for run in plan.runs}
    assert sum(log.count("resuming from step") for log in logs.values()) >= 1
    for run in plan.runs:
        assert read_status(run).complete
        assert fingerprint(logs[run.name]) == alone(run, given, tmp_path)
