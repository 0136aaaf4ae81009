"""Faults planted by mutmut, one at a time, in a copy of what is committed: do the unit tests notice?

`make mutants MODULES="schemes batch.verify"` prints the share that they notice for each module, and every fault that
they do not. Three or four modules at a time take some minutes. Kernels that Numba compiles, cached properties and
constants are not touched by mutmut.
"""

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
# Where faults of a module are to be noticed, beside the tests of its own name.
ALSO = {
    "formats": ["schemes", "html"],
    **{module: ["html"] for module in ("schemes", "descent.steps", "descent.bounds")},
    "descent.optimal_rounding": ["descent.exact_law"],
}
NOTICED = ("killed", "timeout", "segfault")
CONFIGURATION = """[mutmut]
source_paths = srlib
only_mutate =
    {modules}
pytest_add_cli_args =
    -m
    not slow and not exhaustive
pytest_add_cli_args_test_selection =
    {tests}
also_copy =
    benchmarks
    data
    figures
    notebooks
    README.md
    RESULTS.md
    srlib
"""
# Each fault has a process forked from one that has run all tests, and would find results there of code without it.
FRESH = """

def pytest_sessionstart():
    import functools
    import gc

    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper) and found.__module__.startswith("srlib"):
            found.cache_clear()
"""


def tests_of(module):
    names = [module, *ALSO.get(module, [])]
    paths = [Path("tests", *name.split(".")[:-1], f"test_{name.split('.')[-1]}.py") for name in names]
    return [str(path) for path in paths if (ROOT / path).exists()]


def main(modules):
    with TemporaryDirectory(prefix="mutants-") as place:
        subprocess.run(["git", "clone", "-q", str(ROOT), place], check=True)
        lines = {"modules": [f"srlib/{name.replace('.', '/')}.py" for name in modules]}
        lines["tests"] = sorted({path for name in modules for path in tests_of(name)})
        text = CONFIGURATION.format(**{name: "\n    ".join(found) for name, found in lines.items()})
        Path(place, "setup.cfg").write_text(text)
        with Path(place, "tests", "conftest.py").open("a") as file:
            file.write(FRESH)
        mutmut = [str(Path(sys.executable).with_name("mutmut"))]
        subprocess.run([*mutmut, "run"], cwd=place, stdout=subprocess.DEVNULL, check=False)
        said = subprocess.run(
            [*mutmut, "results", "--all", "true"], cwd=place, capture_output=True, text=True, check=True
        )
        found = defaultdict(list)
        for line in filter(None, map(str.strip, said.stdout.splitlines())):
            name, _, state = line.partition(": ")
            found[module_of(name, modules)].append((name, state))
        for states in found.values():
            for name, state in states:
                if state not in NOTICED:
                    shown = subprocess.run(
                        [*mutmut, "show", name], cwd=place, capture_output=True, text=True, check=True
                    )
                    changed = [
                        line
                        for line in shown.stdout.splitlines()
                        if line[:1] in "+-" and line[:3] not in ("+++", "---")
                    ]
                    print(f"{name}: {state}", *changed, sep="\n", end="\n\n")
        for module, states in found.items():
            counts = Counter(state for _, state in states)
            noticed = sum(counts[state] for state in NOTICED)
            print(f"{module:20} {noticed} of {len(states)} noticed, {noticed / len(states):.1%}; {dict(counts)}")


def module_of(name, modules):
    return max((module for module in modules if name.startswith(f"srlib.{module}.")), key=len)


if __name__ == "__main__":
    main(sys.argv[1:])
