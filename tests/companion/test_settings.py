import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from srlib import Format
from srlib.companion.settings import Settings, resolve_path

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_a_parameter_is_as_given_or_as_the_profile_says_and_is_recorded():
    given = Settings("quick", "numpy", 1, "out", replicates=7, steps=None)
    assert given.choose("replicates", quick=2, paper=20) == 7
    assert given.choose("steps", quick=60, paper=150) == 60
    assert given.parameters == {"profile": "quick", "backend": "numpy", "seed": 1, "replicates": 7, "steps": 60}
    assert Settings("paper", "numpy", 1, "out", steps=None).choose("steps", quick=60, paper=150) == 150


def test_the_stream_has_the_seed():
    rng = Settings("quick", "numpy", 5, "out").new_rng(replicates=3)
    assert (rng.seed, rng.replicates) == (5, range(3))


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_the_first_and_the_last_seed_are_taken(seed):
    assert Settings("paper", "numpy", seed, "out", eps=[0.0, 0.999]).new_rng().seed == seed


@pytest.mark.parametrize("value", [61440.0, -57345.0, 1e300])
def test_a_number_beyond_the_format_is_no_value_of_it(value):
    settings = Settings("quick", "numpy", 1, "out", start=value)
    with pytest.raises(
        ValueError, match=re.escape(f"start is {value}; must be a value of binary8, whose largest is 57344")
    ):
        settings.value("start", Format.parse("binary8"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("slow", "numpy", 1), ValueError, "profile is 'slow'; must be one of quick, paper"),
        (("quick", "jax", 1), ValueError, "backend is 'jax'; must be one of numpy, cupy"),
        (("quick", "numpy", -1), ValueError, "seed is -1; must be from 0"),
        (("quick", "numpy", 2**64), ValueError, f"seed is {2**64}; must be from 0 to {2**64 - 1}"),
    ],
)
def test_bad_settings_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Settings(*arguments, "out")


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (2.5, TypeError), ("3", TypeError)])
def test_a_count_that_is_none_is_refused(value, error):
    with pytest.raises(error, match="replicates is"):
        Settings("quick", "numpy", 1, "out", replicates=value).choose("replicates", quick=1, paper=2)


def no_device(count):
    raise RuntimeError("no CUDA-capable device is detected")


def test_cupy_is_refused_without_cupy_and_without_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match="backend is 'cupy', but CuPy cannot be imported"):
        Settings("quick", "cupy", 1, "out")
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(arange=no_device))
    with pytest.raises(RuntimeError, match="there is no working GPU"):
        Settings("quick", "cupy", 1, "out")


def test_replicates_are_all_or_those_of_the_range():
    def chosen(replicate_range):
        settings = Settings("quick", "numpy", 1, "out", replicates=6, replicate_range=replicate_range)
        return settings.choose_replicates(quick=1, paper=2)

    assert chosen(None) == range(6) and chosen([2, 5]) == range(2, 5)
    with pytest.raises(TypeError, match=r"replicate_range is 3; must be None or \[first, last \+ 1\]"):
        chosen(3)
    with pytest.raises(ValueError, match=r"replicate_range is \[3, 3\]; must be"):
        chosen([3, 3])
    with pytest.raises(ValueError, match="replicate_range is 7; must be from 0 to 6"):
        chosen([0, 7])


def test_pieces_are_not_recorded():
    assert "pieces" not in Settings("quick", "numpy", 1, "out", pieces=["a"]).parameters


