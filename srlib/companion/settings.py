"""What a notebook is run with: its parameters, resolved by profile and checked, and where the paths among them lead."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import array_api_compat.numpy

from srlib import checks
from srlib.formats import Format
from srlib.philox import Philox

PROFILES = ("quick", "paper")
BACKENDS = ("numpy", "cupy")


def _number(value):
    """Return the number that a text such as "1e-3" stands for, as which YAML 1.1 reads it; anything else as it is."""
    return float(value) if isinstance(value, str) and _EXPONENTIAL.fullmatch(value) else value


_EXPONENTIAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def _real(name, value):
    return checks.real(name, _number(value))


def _positive(name, value):
    return checks.positive(name, _number(value))


def _bias(name, value):
    return checks.fraction(name, _real(name, value))


def _count(name, value):
    return None if value is None else checks.integer(name, _number(value), 1)  # None is for the profile to decide


def _format(name, value):
    return Format.parse(value).name


def _one_or_more(check):
    """Return a check of a thing or a list of such things."""

    def each(name, given):
        if not isinstance(given, list | tuple):
            return check(name, given)
        if not given:
            raise ValueError(f"{name} is {given!r}; must not be empty")
        return [check(name, value) for value in given]

    return each


def _schedules(name, given):
    found = _one_or_more(_one_or_more(_bias))(name, given)
    return [each if isinstance(each, list) else [each] for each in (found if isinstance(found, list) else [found])]


_COUNTS = (
    *("bits", "dimension", "draws", "images", "largest_power", "problem_count"),
    *("program_steps", "record_every", "replicates", "steps", "terms", "units"),
)
_CHECKS = {
    **dict.fromkeys(_COUNTS, _count),
    **dict.fromkeys(("direction", "minimiser", "near", "position", "start"), _real),
    **dict.fromkeys(("condition", "low_stepsize", "stepsize"), _positive),
    **dict.fromkeys(("fmt", "low_fmt"), _format),
    "classes": _one_or_more(lambda name, value: checks.integer(name, value, 0, 255)),
    "dataset_dir": checks.text,
    "eps": _one_or_more(_bias),
    "schedules": _schedules,
    "seed": lambda name, value: checks.integer(name, value, 0, 2**64 - 1),
    "stepsizes": _one_or_more(_positive),
}


def checked(name: str, value: object) -> object:
    """Return a parameter as `Settings` has it; raise TypeError or ValueError if it knows the name and not the value."""
    return _CHECKS[name](name, value) if name in _CHECKS else value


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
    pieces : str or list of str
        Directories with the figures of runs of other replicates, to be taken over; not recorded either.
    **parameters
        The others; None is for `choose` to resolve. Those whose names the companion's notebooks share (formats, biases,
        stepsizes, counts) are checked at once.

    Attributes
    ----------
    parameters : dict
        All that decides the numbers, for the record beside each figure: numbers as float or int, whatever they were.
    output_dir, pieces : Path, list of Path
        Where they lead; see `resolve_path`.
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
        given = {"seed": seed} | parameters
        named = {"profile": profile, "backend": backend}
        self.parameters = named | {name: checked(name, value) for name, value in given.items()}
        self.xp = array_library(backend)
        self.output_dir = resolve_path(output_dir)
        self.pieces = [resolve_path(path) for path in ([pieces] if isinstance(pieces, str) else pieces)]

    @classmethod
    def of(cls, bound: Mapping[str, object], names: str) -> "Settings":
        """Return those of a notebook, from the names that its cells have bound, as `globals` has them.

        Parameters
        ----------
        bound : mapping
        names : str
            Of the parameters besides profile, backend, seed and output_dir, with spaces between them.

        Raises
        ------
        NameError
            If one is not bound.
        """
        every = ["profile", "backend", "seed", "output_dir", *names.split()]
        if missing := [name for name in every if name not in bound]:
            raise NameError(f"{missing[0]} is not defined; run the cell of parameters first")
        return cls(**{name: bound[name] for name in every})

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
        return self.parameters[name]

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

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a parameter that is one number.

        Raises
        ------
        TypeError, ValueError
            If it is none, below `least` or above `most`.
        """
        value = _real(name, self.parameters[name])
        if value < least:
            raise ValueError(f"{name} is {value}; must be at least {least:g}")
        if value > most:
            raise ValueError(f"{name} is {value}; must be at most {most:g}")
        return value

    def numbers(self, name: str, below: float = math.inf) -> list[float]:
        """Return a parameter that is a list of numbers; one that is a number is a list of one, and recorded as that.

        Raises
        ------
        TypeError, ValueError
            If it is neither, or a number in it is not less than `below`.
        """
        given = self.parameters[name]
        values = [_real(name, value) for value in (given if isinstance(given, list | tuple) else [given])]
        for value in values:
            if value >= below:
                raise ValueError(f"{name} is {value}; must be below {below:g}")
        self.parameters[name] = values
        return values

    def pair(self, name: str) -> list[int]:
        """Return a parameter that is two different integers.

        Raises
        ------
        ValueError
            If it is not.
        """
        given = self.parameters[name]
        if not (isinstance(given, list) and len(given) == len(set(given)) == 2):
            raise ValueError(f"{name} is {given!r}; must be two different integers")
        return given

    def format(self, name: str, most: int, reaching: float = 0.0) -> Format:
        """Return the format that a parameter names, all of whose values are to be listed.

        Raises
        ------
        ValueError
            If there are more than `most` of them, or the largest is less than `reaching`.
        """
        fmt = Format.parse(self.parameters[name])
        if fmt.count > most:
            raise ValueError(
                f"{name} is {fmt}, of {fmt.count} values; must have at most {most}, as all are listed here"
            )
        if fmt.largest < reaching:
            raise ValueError(
                f"{name} is {fmt}, whose largest value is {fmt.largest:g}; must have one from {reaching:g} on"
            )
        return fmt

    def value(self, name: str, fmt: Format) -> float:
        """Return a parameter that must be a finite value of a format.

        Raises
        ------
        TypeError, ValueError
            If it is none.
        """
        value = _real(name, self.parameters[name])
        if abs(value) > fmt.largest:
            raise ValueError(f"{name} is {value}; must be a value of {fmt}, whose largest is {fmt.largest:g}")
        below, above = (float(neighbour) for neighbour in fmt.neighbours(value))
        if below != value:
            raise ValueError(f"{name} is {value}; must be a value of {fmt}, as are its neighbours {below} and {above}")
        return value

    def new_rng(self, **options) -> Philox:
        """Return a new stream of random words with the seed, and with `options` of `Philox`."""
        return Philox(self.parameters["seed"], **options)


def resolve_path(path: str | Path) -> Path:
    """Return where a path among the parameters of a notebook leads.

    A leading ``~`` is the home directory. A relative path is relative to the directory of the notebook. That is the
    current one, if notebooks lie there; else it is taken for the ``notebooks/`` of the companion's checkout, found
    upward from the current directory or from this package, so that it does not matter where papermill or a kernel was
    started.
    """
    path = Path(path).expanduser()
    if path.is_absolute():
        return path
    here = Path.cwd()
    above = [here, *here.parents, *Path(__file__).resolve().parents]
    checkouts = (place / "notebooks" for place in above if (place / "notebooks" / "00_index.ipynb").is_file())
    found = Path() if any(map(_is_run_here, here.glob("*.ipynb"))) else next(checkouts, Path())
    return found / path


def _is_run_here(notebook):
    """Tell whether a notebook belongs where it is, and is not what papermill makes there of one from elsewhere."""
    try:
        made = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("papermill", {})
    except (AttributeError, KeyError, OSError, TypeError, ValueError):  # no notebook, or not all of one
        return False
    return made.get("input_path") == made.get("output_path")


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
