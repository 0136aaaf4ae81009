"""Figures: one style, one colour a scheme, and a record of the numbers beside each."""

import io
import logging
import platform
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.colors import to_hex, to_rgb
from matplotlib.ticker import LogFormatterSciNotation

from srlib.companion.records import as_text, digest, plain, versions_of, write_atomically
from srlib.companion.statistics import mean_band
from srlib.companion.tables import parted
from srlib.version import __version__

_SHOW_NOTHING = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # backends

WIDTH = 7.0  # inches: the text width of a journal page

# Okabe and Ito's colours, told apart in all common forms of colour blindness, and a dark one.
_COLOURS = {
    "binary32": "#000000",
    "binary64": "#000000",
    "t/4 at the end": "#000000",
    "RN": "#D55E00",
    "SR": "#0072B2",
    "SR_eps": "#009E73",
    "signed_SR_eps": "#CC79A7",
    "both": "#E69F00",
    "skeleton": "#56B4E9",
    "longer": "#999999",
    "heavy ball": "#882255",
    "sign step": "#999933",
}
_DASHES = {  # on others that they coincide with, or beside a sibling in the same colour
    "binary32": (0, (4, 3)),
    "both": "--",
    "heavy ball 0.9": ":",
    "sign step 0.002": "--",
    "t/4 at the end": "--",
}
_LABELS = {
    "SR_eps": r"SR$_\varepsilon$",
    "signed_SR_eps": r"signed-SR$_\varepsilon$",
    "both": "both",
    "longer": "longer step",
}
_PACKAGES = ("numpy", "scipy", "numba", "matplotlib", "mpmath")

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 130,
    "font.family": "STIXGeneral",
    "font.size": 10,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


def use_style() -> None:
    """Make figures look the same everywhere from here on, whatever Matplotlib's own settings are.

    In a notebook they are shown in it, even where ``MPLBACKEND`` names a backend that shows nothing.
    """
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(_STYLE)
    shell = get_ipython()
    if hasattr(shell, "kernel") and matplotlib.get_backend().lower() in _SHOW_NOTHING:
        shell.run_line_magic("matplotlib", "inline")
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it tells of the time stamps of fonts


def scheme_style(name: str) -> dict:
    """Return how the line of a scheme, `Setup` or control, such as "signed_SR_eps(0.1)", is drawn and labelled.

    The colour is darker for a larger ε.
    """
    family, eps = parted(name)
    label = _LABELS.get(family, family) + (f", $\\varepsilon={eps}$" if eps else "")
    colour = _COLOURS.get(re.sub(r" [\d.]+( in .*)?$", "", family), "0.5")
    if eps:
        colour = _shaded(colour, float(eps))
    style = {"color": colour, "linestyle": _DASHES.get(family, "-"), "label": label}
    return style | ({"zorder": 3} if family == "binary32" else {})


def _shaded(colour, eps):
    """Mix a colour with white where ε is below 0.2, with black where it is above."""
    depth = np.clip(np.log2(max(eps, 0.01) / 0.2), -1.0, 1.0)
    share, other = (0.35, "white") if depth < 0 else (0.5, "black")
    share *= abs(depth)
    return to_hex((1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other)))


def plot_band(axes, x, mean, half_width, name: str, **options) -> None:
    """Draw the line of a scheme, with its confidence band where that has a width."""
    style = scheme_style(name) | options
    axes.plot(x, mean, **style)
    if np.any(half_width > 0):
        lower, upper = mean - half_width, mean + half_width
        axes.fill_between(x, lower, upper, color=style["color"], alpha=0.2, linewidth=0)


def plot_intervals(axis, found: dict, marker: str = "o", label: str | None = None) -> None:
    """Draw for each name the mean of its values with the 95% confidence interval, one below the other."""
    for k, (name, values) in enumerate(found.items()):
        mean, half = mean_band(np.asarray(values, dtype=np.float64)[None])
        options = {"ms": 4, "color": scheme_style(name)["color"], "label": label if k == 0 else None}
        axis.errorbar(mean, [-k], xerr=half, fmt=marker, **options)
    axis.set_yticks([-k for k in range(len(found))], list(found), fontsize=7)


