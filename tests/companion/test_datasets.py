import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from shared import idx

from srlib.companion import datasets

MNIST = Path(__file__).parents[2] / "data" / "mnist"
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture
def content():
    """Six training and three test images of 2 x 3 pixels, in the classes 0, 1 and 2."""
    return {
        TRAIN_IMAGES: idx(np.arange(36).reshape(6, 2, 3)),
        TRAIN_LABELS: idx(np.array([2, 0, 1, 0, 2, 1])),
        TEST_IMAGES: idx(np.arange(100, 118).reshape(3, 2, 3)),
        TEST_LABELS: idx(np.array([1, 0, 2])),
    }


def write(directory, content):
    for name, data in content.items():
        (directory / name).write_bytes(data)


def write_sums(directory, content):
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in content.items()]
    (directory / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture
def tiny(tmp_path, content):
    write(tmp_path, content)
    return datasets.load(tmp_path)


@pytest.fixture(scope="module")
def mnist():
    return datasets.load(MNIST)


def test_mnist_has_its_published_counts(mnist):
    assert mnist.train_images.shape == (60000, 784)
    assert mnist.test_images.shape == (10000, 784)
    assert mnist.shape == (28, 28)
    assert mnist.classes == 10
    assert np.bincount(mnist.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_starts_with_a_five_that_is_bright_in_the_middle_and_dark_at_the_border(mnist):
    image = mnist.train_images[0].reshape(mnist.shape)
    assert mnist.train_labels[0] == 5
    assert image[4:24, 4:24].max() == 255
    assert not image[:4].any() and not image[:, :4].any()


def test_digits_3_against_8_are_11982_to_train_and_1984_to_test(mnist):
    pair = datasets.select_classes(mnist, (3, 8))
    assert np.bincount(pair.train_labels).tolist() == [6131, 5851]
    assert np.bincount(pair.test_labels).tolist() == [1010, 974]
    assert pair.train_images.shape == (11982, 784)
    assert pair.classes == 2


def test_the_checksums_of_mnist_are_the_ones_of_its_readme():
    readme = (MNIST / "README.md").read_text()
    lines = (MNIST / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 4
    assert all(line in readme for line in lines)


def test_pixels_and_labels_come_in_the_order_of_the_files(tiny):
    np.testing.assert_array_equal(tiny.train_images, np.arange(36).reshape(6, 6))
    np.testing.assert_array_equal(tiny.test_images, np.arange(100, 118).reshape(3, 6))
    assert tiny.train_labels.tolist() == [2, 0, 1, 0, 2, 1]
    assert tiny.shape == (2, 3)
    assert tiny.classes == 3


def test_plain_and_gzipped_files_mix(tmp_path, content, tiny):
    (tmp_path / TRAIN_IMAGES).unlink()
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(content[TRAIN_IMAGES]))
    np.testing.assert_array_equal(datasets.load(tmp_path).train_images, tiny.train_images)


def test_a_subset_is_the_first_training_images_and_all_test_images_or_one_of_so_many(tiny):
    part = datasets.subset(tiny, 4)
    assert part.train_labels.tolist() == [2, 0, 1, 0]
    np.testing.assert_array_equal(part.train_images, tiny.train_images[:4])
    np.testing.assert_array_equal(part.test_images, tiny.test_images)
    assert datasets.subset(tiny, 1).train_labels.tolist() == [2]
    assert datasets.subset(tiny, 6).train_labels.tolist() == tiny.train_labels.tolist()
    for every in (2, 3, 100):
        part = datasets.subset(tiny, 4, every)
        kept = range(0, len(tiny.test_labels), every)
        assert part.train_labels.tolist() == [2, 0, 1, 0]
        np.testing.assert_array_equal(part.test_images, [tiny.test_images[i] for i in kept])
        np.testing.assert_array_equal(part.test_labels, [tiny.test_labels[i] for i in kept])


@pytest.mark.parametrize("count", [0, 7, -1])
def test_a_subset_larger_than_the_data_or_empty_is_refused(tiny, count):
    with pytest.raises(ValueError, match=f"count is {count}; must be from 1 to 6"):
        datasets.subset(tiny, count)


def test_disjoint_subsets_follow_each_other(tiny):
    parts = [datasets.subset(tiny, 3, start=start).train_labels.tolist() for start in (0, 3)]
    assert [*parts[0], *parts[1]] == tiny.train_labels.tolist()
    with pytest.raises(ValueError, match="count is 4; must be from 1 to 3"):
        datasets.subset(tiny, 4, start=3)


def test_selected_classes_are_numbered_in_the_order_given(tiny):
    pair = datasets.select_classes(tiny, (2, 0))
    assert pair.train_labels.tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(pair.train_images, tiny.train_images[[0, 1, 3, 4]])
    assert pair.test_labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((0, 5), r"classes has 5; must be among the labels \[0, 1, 2\]"),
        ((1, 1), r"classes is \(1, 1\); must be one or more different labels"),
        ((), r"classes is \(\); must be one or more different labels"),
    ],
)
def test_classes_that_are_absent_or_repeated_or_none_are_refused(tiny, classes, message):
    with pytest.raises(ValueError, match=message):
        datasets.select_classes(tiny, classes)


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS])
def test_a_missing_file_is_named(tmp_path, content, name):
    write(tmp_path, content)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name}, with or without .gz"):
        datasets.load(tmp_path)


