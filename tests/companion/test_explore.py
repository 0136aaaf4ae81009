"""What the explorer computes, against rounding and descent themselves, and its controls without a browser."""

import re

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.display import Markdown

from srlib import Format, Philox, gradient_descent, round_to
from srlib.companion.explore import controls, draw_rounding, draw_run, objectives, one_rounding, one_run, scheme_of

ROUNDING = {"fmt": "binary8", "scheme": "SR", "eps": 0.25, "bits": 3, "near": 1.0, "position": 0.6, "direction": 1.0}
RUN = {"objective": "quadratic", "minimiser": 1.1, "fmt": "binary8", "scheme": "signed_SR_eps", "eps": 0.25, "bits": 8}
RUN |= {"stepsize": 0.0625, "start": 4.0, "steps": 20, "seed": 7}


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("scheme", ["RN", "RU", "SR", "SR_eps", "signed_SR_eps"])
@pytest.mark.parametrize(("near", "direction"), [(1.0, 1.0), (-3.2, -1.0), (0.0, 1.0)])
def test_probability_mean_and_deviation_are_those_of_round_to(scheme, near, direction):
    """A sample of 10^5; the mean is within 6 standard errors: a false alarm has a probability below 10^-7 in all."""
    found = one_rounding(**ROUNDING | {"scheme": scheme, "near": near, "direction": direction})
    x = np.full(100_000, found["x"])
    rounded = round_to(x, "binary8", scheme_of(scheme, 0.25), Philox(5, bits=3), v=np.full_like(x, direction))
    assert set(np.unique(rounded)) <= {found["lower"], found["upper"]}
    assert abs(rounded.mean() - found["mean"]) <= 6 * found["deviation"] / x.size**0.5 + 1e-12
    assert found["bias"] == found["mean"] - found["x"]


def test_with_few_bits_the_probability_is_a_staircase():
    found = one_rounding(**ROUNDING)
    assert set(found["realised"]) == {k / 8 for k in range(9)}
    assert np.abs(found["realised"] - found["scheme"]).max() <= 1 / 16
    assert found["up"] == 5 / 8


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("position", 1.0, "position is 1.0; must be at least 0 and below 1"),
        ("near", 57344.0, "near is 57344.0; must be a number between ±57344"),
        ("near", float("nan"), "near is nan"),
        ("scheme", "SR(0.1)", "scheme is 'SR\\(0.1\\)'"),
        ("bits", 0, "bits is 0"),
    ],
)
def test_a_rounding_that_makes_no_sense_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        one_rounding(**ROUNDING | {name: value})


@pytest.mark.parametrize("objective", objectives(0.0))
@pytest.mark.parametrize("scheme", ["RN", "SR", "signed_SR_eps"])
def test_a_run_is_that_of_gradient_descent_and_possible_under_its_law(objective, scheme):
    found = one_run(**RUN | {"objective": objective, "scheme": scheme})
    before = "RN" if scheme == "RN" else "SR"
    history = gradient_descent(
        objectives(1.1)[objective],
        np.array([4.0]),
        stepsize=0.0625,
        steps=20,
        fmt="binary8",
        gradient=before,
        multiply=before,
        update=scheme_of(scheme, 0.25),
        rng=Philox(7, bits=8),
    )
    assert np.array_equal(found["f"], history.objective)
    assert set(found["expected"]) == {"RN", "SR", str(scheme_of(scheme, 0.25))}
    assert np.all(found["law"] <= 1) and np.all(np.isin(found["values"], Format.parse("binary8").values()))
    for step, x in enumerate(found["run"]):  # a state of the run left out has a probability below 10^-6
        assert found["law"][step, found["values"] == x].sum() > 0


@pytest.mark.parametrize("objective", objectives(0.0))
def test_each_slope_is_the_derivative(objective):
    chosen = objectives(1.1)[objective]
    x, h = np.linspace(-3, 3, 61) + 0.013, 1e-6
    difference = (chosen.function(x + h) - chosen.function(x - h)) / (2 * h)
    assert np.allclose(chosen.slope(x), difference, atol=1e-6)
    assert chosen.function(np.array(1.1)) == 0


def test_figures_are_drawn_for_any_scheme_and_for_a_law_of_one_value():
    draw_rounding(one_rounding(**ROUNDING), scheme_of("SR", 0.25))
    draw_run(one_run(**RUN | {"scheme": "RN", "stepsize": 1e-3}), scheme_of("RN", 0.0), 1.1)


def test_without_a_front_end_there_are_no_controls(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("VSCODE_PID", raising=False)
    assert isinstance(controls(None, **ROUNDING), Markdown)


@pytest.mark.parametrize(("function", "start"), [(one_rounding, ROUNDING), (one_run, RUN)])
def test_each_control_draws_anew_with_its_value(monkeypatch, capsys, function, start):
    monkeypatch.setenv("JPY_SESSION_NAME", "explorer.ipynb")
    drawn = []

    def draw(**values):
        drawn.append(values)
        function(**values)
        return plt.figure()

    grid, _ = controls(draw, **start).children
    assert drawn == [start]
    widgets = {widget.description: widget for widget in grid.children}
    assert list(widgets) == list(start)
    changes = {"fmt": "e4m3", "scheme": "SR_eps", "eps": 0.5, "bits": 2, "near": 2.0, "steps": 3, "seed": 8}
    for name, value in changes.items():
        if name in widgets:
            widgets[name].value = value
            assert drawn[-1][name] == value
    assert capsys.readouterr().err == ""
    assert isinstance(widgets["eps"], ipywidgets.FloatSlider)


def test_a_value_that_makes_no_sense_is_answered_in_place_of_the_figure(monkeypatch, capsys):
    monkeypatch.setenv("JPY_SESSION_NAME", "explorer.ipynb")
    grid, _ = controls(lambda **values: one_rounding(**values) and plt.figure(), **ROUNDING).children
    (near,) = (widget for widget in grid.children if widget.description == "near")
    near.value = 1e9
    assert "near is 1000000000.0; must be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": 4.1}, "x is 4.1; must be one of the 247 values of the chain, such as 4 and 5"),
        ({"start": 1e6}, "x is 1000000.0; must be one of the 247 values of the chain, such as 57344"),
        ({"minimiser": 1e6}, "minimiser is 1000000.0; must be between ±57344, the largest of binary8"),
        ({"minimiser": float("nan")}, "minimiser is nan; must be between ±57344"),
    ],
)
def test_a_start_between_values_and_a_minimiser_out_of_range_are_refused_in_words(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        one_run(**RUN | changed)
