"""What a notebook is run with: its parameters, resolved by profile and checked."""

import array_api_compat.numpy

from srlib import checks
from srlib.philox import Philox

PROFILES = ("quick", "paper")
BACKENDS = ("numpy", "cupy")


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
    **parameters
        The others; None is for `choose` to resolve.

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

    def __init__(self, profile: str, backend: str, seed: int, output_dir: str, **parameters):
        checks.choice("profile", profile, PROFILES)
        checks.choice("backend", backend, BACKENDS)
        checks.integer("seed", seed, 0, 2**64 - 1)
        self.xp = array_library(backend)
        self.output_dir = output_dir
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
