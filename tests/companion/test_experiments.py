import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from srlib import DiagonalQuadratic, Philox, gradient_descent
from srlib.companion.experiments import (
    Control,
    annealed,
    eps_schedule,
    heavy_ball,
    load_pieces,
    measured_beta,
    progress,
    run_schemes,
    setups,
)
from srlib.companion.figures import save_figure
from srlib.companion.records import digest, plain
from srlib.companion.settings import Settings
from srlib.descent.bounds import total_error
from srlib.descent.steps import unrounded_descent

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


def rng(**options):
    return Philox(1, **options)


def comparison(replicates=range(4), chosen=None, **options):
    chosen = setups("binary8", [0.1]) if chosen is None else chosen
    return run_schemes(QUADRATIC, START, chosen, rng, replicates, stepsize=0.5, steps=9, **options)


def test_a_comparison_has_a_row_a_replicate_of_each_scheme():
    curves = comparison(range(3, 7), record_every=4)
    assert list(curves) == ["binary32", "RN", "SR", "SR_eps(0.1)", "signed_SR_eps(0.1)", "both(0.1)"]
    assert curves["RN"]["replicates"] == [] and curves["SR"]["replicates"] == [3, 4, 5, 6]
    assert curves["SR"]["steps"].tolist() == [0, 4, 8, 9]
    assert curves["RN"]["error"].shape == (1, 4) and curves["RN"]["unmoved"].shape == (1, 9)
    stream = Philox(1, replicates=range(5, 6))
    history = gradient_descent(QUADRATIC, START, stepsize=0.5, steps=9, fmt="binary8", rng=stream)
    np.testing.assert_array_equal(curves["SR"]["unmoved"][2], history.unmoved[:, 0])
    np.testing.assert_array_equal(curves["SR"]["loss"][2], history.objective[[0, 4, 8, 9], 0])


def test_with_starts_of_their_own_all_schemes_have_replicates_and_pieces_agree():
    def start(numbers):
        return np.array([START + number for number in numbers])

    def run(numbers, pieces=()):
        chosen = setups("binary8", [0.1])
        return run_schemes(QUADRATIC, start, chosen, rng, numbers, stepsize=0.5, steps=9, pieces=pieces)

    whole = run(range(2, 6))
    assert all(c["replicates"] == [2, 3, 4, 5] and c["loss"].shape == (4, 10) for c in whole.values())
    alone = gradient_descent(
        QUADRATIC, START + 4, stepsize=0.5, steps=9, fmt="binary8", gradient="RN", multiply="RN", update="RN"
    )
    np.testing.assert_array_equal(whole["RN"]["loss"][2], alone.objective)
    assert plain(run(range(2, 6), [run(range(3, 5))])) == plain(whole)


def test_controls_and_averages_are_compared_like_schemes():
    ball = Control("heavy ball 0.5", {"momentum": 0.5}, shape=np.linspace(1, 0.5, 9))
    curves = comparison(chosen=[ball, setups("binary8", [])[2]], averages=[3], record_every=9)
    options = {"stepsize": (0.5 * np.linspace(1, 0.5, 9)).tolist(), "steps": 9, "momentum": 0.5, "averages": [3]}
    alone = unrounded_descent(QUADRATIC, START, **options)
    np.testing.assert_array_equal(curves["heavy ball 0.5"]["loss"], [alone.objective[[0, -1]]])
    np.testing.assert_array_equal(curves["heavy ball 0.5"]["average 3 loss"], [[alone.averages[3].objective]])
    assert curves["heavy ball 0.5"]["replicates"] == [] and curves["SR"]["average 3 error"].shape == (4, 1)


def test_an_annealed_setup_lowers_its_bias_and_a_heavy_ball_has_momentum():
    falling = annealed("binary8", [0.4, 0.1], 6)
    assert falling.name == "annealed [0.4, 0.1]" and falling.stochastic
    assert [str(falling.update(k)) for k in (0, 3, 4, 5)] == ["signed_SR_eps(0.4)"] * 2 + ["signed_SR_eps(0.1)"] * 2
    ball = heavy_ball("binary8", 0.875, "signed_SR_eps(0.1)", "bfloat16")
    assert ball.name == "heavy ball 0.875 in binary8, velocity bfloat16, signed_SR_eps(0.1)"
    found = ball.run(QUADRATIC, START, stepsize=0.25, steps=5, rng=rng(replicates=3))
    options = {"momentum": 0.875, "velocity_fmt": "bfloat16", "update": "signed_SR_eps(0.1)"}
    alone = gradient_descent(QUADRATIC, START, stepsize=0.25, steps=5, fmt="binary8", rng=rng(replicates=3), **options)
    np.testing.assert_array_equal(found.x, alone.x)
    assert heavy_ball("binary8", 0.5).name == "heavy ball 0.5 in binary8"


