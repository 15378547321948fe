"""What an installed attnlab brings along: every package of it, and the experiments under the paths of a checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = "experiments/translation/dates_additive.yaml"


def test_every_package_is_named():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "attnlab").rglob("*.py")}
    assert set(settings["packages"]) == there | {"attnlab.experiments"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is in the wheel of this checkout."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("attnlab", "experiments"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def attnlab(installed: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints in a folder."""
    program = f"import sys; sys.path.insert(0, {str(installed)!r}); from attnlab import cli; sys.exit(cli.main())"
    here = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=folder, env=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_experiments_come_along_under_the_same_paths(installed: Path, tmp_path: Path):
    listed = attnlab(installed, tmp_path, "list", "all")
    for path in (ROOT / "experiments").rglob("*.yaml"):
        assert f"  {path.relative_to(ROOT)}\n" in listed
    assert "train" in attnlab(installed, tmp_path, "data", "check", CONFIG, "--tiny")


def test_a_file_of_the_current_folder_comes_first(installed: Path, tmp_path: Path):
    own = tmp_path / CONFIG
    own.parent.mkdir(parents=True)
    own.write_text("# Is this mine?\n" + (ROOT / CONFIG).read_text())
    own.with_name("another.yaml").write_text("# Another?\n")
    listed = attnlab(installed, tmp_path, "list", "translation")
    assert f"  {CONFIG}\n      Is this mine?\n" in listed
    assert "  experiments/translation/another.yaml\n      Another?\n" in listed
    assert "  experiments/translation/dates_dot.yaml\n" in listed


def test_what_a_page_is_made_of_comes_along(installed: Path):
    assert {path.name for path in (installed / "attnlab/viz/templates").iterdir()} == {
        path.name for path in (ROOT / "attnlab/viz/templates").iterdir()
    }
