"""Every example in a docstring runs and prints what it says; every public function of the core has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import attnlab

FOLDERS = ("functional", "config", "data", "training", "tasks", "analysis")
MODULES = [
    module.name
    for folder in FOLDERS
    for module in pkgutil.walk_packages(importlib.import_module(f"attnlab.{folder}").__path__, f"attnlab.{folder}.")
]
CORE = [name for name in MODULES if name.startswith("attnlab.functional.")]
INNER = {name for name in CORE if name.startswith("attnlab.functional.backends.")} | {
    "attnlab.functional.types",
    "attnlab.functional.checks",
    "attnlab.functional.linear.checks",
}
"""Tested through `attention` and `linear_attention`; their functions need no example of their own."""


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n.startswith("attnlab.analysis.") else ()) for n in MODULES]
)
def test_examples_run(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in examples(name):
        assert runner.run(test).failed == 0, f"{test.name}: see the captured output"


@pytest.mark.parametrize("name", [name for name in CORE if name not in INNER])
def test_every_public_function_of_the_core_is_explained_with_an_example(name):
    module = importlib.import_module(name)
    shown = {test.name for test in examples(name)}
    for function_name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ == name and not function_name.startswith("_"):
            assert function.__doc__, f"{name}.{function_name} has no docstring"
            assert f"{name}.{function_name}" in shown, f"{name}.{function_name} has no example"


def test_there_are_examples():
    assert sum(len(examples(name)) for name in CORE) >= 15
    assert attnlab.__all__