class Labelled:
    """A quadratic that calls three images wrong where its first components are above 0, 1 and 2."""

    shape, f, gradient = QUADRATIC.shape, QUADRATIC.f, QUADRATIC.gradient

    def wrong(self, x):
        return x[..., :1] > np.arange(3.0)

    def error(self, x):
        return self.wrong(x).mean(axis=-1)


def test_wrong_images_are_bits_in_hexadecimal_digits_and_survive_a_record():
    curves = run_schemes(Labelled(), START, setups("binary8", [0.1]), rng, range(4), stepsize=0.5, steps=9)
    for name, c in curves.items():
        assert len(c["wrong"]) == len(c["error"]), name
        for text, error in zip(c["wrong"], c["error"][:, -1], strict=True):
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)).tolist()
            assert bits[3] == 1 and not any(bits[4:]) and sum(bits[:3]) == pytest.approx(3 * error)
    merged = run_schemes(
        Labelled(), START, setups("binary8", [0.1]), rng, range(4), stepsize=0.5, steps=9, pieces=[plain(curves)]
    )
    assert plain(merged) == plain(curves)


def test_pieces_are_taken_over_and_the_rest_is_run():
    whole, middle = comparison(range(6)), comparison(range(2, 4))
    planted = {name: {**c, "loss": c["loss"] + 1000} for name, c in middle.items()}
    assert plain(comparison(range(6), pieces=[middle])) == plain(whole)
    merged = comparison(range(6), pieces=[planted])
    for name, c in whole.items():
        extra = merged[name]["loss"] - c["loss"]
        assert extra[:, 0].tolist() == ([0, 0, 1000, 1000, 0, 0] if c["replicates"] else [1000])


def test_of_pieces_only_the_replicates_that_are_asked_for_are_taken_in_their_order():
    whole = comparison(range(6))
    some = {name: curves for name, curves in comparison(range(3)).items() if name not in ("RN", "both(0.1)")}
    pieces = [some, comparison(range(4, 6))]
    assert plain(comparison(range(1, 5), pieces=pieces)) == plain(
        {name: part(curves, slice(1, 5)) for name, curves in whole.items()}
    )


def part(curves, rows):
    """The curves of some replicates; a deterministic setup has one row, which all share."""
    if not curves["replicates"]:
        return curves
    return {name: value if name == "steps" else value[rows] for name, value in curves.items()}


def saved(directory, replicate_range=None, **changes):
    given = {"replicates": 4, "replicate_range": replicate_range, "steps": 9} | changes
    settings = Settings("quick", "numpy", 1, str(directory), **given)
    curves = comparison(settings.choose_replicates(quick=1, paper=1))
    save_figure(plt.figure(), "kept", curves, settings)
    return settings


def test_runs_of_some_replicates_merge_to_the_record_of_all(tmp_path):
    saved(tmp_path / "all")
    pieces = [str(tmp_path / name) for name in ("b", "a")]
    saved(tmp_path / "a", [0, 3])
    saved(tmp_path / "b", [3, 4])
    settings = Settings(
        "quick", "numpy", 1, str(tmp_path / "merged"), pieces=pieces, replicates=4, replicate_range=None, steps=9
    )
    curves = comparison(range(4), pieces=load_pieces("kept", settings))
    save_figure(plt.figure(), "kept", curves, settings)
    assert all(isinstance(c["error"], np.ndarray) and isinstance(c["replicates"], list) for c in curves.values())
    assert (tmp_path / "merged" / "kept.json").read_bytes() == (tmp_path / "all" / "kept.json").read_bytes()


def test_pieces_with_overflow_are_numbers_again(tmp_path):
    settings = Settings("quick", "numpy", 1, str(tmp_path), pieces=[str(tmp_path)])
    curves = {"replicates": [0], "steps": [0, 1], "loss": np.array([[1.0, np.nan]]), "unmoved": np.array([[np.inf]])}
    save_figure(plt.figure(), "kept", {"SR": curves}, settings)
    (piece,) = load_pieces("kept", settings)
    np.testing.assert_array_equal(piece["SR"]["loss"], [[1.0, np.nan]])
    np.testing.assert_array_equal(piece["SR"]["unmoved"], [[np.inf]])


