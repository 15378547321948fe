"""What holds for every test (the rest, as checked annotations and warnings as errors, stands in pyproject.toml).

Most of the time goes into compiling small programs, so LLVM does not optimize them, XLA's older emitters write their
loops, and a program is one LLVM module: that halves the time of the suite. `XLA_FLAGS= pytest ...` compiles as for
users; `make test-all` does so for the tests marked `optimized`, those of numerics and the long trainings. What was
compiled is kept in .jax_cache for both workers, the commands they start, and the next time. None of this is said to a
GPU (`pytest -m gpu`).

A file is run by one worker (`--dist loadfile`), so that what its tests share is computed and compiled once. `make
test-all` lets a worker take tests from the other (`--dist worksteal`): its slow rows make single files longer than
half of the rest, so that with whole files a worker was idle in the end. Of a test with many rows those named by
`@pytest.mark.quick("row", ...)` run by default; the others are marked `slow`.
"""

import gc
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest

gc.set_threshold(20_000, 10, 10)  # a tenth of the time went into searches for garbage

CPU_FLAGS = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # a process ends at once where a flag is unknown
    CPU_FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


LONGEST = (
    "test_lab",
    "test_conformance",
    "test_faithfulness_command",
    "test_intervention",
    "test_normalizers",
    "test_align",
    "test_analysis_explain_attention",
    "test_wiegreffe_pinter",
    "test_analysis_explain",
    "test_transformer",
    "test_models",
    "test_layer_attention",
    "test_experiments",
    "test_large_logits",
    "test_explain_command",
    "test_nonfinite",
    "test_layers",
    "test_story_qa",
    "test_training",
    "test_sharded",
    "test_masks",
    "test_flax_attention_fn",
)
"""Files that take longest: they begin first, so that neither worker is left with a long one in the end."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose the devices of jax before it starts: two CPU devices, or with `-m gpu` the default device."""
    if config.option.markexpr.startswith("gpu"):
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        jax.config.update("jax_default_matmul_precision", "highest")  # products of float32, not of TF32
        config.addinivalue_line("filterwarnings", "default")  # what a driver warns of is no failure
    else:
        os.environ.setdefault("XLA_FLAGS", CPU_FLAGS)
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
        jax.config.update("jax_num_cpu_devices", 2)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --some-must-run."""
    parser.addoption("--some-must-run", action="store_true", help="fail if every selected test is skipped")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --some-must-run, fail if no test ran: a library that all of them need may not be there."""
    if session.config.option.some_must_run and session.exitstatus == pytest.ExitCode.OK:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if not reporter.stats.get("passed") and not reporter.stats.get("xfailed"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            reporter.ensure_newline()
            reporter.write_line("--some-must-run: every selected test was skipped", red=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark slow the rows of a test that are not named in its mark `quick`."""
    quick = item.get_closest_marker("quick")
    if quick is not None and item.callspec.id not in quick.args:  # pyright: ignore[reportAttributeAccessIssue]
        item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)  # before rows are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse a mark `quick` with a row that its test does not have: it would no longer run by default."""
    rows: dict[str, set[str]] = {}
    for item in items:
        rows.setdefault(item.nodeid.split("[")[0], set()).add(getattr(getattr(item, "callspec", None), "id", ""))
    if not any("::" in argument for argument in config.args):  # which collects one row
        for item in items:
            for mark in item.iter_markers("quick"):
                for row in mark.args:
                    if row not in rows[item.nodeid.split("[")[0]]:
                        raise pytest.UsageError(f"{item.nodeid}: quick names {row!r}, which is no row of the test")
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Print the device of the GPU's tests."""
    if not config.option.markexpr.startswith("gpu"):
        return None
    return f"jax {jax.__version__} on {jax.default_backend()}: {jax.devices()[0].device_kind}"


@pytest.fixture(scope="session")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty directory."""
    return tmp_path_factory.mktemp("nowhere")


@pytest.fixture(scope="module", autouse=True)
def released() -> None:
    """Release the programs of earlier files (gigabytes in all), and search no longer for garbage in what they leave."""
    jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def elsewhere(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run every test in an empty directory, so that no test depends on files such as `runs/`.

    It must be empty again after the test.
    """
    monkeypatch.chdir(nowhere)
    yield
    left = sorted(path.name for path in nowhere.iterdir())
    for name in left:  # or every later test would fail too
        shutil.rmtree(nowhere / name) if (nowhere / name).is_dir() else (nowhere / name).unlink()
    assert not left, f"written into the current directory: {', '.join(left)}"


@pytest.fixture
def strict() -> Iterator[None]:
    """No dtype and no rank is promoted silently (for the functional core; Flax and optax do not survive it)."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """Enable 64-bit types."""
    with jax.enable_x64(True):
        yield
