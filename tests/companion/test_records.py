import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from srlib.companion.figures import save_figure
from srlib.companion.records import as_text, is_record, load_record, stamp
from srlib.companion.settings import Settings


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"figure": "f"}', "\xff"])
def test_another_file_is_no_record(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content.encode("latin-1"))
    assert not is_record(path)


def test_a_stamp_is_all_that_changes_in_a_record(tmp_path):
    settings = Settings("quick", "numpy", 1, str(tmp_path))
    save_figure(plt.figure(), "kept", {"x": [1.0, 2.0]}, settings)
    path = tmp_path / "kept.json"
    before = load_record(path)
    stamp(path, "abc")
    assert is_record(path) and load_record(path) == before | {"identity": "abc"}
    once = path.read_bytes()
    stamp(path, "abc")
    assert path.read_bytes() == once


@pytest.mark.parametrize("text", ["[ a ]", "[\n 1\n]", "[ 1 , 2 ]", "{ }", '\\ " [', "ε ∂"])
def test_numbers_and_texts_of_a_record_are_read_as_they_were_written(tmp_path, text):
    settings = Settings("quick", "numpy", 1, str(tmp_path), title=text)
    numbers = {"text": text, text: [text, 1.0, None], "nested": [[1, text], [], {}, {text: []}]}
    save_figure(plt.figure(), "kept", numbers, settings)
    record = load_record(tmp_path / "kept.json")
    assert record["numbers"] == numbers and record["parameters"]["title"] == text


@pytest.mark.parametrize("value", [0.1234567891, 1 / 3, 1e-300, 123456789.123456789, 2.0**-1074, -0.0])
def test_a_record_loses_no_digit(tmp_path, value):
    save_figure(plt.figure(), "kept", {"x": np.array([value])}, Settings("quick", "numpy", 1, str(tmp_path), w=value))
    record = load_record(tmp_path / "kept.json")
    assert repr(record["numbers"]["x"][0]) == repr(value) and repr(record["parameters"]["w"]) == repr(value)


def test_lists_of_numbers_are_on_one_line_each():
    record = {"a": [1, 2.5, "x"], "b": [[1, 2], [3]], "c": {"d": []}, "e": {}}
    lines = [
        "{",
        ' "a": [1, 2.5, "x"],',
        ' "b": [',
        "  [1, 2],",
        "  [3]",
        " ],",
        ' "c": {',
        '  "d": []',
        " },",
        ' "e": {}',
        "}",
    ]
    assert as_text(record).splitlines() == lines and json.loads(as_text(record)) == record
