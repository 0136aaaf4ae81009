"""What a notebook is run with: its parameters, resolved by profile and checked, and the combinations of schemes."""

from dataclasses import dataclass

import array_api_compat.numpy
import numpy as np

from srlib import checks
from srlib.formats import Format
from srlib.philox import Philox
from srlib.schemes import Scheme

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


@dataclass(frozen=True)
class Setup:
    """A format, and a scheme for each of the three rounding sites.

    Attributes
    ----------
    name : str
        What it is called in figures and tables.
    fmt : Format
    gradient, multiply, update : Scheme
    """

    name: str
    fmt: Format
    gradient: Scheme
    multiply: Scheme
    update: Scheme

    @property
    def stochastic(self) -> bool:
        """Whether any site takes random words."""
        return any(scheme.stochastic for scheme in (self.gradient, self.multiply, self.update))

    @property
    def options(self) -> dict:
        """The arguments of `gradient_descent` that it stands for."""
        return {"fmt": self.fmt, "gradient": self.gradient, "multiply": self.multiply, "update": self.update}


def setups(fmt: Format | str, eps: list[float], baseline: str | None = "binary32") -> list[Setup]:
    """Return the combinations that SPEC compares in E1 to E4.

    RN in the baseline format; then in `fmt` RN; SR at all sites; and for each ε, SR_eps at sites 1 and 2 with SR at 3,
    SR at 1 and 2 with signed_SR_eps at 3, and both.

    Raises
    ------
    TypeError, ValueError
        If there is no such format, or an ε is not in [0, 1).
    """
    fmt, rn, sr = Format.parse(fmt), Scheme("RN"), Scheme("SR")
    found = [] if baseline is None else [Setup(baseline, Format.parse(baseline), rn, rn, rn)]
    found += [Setup("RN", fmt, rn, rn, rn), Setup("SR", fmt, sr, sr, sr)]
    for value in eps:
        biased, signed = Scheme("SR_eps", value), Scheme("signed_SR_eps", value)
        found += [
            Setup(str(biased), fmt, biased, biased, sr),
            Setup(str(signed), fmt, sr, sr, signed),
            Setup(f"both({value!r})", fmt, biased, biased, signed),
        ]
    return found


def mean_band(values: np.ndarray, confidence: float = 0.95):
    """Return the mean over replicates, the last axis, and the half-width of its confidence interval.

    Student's t with replicates − 1 degrees of freedom; without the axis of replicates, or with one, there is no
    interval and the half-width is 0.

    Parameters
    ----------
    values : array of shape (records,) or (records, replicates)
    """
    from scipy.stats import t

    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        return values, np.zeros_like(values)
    count = values.shape[-1]
    if count == 1:
        return values[:, 0], np.zeros(len(values))
    deviation = values.std(axis=-1, ddof=1) / np.sqrt(count)
    return values.mean(axis=-1), t.ppf((1 + confidence) / 2, count - 1) * deviation
