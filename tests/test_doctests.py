"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

import srlib

MODULES = [module.name for module in pkgutil.iter_modules(srlib.__path__) if module.name not in ("__main__", "batch")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_come_out_as_shown(name):
    assert doctest.testmod(importlib.import_module(f"srlib.{name}")).failed == 0


def test_the_main_functions_have_examples():
    functions = (srlib.round_to, srlib.Format, srlib.Scheme, srlib.exact_law, srlib.gradient_descent)
    assert all(">>>" in function.__doc__ for function in functions)