def damage(content, name, change):
    return content | {name: change(content[name])}


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "bytes, must be"),
        (lambda data: data + b"\0", "bytes, must be"),
        (lambda data: data[:6], "bytes, must be"),
        (lambda data: b"", "magic number 0"),
        (lambda data: b"\0\0\x0d" + data[3:], r"\(neither images nor labels\), must be"),
    ],
    ids=["a byte too few", "a byte too many", "half a header", "empty", "floats"],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, content, name, change, message):
    write(tmp_path, damage(content, name, change))
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        datasets.load(tmp_path)


def test_labels_where_images_are_expected_are_refused(tmp_path, content):
    write(tmp_path, content | {TRAIN_IMAGES: content[TRAIN_LABELS], TRAIN_LABELS: content[TRAIN_IMAGES]})
    with pytest.raises(ValueError, match=r"magic number 2049 \(labels\), must be 2051 \(images\)"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("cut", [3, 20, -1])
def test_a_truncated_gzip_file_is_refused(tmp_path, content, cut):
    write(tmp_path, content)
    (tmp_path / TEST_IMAGES).unlink()
    (tmp_path / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(content[TEST_IMAGES])[:cut])
    with pytest.raises(ValueError, match=f"{TEST_IMAGES}.gz: damaged gzip file"):
        datasets.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (TRAIN_LABELS, np.zeros(5), "6 images but 5 labels in the train files"),
        (TEST_IMAGES, np.zeros((3, 3, 2)), r"test images are \(3, 2\), training images \(2, 3\)"),
        (TEST_LABELS, np.array([0, 1, 3]), "test label 3 is above every training label"),
        (TRAIN_IMAGES, np.zeros((0, 2, 3)), r"dimensions \(0, 2, 3\), must all be positive"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(tmp_path, content, name, array, message):
    write(tmp_path, content | {name: idx(array)})
    with pytest.raises(ValueError, match=message):
        datasets.load(tmp_path)


def test_declared_checksums_are_of_the_decompressed_content(tmp_path, content):
    write_sums(tmp_path, content)
    write(tmp_path, {f"{name}.gz": gzip.compress(data) for name, data in content.items()})
    assert datasets.load(tmp_path).classes == 3


def test_content_that_disagrees_with_its_checksum_is_refused(tmp_path, content):
    write_sums(tmp_path, content)
    write(tmp_path, damage(content, TRAIN_IMAGES, lambda data: data[:-1] + b"\0"))
    with pytest.raises(ValueError, match=f"{TRAIN_IMAGES}: SHA-256 of the content is"):
        datasets.load(tmp_path)


def test_checksums_that_leave_a_file_out_are_refused(tmp_path, content):
    write_sums(tmp_path, {name: content[name] for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES)})
    write(tmp_path, content)
    with pytest.raises(ValueError, match=f"SHA256SUMS has no line for {TEST_LABELS}"):
        datasets.load(tmp_path)


def test_checksums_in_another_format_are_refused(tmp_path, content):
    (tmp_path / "SHA256SUMS").write_text("no checksums here\njust-one-word\n")
    write(tmp_path, content)
    with pytest.raises(ValueError, match="every line must be a SHA-256 and a file name"):
        datasets.load(tmp_path)


def test_every_tenth_training_image_is_held_out():
    images = np.arange(25, dtype=np.uint8)[:, None]
    data = datasets.Dataset(images, images[:, 0] % 3, images[:4] + 100, images[:4, 0], (1, 1))
    rest, held = datasets.hold_out(data)
    assert held.test_images[:, 0].tolist() == [9, 19] and held.test_labels.tolist() == [0, 1]
    assert rest.train_images[:, 0].tolist() == [i for i in range(25) if i not in (9, 19)]
    np.testing.assert_array_equal(rest.train_labels, rest.train_images[:, 0] % 3)
    np.testing.assert_array_equal(held.train_images, rest.train_images)
    np.testing.assert_array_equal(rest.test_images, data.test_images)
    assert datasets.hold_out(data, 2)[1].test_images[:, 0].tolist() == list(range(1, 25, 2))
    assert datasets.hold_out(data, 25)[1].test_images[:, 0].tolist() == [24]
    for share in (1, 26):
        with pytest.raises(ValueError, match=f"share is {share}; must be from 2 to 25"):
            datasets.hold_out(data, share)
