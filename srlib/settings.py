"""What a notebook is run with: its parameters, resolved by profile and checked."""

import math

import array_api_compat.numpy

from srlib import checks
from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import round_to
from srlib.schemes import Scheme

PROFILES = ("quick", "paper")
BACKENDS = ("numpy", "cupy")


def _check_biases(name, values):
    for value in values if isinstance(values, list | tuple) else [values]:
        Scheme("SR_eps", value)


_CHECKS = {
    "fmt": lambda name, value: Format.parse(value),
    "low_fmt": lambda name, value: Format.parse(value),
    "eps": _check_biases,
    "stepsize": checks.positive,
    "low_stepsize": checks.positive,
    "stepsizes": lambda name, values: [checks.positive(name, value) for value in values],
}


class Settings:
    """The parameters of a notebook, as its tagged cell gives them.

    Parameters
    ----------
    profile : {"quick", "paper"}
        Seconds a notebook, or the experiments in full.
    backend : {"numpy", "cupy"}
        Where arrays are: on the processor or on a GPU.
    seed : int
        0 ≤ seed < 2^64.
    output_dir : str
        Directory of the figures; not recorded, as it says nothing about them.
    pieces : list of str
        Directories with the figures of runs of other replicates, to be taken over; not recorded either.
    **parameters
        The others; None is for `choose` to resolve. Formats, biases and stepsizes are checked at once.

    Attributes
    ----------
    parameters : dict
        All that decides the numbers, for the record beside each figure.
    xp : module
        The array library of the backend.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    RuntimeError
        If the backend is "cupy", and CuPy or a GPU is missing.
    """

    def __init__(self, profile: str, backend: str, seed: int, output_dir: str, *, pieces=(), **parameters):
        checks.choice("profile", profile, PROFILES)
        checks.choice("backend", backend, BACKENDS)
        checks.integer("seed", seed, 0, 2**64 - 1)
        for name, check in _CHECKS.items():
            if name in parameters:
                check(name, parameters[name])
        self.xp = array_library(backend)
        self.output_dir, self.pieces = output_dir, pieces
        self.parameters = {"profile": profile, "backend": backend, "seed": seed, **parameters}

    def choose(self, name: str, *, quick: int, paper: int) -> int:
        """Return a parameter that counts something: as given, or if that is None, as the profile says.

        Raises
        ------
        TypeError, ValueError
            If it is no integer, or less than 1.
        """
        given = self.parameters[name]
        value = {"quick": quick, "paper": paper}[self.parameters["profile"]] if given is None else given
        self.parameters[name] = checks.integer(name, value, 1)
        return value

    def choose_replicates(self, *, quick: int, paper: int) -> range:
        """Return the numbers of the replicates to run: those of `replicate_range`, or if that is None, all.

        Raises
        ------
        TypeError, ValueError
            If `replicates` is no count, or `replicate_range` not the first and one more than the last of some of them.
        """
        count = self.choose("replicates", quick=quick, paper=paper)
        given = self.parameters["replicate_range"]
        if given is None:
            return range(count)
        if not (isinstance(given, list | tuple) and len(given) == 2):
            raise TypeError(f"replicate_range is {given!r}; must be None or [first, last + 1]")
        first, stop = (checks.integer("replicate_range", end, 0, count) for end in given)
        if first >= stop:
            raise ValueError(f"replicate_range is {given!r}; must be [first, last + 1], with first below")
        return range(first, stop)

    def value(self, name: str, fmt: Format) -> float:
        """Return a parameter that must be a finite value of a format.

        Raises
        ------
        ValueError
            If it is none.
        """
        value = float(self.parameters[name])
        if not (math.isfinite(value) and round_to(value, fmt) == value):
            raise ValueError(f"{name} is {value}; must be a value of {fmt}, whose largest is {fmt.largest:g}")
        return value

    def rng(self, **options) -> Philox:
        """Return a new stream of random words with the seed, and with `options` of `Philox`."""
        return Philox(self.parameters["seed"], **options)


def array_library(backend: str):
    """Return the array-API namespace of a backend.

    Raises
    ------
    RuntimeError
        If the backend is "cupy", and CuPy or a GPU is missing.
    """
    if backend == "numpy":
        return array_api_compat.numpy
    try:
        import cupy

        cupy.arange(2).sum().item()
    except ImportError as error:
        raise RuntimeError(f"backend is 'cupy', but CuPy cannot be imported ({error})") from None
    except Exception as error:
        raise RuntimeError(f"backend is 'cupy', but there is no working GPU ({error})") from None
    from array_api_compat import cupy as xp

    return xp