def plot_curves(curves: dict, names: list[str]):
    """Draw test error, loss and share of unmoved components of an experiment, with 95% confidence bands.

    Parameters
    ----------
    curves : dict
        Of `srlib.companion.experiments.run_schemes`.
    names : list of str
        Those to show.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.1))
    panels = {
        "error": ("test error (%)", 100),
        "loss": ("training loss", 1),
        "unmoved": ("share of weights unmoved", 1),
    }
    for axis, (key, (title, scale)) in zip(axes, panels.items(), strict=True):
        for name in names:
            steps = curves[name]["steps"] if key != "unmoved" else 1 + np.arange(np.shape(curves[name][key])[1])
            plot_band(axis, steps, *mean_band(scale * np.transpose(curves[name][key])), name)
        axis.set(title=title, xlabel="epoch")
    legend_below(figure, 4)
    return figure


def label_ends(axis, names: list[str]) -> None:
    """Write at the right ends of the lines of some schemes, drawn in this order, the ε of each, as far apart as needed.

    To be called when the limits of the axes are those to be shown.
    """
    low, high = axis.transAxes.inverted(), axis.transData
    found = []
    for line, name in zip(axis.lines, names, strict=True):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        place = low.transform(high.transform((x, y)))[1]
        if (eps := parted(name)[1]) and 0 <= place <= 1:
            found.append((place, eps, line.get_color()))
    above = -1.0
    for place, text, colour in sorted(found):
        above = max(place, above + 0.055)
        axis.text(1.01, above, text, color=colour, fontsize=7, va="center", transform=axis.transAxes)


def limits_near(least: float, values, low: float, high: float) -> tuple[float, float]:
    """Return limits of an axis that are factors of the least value, where these show half of the values.

    Otherwise the upper one is 1.5 times their median, such as where a run makes no error at all, or 1 if that is 0.
    """
    median = float(np.nanmedian(values))
    if high * least > median:
        return low * least, high * least
    return low * least, 1.5 * median or 1.0


def legend_below(figure, columns: int, axes=None) -> None:
    """Explain the lines of some axes, the first if none are given, below a figure, in so many columns."""
    handles_and_labels = (axes or figure.axes[0]).get_legend_handles_labels()
    figure.legend(*handles_and_labels, ncols=columns, loc="outside lower center", columnspacing=1.2)


class _PlainLogFormatter(LogFormatterSciNotation):
    """Label the ticks that are usually labelled, with 0.6 for 6 × 10⁻¹."""

    def __call__(self, x, pos=None):
        return f"{x:g}" if super().__call__(x, pos) else ""


def number_ticks(figure) -> None:
    """Label the ticks of logarithmic axes of less than two decades with plain numbers."""
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        if axis.get_scale() == "log" and axis.get_transform().base == 10 and high < 100 * low:
            axis.set_major_formatter(_PlainLogFormatter())
            axis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(2, 0.4)))


KINDS = ["png", "pdf"]  # of the files of a figure
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


def save_figure(figure, name: str, numbers: dict, settings) -> None:
    """Write a figure as PNG and PDF, and the numbers that it shows with all that decides them as JSON.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Letters, digits and underscores.
    numbers : dict
        What is plotted: arrays, lists, numbers and text, nested in dicts with text keys.
    settings : Settings
        Their output directory, and the parameters to record.

    Raises
    ------
    ValueError
        If the name has other characters.
    """
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"name is {name!r}; must be of letters, digits and underscores")
    directory = Path(settings.output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    shown = plain(numbers)
    record = {
        "figure": name,
        "parameters": plain(settings.parameters),
        "versions": {"python": platform.python_version(), "srlib": __version__} | versions_of(_PACKAGES),
        "sha256": digest(shown),
        "numbers": shown,
    }
    contents = {kind: _drawn(figure, kind, _METADATA[kind]) for kind in KINDS} | {"json": as_text(record).encode()}
    for suffix, content in contents.items():
        write_atomically(directory / f"{name}.{suffix}", content)


def _drawn(figure, kind, metadata):
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
