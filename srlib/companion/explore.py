"""One rounding and one run at a time, as numbers and as figures, and controls to change them in JupyterLab."""

import os
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from srlib import checks
from srlib.companion.figures import WIDTH, scheme_style
from srlib.descent.exact_law import exact_law
from srlib.descent.problems import Huber
from srlib.descent.steps import iterates
from srlib.digits import significant
from srlib.formats import Format
from srlib.philox import Philox
from srlib.rounding import round_to
from srlib.schemes import SCHEMES, Scheme, prob_up

FORMATS = ("binary8", "e4m3", "fixed(4,4)", "bfloat16", "binary16")
_COMPARED = ("RN", "SR")
_WITHOUT_CONTROLS = (
    "*Here are controls when the notebook is run in JupyterLab; without, change the cell of parameters.*"
)


class Objective(NamedTuple):
    """A function of one variable, with the shape that `gradient_descent` asks for."""

    function: Callable
    slope: Callable
    shape: tuple[int, ...] = (1,)

    def f(self, x):
        """Return the objective: `x` without its last axis."""
        return self.function(x[..., 0])

    def gradient(self, x):
        """Return its derivative, of the shape of `x`."""
        return self.slope(x)


def objectives(minimiser: float) -> dict[str, Objective]:
    """Return objectives by name: two that are convex with this minimiser, and one that has another beside it."""
    huber = Huber(1.0, 1.0)
    return {
        "quadratic": Objective(lambda x: (x - minimiser) ** 2 / 2, lambda x: x - minimiser),
        "Huber": Objective(lambda x: huber.terms(x - minimiser), lambda x: huber.gradient(x - minimiser)),
        "two wells": Objective(
            lambda x: (x * x - minimiser * minimiser) ** 2 / 8, lambda x: x * (x * x - minimiser * minimiser) / 2
        ),
    }


def scheme_of(scheme: str, eps: float) -> Scheme:
    """Return a scheme by its name alone and ε, which those without a bias ignore."""
    checks.choice("scheme", scheme, SCHEMES)
    return Scheme(scheme, eps if scheme.endswith("_eps") else 0.0)


