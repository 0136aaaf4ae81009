import hashlib
import json
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from srlib.companion.experiments import setups
from srlib.companion.figures import plot_band, save_figure, scheme_style, use_style
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


def test_every_setup_has_a_line_of_its_own():
    styles = [scheme_style(setup.name) for setup in setups("binary8", [0.1, 0.2, 0.4])]
    assert all(a != b for a, b in combinations([(s["color"], str(s["linestyle"])) for s in styles], 2))
    assert len({style["label"] for style in styles}) == len(styles)
