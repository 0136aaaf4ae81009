"""MNIST-shaped data from the four IDX files that MNIST (LeCun, Cortes and Burges) made the custom."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

_IMAGES_MAGIC = 0x0803  # unsigned bytes, three dimensions
_LABELS_MAGIC = 0x0801  # unsigned bytes, one dimension
_CONTENT = {_IMAGES_MAGIC: "images", _LABELS_MAGIC: "labels"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, one a row, and their labels.

    Attributes
    ----------
    train_images, test_images : uint8 arrays of shape (count, rows * columns)
        Pixels, row by row; 0 is the background.
    train_labels, test_labels : uint8 arrays of shape (count,)
        Class of each image, from 0 on.
    shape : (int, int)
        Rows and columns of an image.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    shape: tuple[int, int]

    @property
    def classes(self) -> int:
        """Number of classes: one more than the largest training label."""
        return int(self.train_labels.max()) + 1


def load(directory: str | Path) -> Dataset:
    """Read `train-` and `t10k-images-idx3-ubyte` and `-labels-idx1-ubyte`, plain or with `.gz`, from a directory.

    The companion's own copy, ``data/mnist``, is the MNIST database of LeCun, Cortes and Burges (1998). Fashion-MNIST
    (Xiao, Rasul and Vollgraf 2017) and other data in the same files load in the same way.

    Parameters
    ----------
    directory : path
        Where the four files lie. If there is a ``SHA256SUMS`` beside them, in the format of ``sha256sum`` and of the
        decompressed content, each of the four must be in it and agree with it.

    Returns
    -------
    Dataset
        All images and labels, as read-only arrays in the order of the files.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, is not what its name says, or does not fit the others; the message names it.
    """
    directory = Path(directory)
    sums = _read_sums(directory / "SHA256SUMS")
    train_images, train_labels = _load_pair(directory, "train", sums)
    test_images, test_labels = _load_pair(directory, "t10k", sums)
    if test_images.shape[1:] != train_images.shape[1:]:
        raise ValueError(
            f"{directory}: test images are {test_images.shape[1:]}, training images {train_images.shape[1:]}"
        )
    if test_labels.max() > train_labels.max():
        raise ValueError(f"{directory}: test label {test_labels.max()} is above every training label")
    return Dataset(
        train_images.reshape(len(train_images), -1),
        train_labels,
        test_images.reshape(len(test_images), -1),
        test_labels,
        train_images.shape[1:],
    )


def subset(data: Dataset, count: int, every: int = 1, start: int = 0) -> Dataset:
    """Keep `count` training images from the one numbered `start` on, and of the test images one of so many.

    Raises
    ------
    ValueError
        If `count` is not between 1 and the number of training images from `start` on.
    """
    if not 1 <= count <= len(data.train_labels) - start:
        raise ValueError(f"count is {count}; must be from 1 to {len(data.train_labels) - start}")
    train, test = slice(start, start + count), slice(None, None, every)
    kept = data.train_images[train], data.train_labels[train], data.test_images[test], data.test_labels[test]
    return Dataset(*kept, data.shape)


def hold_out(data: Dataset, share: int = 10) -> tuple[Dataset, Dataset]:
    """Keep every `share`-th training image back: for choices that neither training nor test data should make.

    Returns
    -------
    data, held : Dataset
        Both with the other training images; the first with the test images of `data`, the second with those kept back.

    Raises
    ------
    ValueError
        If `share` is not at least 2, or more than the number of training images.
    """
    if not 2 <= share <= len(data.train_labels):
        raise ValueError(f"share is {share}; must be from 2 to {len(data.train_labels)}")
    kept = np.arange(len(data.train_labels)) % share == share - 1
    rest = replace(data, train_images=data.train_images[~kept], train_labels=data.train_labels[~kept])
    return rest, replace(rest, test_images=data.train_images[kept], test_labels=data.train_labels[kept])


def select_classes(data: Dataset, classes: Sequence[int]) -> Dataset:
    """Keep the images of some classes, labelled 0, 1, … in the order given.

    ``select_classes(mnist, (3, 8))`` is the problem of experiment E4: digits 3 (label 0) against 8 (label 1).

    Raises
    ------
    ValueError
        If no class is given, or one is given twice, or has no image in the training or in the test set.
    """
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes is {tuple(classes)}; must be one or more different labels")
    train_images, train_labels = _relabel(data.train_images, data.train_labels, classes)
    test_images, test_labels = _relabel(data.test_images, data.test_labels, classes)
    return Dataset(train_images, train_labels, test_images, test_labels, data.shape)


def _relabel(images, labels, classes):
    missing = [label for label in classes if label not in labels]
    if missing:
        raise ValueError(f"classes has {missing[0]}; must be among the labels {np.unique(labels).tolist()}")
    position = np.zeros(256, dtype=np.uint8)
    position[list(classes)] = np.arange(len(classes))
    kept = np.isin(labels, classes)
    return images[kept], position[labels[kept]]


def _load_pair(directory, part, sums):
    """Return the images, (count, rows, columns), and the labels, (count,), of ``train`` or ``t10k``."""
    images = _load_array(directory, f"{part}-images-idx3-ubyte", _IMAGES_MAGIC, sums)
    labels = _load_array(directory, f"{part}-labels-idx1-ubyte", _LABELS_MAGIC, sums)
    if len(images) != len(labels):
        raise ValueError(f"{directory}: {len(images)} images but {len(labels)} labels in the {part} files")
    return images, labels


def _load_array(directory, name, magic, sums):
    path = _find(directory, name)
    content = _read(path)
    if sums is not None:
        _verify(path, name, content, sums)
    return _parse_idx(path, content, magic)


def _find(directory, name):
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{directory}: no {name}, with or without .gz")


def _read(path):
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from None


def _read_sums(path):
    """Return {name: digest} from a file that sha256sum could have written, None where there is no such file."""
    if not path.is_file():
        return None
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise ValueError(f"{path}: every line must be a SHA-256 and a file name")
    return {name.lstrip("*"): digest.lower() for digest, name in lines}


def _verify(path, name, content, sums):
    if name not in sums:
        raise ValueError(f"{path}: SHA256SUMS has no line for {name}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sums[name]:
        raise ValueError(f"{path}: SHA-256 of the content is {digest}, SHA256SUMS says {sums[name]}")


def _parse_idx(path, content, magic):
    """Return the array in an IDX file: a magic number, the dimensions (big-endian, 4 bytes each), then the bytes."""
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(
            f"{path}: magic number {found} ({_CONTENT.get(found, 'neither images nor labels')}), "
            f"must be {magic} ({_CONTENT[magic]})"
        )
    header = 4 + 4 * (magic & 0xFF)  # the last byte of the magic number counts the dimensions
    shape = tuple(int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4))
    if len(content) != header + math.prod(shape):
        raise ValueError(f"{path}: {len(content)} bytes, must be {header + math.prod(shape)} for dimensions {shape}")
    if 0 in shape:
        raise ValueError(f"{path}: dimensions {shape}, must all be positive")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