def test_pieces_of_another_experiment_are_refused(tmp_path):
    settings = saved(tmp_path)
    settings.pieces = [str(tmp_path)]
    settings.parameters["steps"] = 10
    with pytest.raises(ValueError, match=r"kept\.json: steps was 9; must be 10, as in this run"):
        load_pieces("kept", settings)
    path = tmp_path / "kept.json"
    path.write_text(path.read_text().replace('"replicates": [0, 1, 2, 3]', '"replicates": [0, 1, 2, 5]'))
    with pytest.raises(ValueError, match="the numbers are not those"):
        load_pieces("kept", settings)
    with pytest.raises(FileNotFoundError):
        load_pieces("lost", settings)


PARAMETERS = {
    "profile": "paper",
    "backend": "numpy",
    "seed": 2022,
    "fmt": "binary8",
    "eps": [0.1, 0.4],
    "stepsize": 0.5,
}
PARAMETERS |= {
    "steps": 9,
    "record_every": 3,
    "images": 60,
    "units": 4,
    "classes": [3, 8],
    "dataset_dir": "../data/mnist",
}


def piece(directory, **changes):
    """Write a record with other parameters; return the settings of the run that is to take it over."""
    given = {"replicates": 4, "replicate_range": [0, 2], **PARAMETERS}
    record = {"figure": "kept", "parameters": given | changes, "sha256": digest({}), "numbers": {}}
    (directory / "kept.json").write_text(json.dumps(record))
    return SimpleNamespace(pieces=[str(directory)], parameters=given)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_piece_with_any_other_parameter_is_refused_by_its_name(tmp_path, name):
    other = {"eps": [0.1], "classes": [8, 3]}.get(name, "another" if isinstance(PARAMETERS[name], str) else 1)
    settings = piece(tmp_path, **{name: other})
    with pytest.raises(ValueError, match=rf"kept\.json: {name} was .*; must be .*, as in this run"):
        load_pieces("kept", settings)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_parameter_that_only_one_has_is_refused(tmp_path, whose):
    settings = piece(tmp_path, **({"shuffle": 1} if whose == "theirs" else {}))
    settings.parameters |= {"shuffle": 1} if whose == "ours" else {}
    with pytest.raises(ValueError, match="shuffle was"):
        load_pieces("kept", settings)


@pytest.mark.parametrize("other", [{"replicates": 9}, {"replicate_range": None}, {"replicate_range": [2, 4]}])
def test_a_piece_may_be_of_any_replicates(tmp_path, other):
    assert load_pieces("kept", piece(tmp_path, **other)) == [{}]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_drawn_where_there_is_a_terminal(terminal, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    comparison(chosen=setups("binary8", []))
    assert ("binary32" in capsys.readouterr().err) == terminal


@pytest.mark.parametrize("last", [1, 2], ids=["left early", "whole"])
@pytest.mark.parametrize("reader", [False, True])
def test_progress_in_a_notebook_is_for_a_reader_and_leaves_nothing(reader, last, monkeypatch, capsys):
    cleared = []
    kernel = SimpleNamespace(get_parent=lambda channel: {"content": {"allow_stdin": reader}})
    monkeypatch.setattr("srlib.companion.experiments.get_ipython", lambda: SimpleNamespace(kernel=kernel))
    monkeypatch.setattr("srlib.companion.experiments.clear_output", lambda: cleared.append(True))
    found = []
    for step in progress(range(3), "steps"):
        found.append(step)
        if step == 1 == last:
            break
    assert found == list(range(last + 1))
    assert ("steps" in capsys.readouterr().err) == bool(cleared) == reader


def test_the_measured_beta_is_that_of_the_total_error_in_the_mean():
    """4000 replicates of one step: five standard errors of the mean, which the replicates tell, and Student's t."""
    (setup,) = setups("binary8", [0.4], baseline=None)[-2:-1]
    x0 = np.array([80.0, 7.0, 0.875])
    mean, variance = total_error(x0, QUADRATIC.gradient(x0), stepsize=0.25, **setup.options)
    g = QUADRATIC.gradient(x0)
    options = {"stepsize": 0.25, "steps": 1}
    beta = measured_beta(QUADRATIC, x0, setup, rng(replicates=4000), **options)
    error = np.sqrt(g**2 @ variance / 4000) / (0.25 * g @ g)
    assert setup.name == "signed_SR_eps(0.4)"
    assert abs(beta[0] + g @ mean / (0.25 * g @ g)) < 5 * error


def test_phases_are_shorter_and_shorter():
    assert eps_schedule([0.4, 0.1, 0.02], 60) == [0.4] * 30 + [0.1] * 20 + [0.02] * 10
    assert eps_schedule([0.4, 0.1], 3) == [0.4, 0.4, 0.1]
    assert eps_schedule([0.1], 5) == [0.1] * 5
