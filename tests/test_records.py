import matplotlib.pyplot as plt
import pytest

from srlib.figures import save_figure
from srlib.records import is_record, load_record, stamp
from srlib.settings import Settings


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
