"""Where results are kept: a directory, or any place that fsspec knows by a URL."""

import errno
import glob
import hashlib
import os
import shutil
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from srlib.companion.records import write_atomically

PARTS = ("figures", "notebooks", "manifests", "failed")  # directories of results


class Store:
    """Files under one path or URL, each written as a whole or not at all.

    Attributes
    ----------
    place : str
        The path, absolute, or the URL.
    local : Path or None
        The path; None for a URL of something else than local files.

    Raises
    ------
    ValueError, ImportError
        If fsspec knows no such protocol, or lacks the package for it.
    """

    def __init__(self, place: str | Path):
        if "://" in str(place):
            self._files, self._root = fsspec.url_to_fs(str(place))
        else:  # nothing in the name of a directory is for fsspec to interpret
            self._files, self._root = LocalFileSystem(), str(Path(place).expanduser().absolute())
        is_local = isinstance(self._files, LocalFileSystem)
        self.local = Path(self._root).absolute() if is_local else None
        self.place = str(self.local) if is_local else str(place).rstrip("/")

    def __truediv__(self, name: str) -> "Store":
        """Return what is below a name, as a Store of its own."""
        return Store(f"{self.place}/{name}") if name else self

    def path(self, name: str) -> str:
        """Return where a file is."""
        return f"{self.place}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return what a file holds, None if there is none."""
        try:
            return self._files.cat_file(f"{self._root}/{name}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a file, None if there is none."""
        content = self.read(name)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def names(self, pattern: str) -> list[str]:
        """Return the names of the files that fit a pattern, sorted."""
        found = self._files.glob(f"{glob.escape(self._root)}/{pattern}")
        return sorted(str(path).removeprefix(self._root).lstrip("/") for path in found)

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        if self.local is None:
            self._files.pipe_file(f"{self._root}/{name}", content)
        else:
            (self.local / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.local / name, content)

    def check_writable(self) -> None:
        """Raise an exception, such as OSError, if nothing can be written here or to a directory of results."""
        parts = [part for part in PARTS if self.local is not None and os.path.lexists(self.local / part)]
        for part in ("", *(f"{part}/" for part in parts)):
            self.write(f"{part}.writable", b"")
            self.remove(f"{part}.writable")

    def take(self, path: Path, name: str) -> None:
        """Move a local file here."""
        if self.local is None:
            self._files.put_file(str(path), f"{self._root}/{name}")
            path.unlink()
            return
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = target.with_name(f".{target.name}.{os.getpid()}")  # the directory may be a link to another disk
            shutil.move(path, beside)
            os.replace(beside, target)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        if self._files.exists(f"{self._root}/{name}"):
            self._files.rm_file(f"{self._root}/{name}")