def one_rounding(
    *, fmt: Format | str, scheme: str, eps: float, bits: int, near: float, position: float, direction: float
) -> dict:
    """Return what a rounding does to a number x in the gap between two values of a format.

    Parameters
    ----------
    fmt : Format or str
    scheme : str
        Its name, without ε.
    eps : float
        ε, 0 ≤ ε < 1; schemes without a bias ignore it.
    bits : int
        Random bits of a rounding, 1 to 32: a probability becomes the nearest multiple of 2^−bits.
    near : float
        The gap is that above the largest value of the format that is at most `near`.
    position : float
        θ, where x is in the gap: 0 ≤ θ < 1.
    direction : float
        Of which a signed scheme takes the sign, v.

    Returns
    -------
    dict
        `lower`, `upper`: the ends of the gap; `x`; `up`: P(up); `mean`, `deviation`: of the result; `bias`: mean less
        `x`; `at`, `scheme`, `realised`: positions in the gap, P(up) of the scheme there, and with so many bits.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    fmt, scheme, scale = Format.parse(fmt), scheme_of(scheme, eps), 2.0 ** checks.integer("bits", bits, 1, 32)
    position = checks.fraction("position", position)
    if not -fmt.largest <= near < fmt.largest:
        raise ValueError(f"near is {near}; must be a number between ±{fmt.largest:g}, the largest of {fmt}")
    lower = round_to(float(near), fmt, "RD")
    upper = round_to(np.nextafter(lower, np.inf), fmt, "RU")
    at = lower + (upper - lower) * np.linspace(0, 1, 513)
    x = lower + (upper - lower) * position
    points = np.append(at, x)
    chance = prob_up(points, fmt, scheme, v=np.full_like(points, direction) if scheme.signed else None)
    realised = np.rint(chance * scale) / scale if scheme.stochastic else chance
    up = realised[-1]
    mean = lower + up * (upper - lower)
    numbers = {"lower": lower, "upper": upper, "x": x, "up": up, "mean": mean, "bias": mean - x}
    numbers["deviation"] = (up * (1 - up)) ** 0.5 * (upper - lower)
    return {name: float(value) for name, value in numbers.items()} | {
        "at": at[1:-1],
        "scheme": significant(chance[1:-2]),
        "realised": realised[1:-2],
    }


def draw_rounding(found: dict, scheme: Scheme):
    """Return a figure of what `one_rounding` found: P(up) in the gap, and the two results with their probabilities."""
    figure, (curve, result) = plt.subplots(1, 2, figsize=(WIDTH, 2.8), width_ratios=[1.2, 1])
    style = scheme_style(str(scheme))
    lower, upper = found["lower"], found["upper"]
    curve.plot([lower, upper], [0, 1], color="0.6", ls=":", lw=1, label="SR")
    curve.plot(found["at"], found["scheme"], **style)
    curve.plot(found["at"], found["realised"], color="#882255", lw=0.9, label="with these bits")
    curve.plot(found["x"], found["up"], "ko", ms=5)
    curve.set(title="probability of rounding up", xlabel="$x$", ylabel="P(up)", ylim=(-0.05, 1.05))
    heights = 1 - found["up"], found["up"]
    width = 0.12 * (upper - lower)
    result.bar([lower, upper], heights, width, color=style["color"], alpha=0.5)
    for end, height in zip([lower, upper], heights, strict=True):
        result.annotate(f"{height:.4g}", (end, height), ha="center", va="bottom", fontsize=9)
    result.axvline(found["x"], color="k", lw=1.2, label="$x$")
    result.axvline(found["mean"], color="#E69F00", lw=1.4, ls="--", label="mean of fl($x$)")
    result.set(
        title="result", xlim=(lower - width, upper + width), ylim=(0, 1.15), xlabel="fl($x$)", ylabel="probability"
    )
    for axis in (curve, result):
        axis.set_xticks([lower, upper], [f"{lower:.6g}", f"{upper:.6g}"])
    figure.legend(ncols=5, loc="outside lower center", columnspacing=1.2)
    return figure


def one_run(
    *,
    objective: str,
    minimiser: float,
    fmt: Format | str,
    scheme: str,
    eps: float,
    bits: int,
    stepsize: float,
    start: float,
    steps: int,
    seed: int,
) -> dict:
    """Return a run of gradient descent and its exact law; gradient and product are rounded by SR.

    Parameters
    ----------
    objective, minimiser
        A name of `objectives`, and where its minimiser is.
    fmt, scheme, eps, bits
        As for `one_rounding`; the scheme is that of the update, and RN that of all sites.
    stepsize, start, steps, seed
        t, a value of the format, the number of steps, and the seed of the run.

    Returns
    -------
    dict
        `run`: the iterates; `values`, `law`: the values that have a probability above 10^−6 in some step, and their
        probabilities after each; `f`: of the run; `expected`: E f by exact law of the scheme, of RN and of SR, by name.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of these.
    """
    fmt, scheme = Format.parse(fmt), scheme_of(scheme, eps)
    checks.choice("objective", objective, objectives(0.0))
    if not abs(minimiser) <= fmt.largest:
        raise ValueError(f"minimiser is {minimiser}; must be between ±{fmt.largest:g}, the largest of {fmt}")
    problem, rng = objectives(float(minimiser))[objective], Philox(seed, bits=bits)
    names = dict.fromkeys([*_COMPARED, str(scheme)])
    laws = {name: exact_law(problem, fmt, stepsize, bits=bits, **_sites(name)) for name in names}
    law = laws[str(scheme)]
    options = {"stepsize": stepsize, "steps": steps, "fmt": fmt, "rng": rng}
    path = iterates(problem, np.array([float(start)]), **options, **_sites(str(scheme)))
    run = np.array([float(x[0]) for x in path])
    chances = np.array(list(law.distributions(start, steps)))
    kept = np.isfinite(law.values) & (chances.max(axis=0) > 1e-6)
    return {
        "run": run,
        "f": significant(problem.function(run)),
        "values": law.values[kept],
        "law": significant(chances[:, kept]),
        "expected": {name: significant(laws[name].expected(problem.function, start, steps)) for name in laws},
    }


def _sites(update):
    """Return the schemes of the three sites: RN at all of them, or SR before another update."""
    before = "RN" if update == "RN" else "SR"
    return {"gradient": before, "multiply": before, "update": update}


def draw_run(found: dict, scheme: Scheme, minimiser: float):
    """Return a figure of what `one_run` found: the law with the run in it, and f of the run beside its expectation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.0))
    values, k = found["values"], np.arange(len(found["run"]))
    edges = np.array([values[0] - 0.5, values[0] + 0.5])
    if len(values) > 1:
        middle = (values[1:] + values[:-1]) / 2
        edges = np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
    steps = np.arange(len(k) + 1) - 0.5
    mesh = left.pcolormesh(steps, edges, found["law"].T, cmap="Greys", vmin=0, vmax=0.6, rasterized=True)
    left.plot(k, found["run"], color="#E69F00", lw=1, marker=".", ms=3, label="one run")
    left.axhline(minimiser, color="#D55E00", lw=1.2, ls=":", label="$x^*$")
    left.grid(False)
    left.set(xlabel="step $k$", ylabel=r"value of $\hat x_k$")
    figure.colorbar(mesh, ax=left, label="probability", extend="max")
    for name, expected in found["expected"].items():
        right.plot(k, expected, **scheme_style(name) | {"lw": 2.2 if name == str(scheme) else 1.2})
    right.plot(k, found["f"], color="#E69F00", lw=0.8, marker=".", ms=3)
    right.set(xlabel="step $k$", ylabel=r"$f(\hat x_k)$, and its expectation")
    right.set_yscale("log", nonpositive="mask")
    figure.legend(ncols=5, loc="outside lower center", columnspacing=1.2)
    return figure


