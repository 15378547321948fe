"""The house has floors: a file imports from lower floors or from earlier files of its own folder, never upward."""

import ast
import graphlib
import importlib
from pathlib import Path

import pytest

import attnlab

ROOT = Path(attnlab.__file__).parent
FLOORS = {
    "system": 0, "functional": 0, "config": 0,
    "data": 1, "layers": 2, "models": 3, "training": 4, "tasks": 5, "analysis": 6, "results": 7, "viz": 8, "bench": 8,
    "lab": 9, "sweep": 10, "claims": 11, "cli": 12, "__main__": 13,
}  # fmt: skip
ONLY = {
    "functional": {"jax", "jaxtyping", "numpy"},
    "config": {"pydantic", "yaml"},
}
"""What else, besides the standard library, the ground floor may import."""
FORBIDDEN = {
    "functional": {"flax", "optax", "pydantic"},
    "config": {"jax", "jaxlib", "flax", "numpy"},
    "data": {"flax", "optax"},
}
OWNERS = {
    "orbax": ("training/checkpoints.py",),
    "ray": ("sweep/launchers/ray_tasks.py",),
    "submitit": ("sweep/launchers/slurm_jobs.py",),
    "torch": tuple(f"bench/torch_{name}.py" for name in ("seq2seq", "transformer", "trainer", "attention")),
}
"""Libraries that few files know."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT.parent).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(source: str) -> set[str]:
    """Every module that the source imports, `from a import b` as a.b, wherever in the file it stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def inside(name: str) -> str | None:
    """The module of attnlab that an imported name is or comes from."""
    while name.startswith("attnlab"):
        if name in MODULES:
            return name
        name = name.rpartition(".")[0]
    return None


def floor(module: str) -> int:
    return FLOORS[module.split(".")[1]]


def folder(module: str) -> str:
    return module.split(".")[1]


EDGES = {
    name: {target for target in map(inside, imported(path.read_text())) if target not in (None, name, "attnlab")}
    for name, path in MODULES.items()
}


def test_every_file_has_a_floor():
    assert {folder(name) for name in MODULES if name != "attnlab"} <= FLOORS.keys()


@pytest.mark.parametrize("module", [name for name in MODULES if name != "attnlab"])
def test_no_import_goes_up(module):
    upward = {
        target for target in EDGES[module]
        if floor(target) > floor(module)
        or (floor(target) == floor(module) and folder(target) != folder(module))
    }  # fmt: skip
    assert not upward, f"{module} imports {sorted(upward)}"


def test_no_imports_in_a_circle():
    graph = {name: {target for target in targets if target != name} for name, targets in EDGES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [name for name in MODULES if name != "attnlab" and folder(name) in FORBIDDEN])
def test_the_lower_floors_know_few_libraries(module):
    libraries = {name.split(".")[0] for name in imported(MODULES[module].read_text())}
    assert not libraries & FORBIDDEN[folder(module)]
    if folder(module) in ONLY:
        import sys

        assert libraries - set(sys.stdlib_module_names) - {"attnlab"} <= ONLY[folder(module)]


@pytest.mark.parametrize("library", OWNERS)
def test_few_files_know_a_library(library):
    users = {
        path.relative_to(ROOT).as_posix() for path in MODULES.values()
        if library in {name.split(".")[0] for name in imported(path.read_text())}
    }  # fmt: skip
    assert users <= set(OWNERS[library])


@pytest.mark.parametrize("path", sorted((ROOT.parent / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_notebooks_import_existing_names(path):
    for name in imported(path.read_text()):
        if name.startswith("attnlab"):
            module, _, part = name.rpartition(".")
            assert name in MODULES or hasattr(importlib.import_module(module), part), name


def test_an_upward_import_would_be_seen():
    source = "def late():\n    from attnlab.training import loop\n    import attnlab.data.records as corpus\n"
    assert imported(source) == {"attnlab.training.loop", "attnlab.data.records"}
    assert floor("attnlab.training.loop") > floor("attnlab.functional.backends.dense")
