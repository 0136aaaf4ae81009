import numpy as np
import pytest

from srlib import DiagonalQuadratic, Philox, gradient_descent
from srlib.experiments import compare, setups

QUADRATIC = DiagonalQuadratic(np.array([1.0, 0.25, 0.1]), np.array([3.0, -7.0, 0.3]))
START = np.array([100.0, 10.0, 0.7])


def test_the_setups_are_those_of_the_specification():
    found = {
        setup.name: [str(setup.fmt), *map(str, list(setup.options.values())[1:])] for setup in setups("e4m3", [0.1])
    }
    assert found == {
        "binary32": ["binary32", "RN", "RN", "RN"],
        "RN": ["e4m3", "RN", "RN", "RN"],
        "SR": ["e4m3", "SR", "SR", "SR"],
        "SR_eps(0.1)": ["e4m3", "SR_eps(0.1)", "SR_eps(0.1)", "SR"],
        "signed_SR_eps(0.1)": ["e4m3", "SR", "SR", "signed_SR_eps(0.1)"],
        "both(0.1)": ["e4m3", "SR_eps(0.1)", "SR_eps(0.1)", "signed_SR_eps(0.1)"],
    }
    assert [setup.stochastic for setup in setups("e4m3", [0.1], baseline=None)] == [False, True, True, True, True]


def test_a_comparison_has_a_row_a_replicate_of_each_scheme():
    curves = compare(
        QUADRATIC,
        START,
        setups("binary8", [0.1]),
        lambda: Philox(1, replicates=range(3, 7)),
        stepsize=0.5,
        steps=9,
        record=4,
    )
    assert list(curves) == ["binary32", "RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)", "both(0.1)"]
    assert curves["RN"]["replicates"] == [] and curves["SR"]["replicates"] == [3, 4, 5, 6]
    assert curves["SR"]["steps"].tolist() == [0, 4, 8, 9]
    assert curves["RN"]["error"].shape == (1, 4) and curves["RN"]["unmoved"].shape == (1, 9)
    history = gradient_descent(
        QUADRATIC, START, stepsize=0.5, steps=9, fmt="binary8", rng=Philox(1, replicates=range(5, 6))
    )
    np.testing.assert_array_equal(curves["SR"]["unmoved"][2], history.stagnated[:, 0])
    np.testing.assert_array_equal(curves["SR"]["loss"][2], history.objective[[0, 4, 8, 9], 0])


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_drawn_where_there_is_a_terminal(terminal, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    compare(QUADRATIC, START, setups("binary8", []), lambda: Philox(1), stepsize=0.5, steps=3)
    assert ("binary32" in capsys.readouterr().err) == terminal
