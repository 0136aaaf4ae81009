import hashlib
import json
from itertools import combinations
from statistics import fmean, stdev
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import t

from srlib.companion.experiments import setups
from srlib.companion.figures import (
    label_ends,
    limits_near,
    plot_band,
    plot_curves,
    plot_intervals,
    save_figure,
    scheme_style,
    use_style,
)
from srlib.companion.records import digest
from srlib.companion.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings("quick", "numpy", 3, str(tmp_path / "figures"), eps=[0.1])


@pytest.fixture
def figure():
    use_style()
    figure, axes = plt.subplots()
    plot_band(axes, np.arange(3), np.arange(3.0), np.ones(3), "signed_SR_eps(0.1)")
    axes.legend()
    yield figure
    plt.close(figure)


NUMBERS = {"mean": np.array([0.5, np.nan]), "steps": range(2), "nested": {"half_width": np.float64(0.25)}}


def test_a_figure_is_saved_as_png_pdf_and_a_record_of_its_numbers(figure, settings, tmp_path):
    save_figure(figure, "loss", NUMBERS, settings)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["loss.json", "loss.pdf", "loss.png"]
    record = json.loads((tmp_path / "figures" / "loss.json").read_text())
    assert record["parameters"] == {"profile": "quick", "backend": "numpy", "seed": 3, "eps": [0.1]}
    assert record["numbers"] == {"mean": [0.5, "nan"], "steps": [0, 1], "nested": {"half_width": 0.25}}
    assert record["versions"]["numpy"] == np.__version__
    assert record["sha256"] == digest(record["numbers"])
    assert digest({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()


def test_the_same_figure_has_the_same_bytes(figure, settings, tmp_path):
    contents = []
    for _ in range(2):
        save_figure(figure, "loss", NUMBERS, settings)
        contents.append([path.read_bytes() for path in sorted((tmp_path / "figures").iterdir())])
    assert contents[0] == contents[1]


def test_a_figure_that_cannot_be_drawn_leaves_an_earlier_one_as_it_was(figure, settings, tmp_path, monkeypatch):
    save_figure(figure, "loss", NUMBERS, settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}

    def half(target, **options):
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, "loss", NUMBERS | {"steps": range(3)}, settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b"])
def test_a_name_that_is_no_plain_name_is_refused(figure, settings, name):
    with pytest.raises(ValueError, match="must be of letters, digits and underscores"):
        save_figure(figure, name, {}, settings)


CURVES = {
    "SR": {
        "steps": [0, 2, 3],
        "error": np.array([[0.5, 0.25, 0.125], [0.5, 0.35, 0.225], [0.5, 0.3, 0.1]]),
        "loss": np.array([[2.0, 1.0, 0.5], [2.0, 1.5, 0.25], [2.0, 2.0, 0.3]]),
        "unmoved": np.array([[0.1, 0.2, 0.3], [0.2, 0.4, 0.3], [0.3, 0.3, 0.3]]),
    },
    "RN": {"steps": [0, 3], "error": [[0.5, 0.4]], "loss": [[2.0, 1.9]], "unmoved": [[0.5, 0.9, 1.0]]},
    "hidden": {"steps": [0], "error": [[0.9]], "loss": [[9.0]], "unmoved": [[0.9]]},
}


def drawn(axes, name):
    """The line of a scheme, and the lower and upper edge of its band at each x; None without one."""
    label = scheme_style(name)["label"]
    (line,) = [line for line in axes.lines if line.get_label() == label]
    colour = to_rgb(line.get_color())
    bands = [band for band in axes.collections if np.allclose(band.get_facecolor()[0][:3], colour)]
    if not bands:
        return line.get_xdata(), line.get_ydata(), None
    points = bands[0].get_paths()[0].vertices
    edges = [[(edge(points[points[:, 0] == x, 1])) for x in line.get_xdata()] for edge in (np.min, np.max)]
    return line.get_xdata(), line.get_ydata(), np.array(edges)


@pytest.mark.parametrize(("panel", "key", "scale"), [(0, "error", 100), (1, "loss", 1), (2, "unmoved", 1)])
def test_the_lines_of_an_experiment_are_the_means_of_its_replicates_and_the_bands_their_intervals(panel, key, scale):
    use_style()
    figure = plot_curves(CURVES, ["SR", "RN"])
    axes = figure.axes[panel]
    assert len(axes.lines) == 2
    x, y, edges = drawn(axes, "SR")
    values = scale * CURVES["SR"][key]
    assert list(x) == ([0, 2, 3] if key != "unmoved" else [1, 2, 3])
    np.testing.assert_allclose(y, [fmean(column) for column in values.T])
    half = [t.ppf(0.975, 2) * stdev(column) / 3**0.5 for column in values.T]
    np.testing.assert_allclose(edges, [y - half, y + half])
    x, y, edges = drawn(axes, "RN")
    assert list(x) == ([0, 3] if key != "unmoved" else [1, 2, 3]) and edges is None
    np.testing.assert_allclose(y, scale * np.array(CURVES["RN"][key][0]))
    plt.close(figure)


def test_a_band_is_drawn_where_it_has_a_width():
    figure, axes = plt.subplots()
    plot_band(axes, [1, 2], np.array([3.0, 4.0]), np.array([0.5, 0.0]), "SR")
    plot_band(axes, [1, 2], np.array([5.0, 6.0]), np.zeros(2), "RN", marker=".")
    _, y, edges = drawn(axes, "SR")
    assert list(y) == [3, 4] and edges.tolist() == [[2.5, 4], [3.5, 4]]
    assert drawn(axes, "RN")[2] is None and axes.lines[1].get_marker() == "."
    plt.close(figure)


def test_ends_of_lines_are_labelled_with_their_bias_where_they_are_seen_and_apart():
    figure, axes = plt.subplots()
    names = ["SR", "SR_eps(0.1)", "SR_eps(0.2)", "SR_eps(0.4)"]
    for name, end in zip(names, (0.5, 0.5, 0.501, 7.0), strict=True):
        plot_band(axes, [0, 1], np.array([0.0, end]), np.zeros(2), name)
    axes.set_ylim(0, 1)
    label_ends(axes, names)
    assert [text.get_text() for text in axes.texts] == ["0.1", "0.2"]
    low, high = (text.get_position()[1] for text in axes.texts)
    assert low == pytest.approx(0.5) and high == pytest.approx(0.555)
    assert [text.get_color() for text in axes.texts] == [line.get_color() for line in axes.lines[1:3]]
    plt.close(figure)


@pytest.mark.parametrize(
    ("least", "values", "expected"),
    [
        (8.0, [9.0, 10.0, 15.0], (7.2, 24.0)),
        (0.0, [0.0, 4.0, 6.0], (0.0, 6.0)),
        (0.01, [0.01, 5.0, 5.0], (0.009, 7.5)),
        (0.0, [0.0, 0.0, 9.0], (0.0, 1.0)),
        (1.0, [1.0, np.nan, 2.0], (0.9, 3.0)),
    ],
)
def test_limits_show_what_is_near_the_least_and_half_of_the_lines(least, values, expected):
    assert limits_near(least, values, 0.9, 3) == pytest.approx(expected)


def test_a_figure_looks_the_same_whatever_matplotlib_was_told(settings, tmp_path):
    contents = []
    for told in ({}, {"savefig.bbox": "tight", "text.usetex": True, "lines.linewidth": 9, "axes.facecolor": "red"}):
        with matplotlib.rc_context(told):
            use_style()
            figure, axes = plt.subplots()
            axes.plot([1, 2])
            save_figure(figure, "same", NUMBERS, settings)
            plt.close(figure)
        contents.append([path.read_bytes() for path in sorted((tmp_path / "figures").iterdir())])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(("backend", "switched"), [("agg", True), ("svg", True), ("module://ipympl", False)])
def test_in_a_notebook_figures_are_shown_whatever_backend_the_session_names(monkeypatch, backend, switched):
    said = []
    shell = SimpleNamespace(kernel=None, run_line_magic=lambda *words: said.append(words))
    monkeypatch.setattr("srlib.companion.figures.get_ipython", lambda: shell)
    monkeypatch.setattr(matplotlib, "get_backend", lambda: backend)
    use_style()
    assert said == ([("matplotlib", "inline")] if switched else [])


def test_every_setup_has_a_line_of_its_own():
    styles = [scheme_style(setup.name) for setup in setups("binary8", [0.1, 0.2, 0.4])]
    assert all(a != b for a, b in combinations([(s["color"], str(s["linestyle"])) for s in styles], 2))
    assert len({style["label"] for style in styles}) == len(styles)


def test_intervals_of_several_names_lie_below_each_other():
    axis = plt.figure().subplots()
    plot_intervals(axis, {"SR": [1.0, 2.0, 3.0], "binary64": [5.0]}, label="last")
    assert [text.get_text() for text in axis.get_yticklabels()] == ["SR", "binary64"]
    assert [line.get_xdata()[0] for line in axis.lines] == [2.0, 5.0]
    assert axis.get_legend_handles_labels()[1] == ["last"]
    plt.close()