def test_a_parameter_that_must_be_a_value_of_a_format_is_checked():
    settings = Settings("quick", "numpy", 1, "out", start=3584.0, minimiser=1.1)
    assert settings.value("start", Format.parse("binary8")) == 3584.0
    with pytest.raises(ValueError, match=r"start is 3584.0; must be a value of e4m3, whose largest is 448"):
        settings.value("start", Format.parse("e4m3"))
    with pytest.raises(
        ValueError, match=r"minimiser is 1\.1; must be a value of binary8, as are its neighbours 1\.0 and 1\.25"
    ):
        settings.value("minimiser", Format.parse("binary8"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fmt": "binary7"}, "format is 'binary7'"),
        ({"low_fmt": "fixed(1)"}, "format is 'fixed(1)'"),
        ({"fmt": 8}, "format is 8"),
        ({"eps": [0.1, 1.5]}, "eps is 1.5; must be at least 0 and below 1"),
        ({"eps": -0.1}, "eps is -0.1; must be at least 0 and below 1"),
        ({"eps": 1}, "eps is 1.0; must be at least 0 and below 1"),
        ({"eps": []}, "eps is []; must not be empty"),
        ({"eps": ()}, "eps is (); must not be empty"),
        ({"eps": True}, "eps is True; must be a real number"),
        ({"eps": ["a", "b"]}, "eps is 'a'; must be a real number"),
        ({"eps": "0.1"}, "eps is '0.1'; must be a real number"),
        ({"eps": None}, "eps is None; must be a real number"),
        ({"eps": [[0.1]]}, "eps is [0.1]; must be a real number"),
        ({"eps": float("nan")}, "eps is nan; must be finite"),
        ({"schedules": [[0.1], []]}, "schedules is []; must not be empty"),
        ({"schedules": [[0.1, 1.0]]}, "schedules is 1.0; must be at least 0 and below 1"),
        ({"stepsize": 0.0}, "stepsize is 0.0; must be finite and positive"),
        ({"low_stepsize": float("inf")}, "low_stepsize is inf; must be finite and positive"),
        ({"condition": "large"}, "condition is 'large'; must be a real number"),
        ({"stepsizes": [0.5, -1.0]}, "stepsizes is -1.0; must be finite and positive"),
        ({"stepsizes": []}, "stepsizes is []; must not be empty"),
        ({"stepsizes": [False]}, "stepsizes is False; must be a real number"),
        ({"start": "abc"}, "start is 'abc'; must be a real number"),
        ({"minimiser": [1.0]}, "minimiser is [1.0]; must be a real number"),
        ({"minimiser": float("inf")}, "minimiser is inf; must be finite"),
        ({"steps": 2.0}, "steps is 2.0; must be an integer"),
        ({"steps": True}, "steps is True; must be an integer"),
        ({"units": 0}, "units is 0; must be at least 1"),
        ({"classes": [3, "8"]}, "classes is '8'; must be an integer"),
        ({"classes": [3, 256]}, "classes is 256; must be from 0 to 255"),
        ({"dataset_dir": 5}, "dataset_dir is 5; must be text"),
    ],
)
def test_parameters_that_notebooks_share_are_checked_at_once_and_refused_in_a_line(parameters, message):
    with pytest.raises((TypeError, ValueError)) as refused:
        Settings("quick", "numpy", 1, "out", **parameters)
    assert str(refused.value).splitlines()[0].startswith(message)


def test_numbers_are_floats_and_formats_have_their_names_whatever_they_were():
    given = {
        "eps": [0, np.float32(0.5)],
        "stepsize": 1,
        "fmt": "e5m2",
        "low_fmt": "fixed( 4, 4 )",
        "steps": np.int64(3),
    }
    found = Settings("quick", "numpy", 1, "out", **given).parameters
    assert repr(list(found.values())[3:]) == "[[0.0, 0.5], 1.0, 'binary8', 'fixed(4,4)', 3]"


@pytest.mark.parametrize(("given", "schedules"), [(0, [[0.0]]), ([0.1, [0.2]], [[0.1], [0.2]])])
def test_schedules_are_lists_of_lists(given, schedules):
    assert Settings("quick", "numpy", 1, "out", schedules=given).parameters["schedules"] == schedules


def test_a_number_is_a_list_of_one_where_a_list_is_wanted_and_no_list_is_a_number():
    settings = Settings("quick", "numpy", 1, "out", eps=0, stepsizes=[1, 0.5])
    assert settings.number("eps") == 0.0
    assert settings.numbers("eps") == settings.parameters["eps"] == [0.0]
    assert settings.numbers("stepsizes", below=1.5) == [1.0, 0.5]
    with pytest.raises(TypeError, match=r"stepsizes is \[1\.0, 0\.5\]; must be a real number"):
        settings.number("stepsizes")