def controls(draw: Callable, **chosen):
    """Return widgets for the arguments of `draw`, from the values `chosen` on, with the figure that it returns below.

    Parameters
    ----------
    draw : callable
        Of keyword arguments; an error that it raises is shown in place of the figure.
    **chosen
        Its arguments, of those of `one_rounding` and `one_run`.

    Returns
    -------
    ipywidgets.VBox, or IPython.display.Markdown where no front end shows widgets, as in a batch
    """
    from IPython.display import Markdown, display

    if not ("JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ):
        return Markdown(_WITHOUT_CONTROLS)
    import ipywidgets

    def show(**values):
        try:
            figure = draw(**values)
        except (TypeError, ValueError) as error:
            print(error)
        else:
            display(figure)
            plt.close(figure)

    widgets = {name: _widget(name, value) for name, value in chosen.items()}
    layout = ipywidgets.Layout(grid_template_columns="repeat(2, minmax(0, 1fr))", width="100%")
    return ipywidgets.VBox(
        [ipywidgets.GridBox(list(widgets.values()), layout=layout), ipywidgets.interactive_output(show, widgets)]
    )


def _widget(name, value):
    import ipywidgets

    choices = {"fmt": FORMATS, "scheme": SCHEMES, "objective": tuple(objectives(0.0)), "direction": (-1.0, 0.0, 1.0)}
    ranges = {"eps": (0.0, 0.95, 0.05), "position": (0.0, 0.99, 0.01), "bits": (1, 32, 1), "steps": (1, 200, 1)}
    style = {"description": name, "style": {"description_width": "5em"}}
    if name in choices:
        return ipywidgets.Dropdown(options=list(dict.fromkeys([*choices[name], value])), value=value, **style)
    if name in ranges:
        low, high, step = ranges[name]
        slider = ipywidgets.FloatSlider if isinstance(low, float) else ipywidgets.IntSlider
        return slider(value=value, min=low, max=max(high, value), step=step, **style)
    number = ipywidgets.IntText if isinstance(value, int) else ipywidgets.FloatText
    return number(value=value, **style)
