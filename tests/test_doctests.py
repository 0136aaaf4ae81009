"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import srlib

MODULES = [
    module.name
    for module in pkgutil.walk_packages(srlib.__path__, "srlib.")
    if not module.name.startswith(("srlib.__main__", "srlib.batch"))
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_come_out_as_shown(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_main_functions_have_examples():
    functions = (srlib.round_to, srlib.Format, srlib.Scheme, srlib.exact_law, srlib.gradient_descent)
    assert all(">>>" in function.__doc__ for function in functions)
