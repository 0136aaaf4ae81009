"""pyproject.toml, environment.yml and requirements.lock tell one story."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import srlib

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"matplotlib": "matplotlib-base"}  # where conda-forge has another name than PyPI

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["companion"] + EXTRAS["dev"]]
each_dependency = pytest.mark.parametrize("dependency", DECLARED, ids=lambda dependency: dependency.name)


def environment() -> dict[str, SpecifierSet]:
    """What environment.yml installs, conda and pip alike, by normalised name; not the project itself."""
    *conda, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    requirements = [Requirement(line) for line in conda + pip["pip"] if line != "-e ."]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


def lock() -> list[tuple[Requirement, list[str]]]:
    """The entries of requirements.lock: what is required, and the hashes that it may have."""
    lines = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements.lock").read_text(), flags=re.M).replace("\\\n", " ")
    entries = [line.split(" --hash=") for line in lines.splitlines()]
    return [(Requirement(entry[0]), [value.strip() for value in entry[1:]]) for entry in entries]


def conda_name(dependency: Requirement) -> str:
    return canonicalize_name(CONDA_NAMES.get(dependency.name, dependency.name))


# What is imported as another name than that of its package; CuPy's has the version of CUDA in its name.
IMPORTED = {"yaml": "pyyaml", "cupy": "cupy-cuda12x", "cupyx": "cupy-cuda12x"}


def test_every_package_that_srlib_imports_is_declared():
    """But for PyTorch: it is there if there are tensors of it."""
    extras = [line for lines in EXTRAS.values() for line in lines]
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"] + extras}
    for path in (ROOT / "srlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"srlib", "torch"}:
                assert canonicalize_name(IMPORTED.get(name, name)) in declared, path


@each_dependency
def test_conda_admits_the_versions_that_pip_admits(dependency):
    assert environment().get(conda_name(dependency)) == dependency.specifier


def test_conda_installs_nothing_that_is_not_declared():
    assert environment().keys() == {"python", "pip", *map(conda_name, DECLARED)}


def test_the_workflow_runs_ci_on_the_same_python_versions_and_builds_the_site():
    """actionlint finds no fault in it; it has not been run."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python ::" in line]
    assert jobs["test"]["strategy"]["matrix"]["python"] == classified
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {"test": [".ci/run"], "site": ["make site PYTHON=python"]} and jobs["site"]["needs"] == "test"


def test_the_two_tiers_of_tests_are_all_that_is_collected_but_what_needs_a_browser_or_takes_minutes():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    make, first = (ROOT / "Makefile").read_text(), settings["addopts"][-1]
    (every,) = re.findall(r'^test-all:.*\n\t.*-m "(.*)"$', make, flags=re.M)
    (plain,) = re.findall(r"^test:.*\n\t(.*)$", make, flags=re.M)
    assert " -m " not in plain and first == f"not slow and {every}" and every == "not exhaustive and not browser"
    assert [line.partition(":")[0] for line in settings["markers"]] == ["slow", "browser", "exhaustive"]
    assert "make test-all" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_conda_and_the_classifiers_name_the_same_python_versions():
    prefix = "Programming Language :: Python :: "
    classified = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(prefix)]
    admitted = [f"3.{minor}" for minor in range(100) if f"3.{minor}" in environment()["python"]]
    assert classified == admitted
    assert PROJECT["requires-python"] == f">={admitted[0]}"


@each_dependency
def test_every_dependency_is_pinned_in_the_lock(dependency):
    pins = [pin for pin, _ in lock() if canonicalize_name(pin.name) == canonicalize_name(dependency.name)]
    assert len(pins) == 1, "a dependency is pinned once, for all versions of Python"
    (clause,) = pins[0].specifier
    assert clause.operator == "==" and clause.version in dependency.specifier
    assert pins[0].marker is None


def test_every_lock_entry_has_hashes():
    assert [pin.name for pin, hashes in lock() if not hashes] == []
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for _, hashes in lock() for value in hashes)


def test_the_lock_names_no_index_and_no_folder():
    options = re.findall(r"^-.*", (ROOT / "requirements.lock").read_text(), flags=re.M)
    assert options == []
    assert [pin.name for pin, _ in lock() if pin.url] == []
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_the_citation_names_the_version_that_is_installed():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == srlib.__version__


def test_the_example_of_the_readme_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    names = {}
    exec(example, names)
    assert names["rng"].draws == 2