@pytest.mark.parametrize("given", [3, [3], [3, 3], [1, 2, 3]])
def test_a_pair_is_two_different_integers(given):
    assert Settings("quick", "numpy", 1, "out", classes=(8, 3)).pair("classes") == [8, 3]
    with pytest.raises(ValueError, match=re.escape(f"classes is {given}; must be two different integers")):
        Settings("quick", "numpy", 1, "out", classes=given).pair("classes")


def test_a_number_beyond_what_the_notebook_allows_is_refused():
    settings = Settings("quick", "numpy", 1, "out", stepsize=1.5, stepsizes=[0.5, 1])
    assert settings.number("stepsize", most=1.5) == 1.5
    with pytest.raises(ValueError, match=r"stepsize is 1\.5; must be at most 1"):
        settings.number("stepsize", most=1)
    with pytest.raises(ValueError, match=r"stepsizes is 1\.0; must be below 1"):
        settings.numbers("stepsizes", below=1)


@pytest.mark.parametrize(("fmt", "count"), [("binary8", 247), ("bfloat16", 65279), ("binary32", 2**24 * 255 - 1)])
def test_a_format_with_too_many_values_to_list_is_refused(fmt, count):
    settings = Settings("quick", "numpy", 1, "out", fmt=fmt)
    assert settings.format("fmt", most=count) == Format.parse(fmt)
    with pytest.raises(ValueError, match=f"fmt is {fmt}, of {count} values; must have at most {count - 1}"):
        settings.format("fmt", most=count - 1)


def test_a_path_is_relative_to_the_notebooks_of_the_checkout_from_wherever_it_is_not_to_those_that_are_here(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(NOTEBOOKS)
    assert resolve_path("../data/mnist") == Path("../data/mnist")
    for place in (NOTEBOOKS.parent, NOTEBOOKS.parent / "tests" / "batch", tmp_path):
        monkeypatch.chdir(place)
        assert resolve_path("../data/mnist") == NOTEBOOKS / "../data/mnist"
        assert resolve_path(str(tmp_path / "mine")) == tmp_path / "mine"


@pytest.mark.parametrize("papermill", [{}, {"input_path": "mine.ipynb", "output_path": "mine.ipynb"}])
def test_paths_in_a_notebook_of_ones_own_are_relative_to_it(tmp_path, monkeypatch, papermill):
    (tmp_path / "mine.ipynb").write_text(json.dumps({"cells": [], "metadata": {"papermill": papermill}}))
    monkeypatch.chdir(tmp_path)
    settings = Settings("quick", "numpy", 1, "figures", pieces="pieces", dataset_dir="data")
    assert (settings.output_dir, settings.pieces) == (Path("figures"), [Path("pieces")])
    assert settings.parameters["dataset_dir"] == "data"


@pytest.mark.parametrize(
    "content", ['{"cells', "[]", '{"metadata": {"papermill": {"input_path": "a", "output_path": "b"}}}']
)
def test_what_papermill_is_writing_here_does_not_make_it_the_directory_of_a_notebook(tmp_path, monkeypatch, content):
    (tmp_path / "out.ipynb").write_text(content)
    monkeypatch.chdir(tmp_path)
    assert resolve_path("../data/mnist") == NOTEBOOKS / "../data/mnist"


def test_the_checkout_around_is_before_that_of_the_package(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00_index.ipynb").write_text("{}")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert resolve_path("figures") == tmp_path / "notebooks" / "figures"


@pytest.mark.parametrize("given", [0, -3])
def test_a_count_of_0_is_refused_and_not_taken_for_none(given):
    settings = Settings("quick", "numpy", 1, "figures", own=given)
    with pytest.raises(ValueError, match=f"^own is {given}; must be at least 1"):
        settings.choose("own", quick=2, paper=3)


def test_what_is_chosen_is_an_int():
    settings = Settings("quick", "numpy", 1, "figures", own=np.int64(5))
    assert type(settings.choose("own", quick=2, paper=3)) is int
