"""Compiled code that is kept on disk: where, and for which sources it holds."""

import hashlib
import os
import tempfile
from functools import lru_cache, partial
from pathlib import Path

import numba

# Modules of kernels, those whose constants they take, and how they are compiled.
SOURCES = ("elementwise", "elementary", "llvm", "cpu", "products", "rule", "threads", "../philox", "cache")


def kept(compiler, function):
    """Compile a function with one of Numba's decorators, to be compiled anew when any source of kernels has changed.

    Numba looks at the file of the function alone, and would keep what it has inlined from others.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or _place()
    try:
        compiled = compiler(function)
    finally:
        numba.config.CACHE_DIR = before
    if not numba.config.DISABLE_JIT:
        compiled._cache._cache_file._source_stamp = stamp()
    return compiled


@lru_cache
def stamp() -> str:
    """Return the SHA-256 of all sources of kernels."""
    code = [(Path(__file__).parent / f"{name}.py").read_bytes() for name in SOURCES]
    return hashlib.sha256(b"".join(code)).hexdigest()


@lru_cache
def _place():
    """Return a temporary directory where Numba would find none to keep code in, and refuse to compile; else ""."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    while not os.path.exists(home) and os.path.dirname(home) != home:
        home = os.path.dirname(home)
    if any(os.access(path, os.W_OK) for path in (Path(__file__).parent, home)):
        return ""
    user = getattr(os, "getuid", lambda: 0)()  # Windows has none
    place = os.path.join(tempfile.gettempdir(), f"srlib-{user}")
    os.makedirs(place, mode=0o700, exist_ok=True)
    own = os.stat(place, follow_symlinks=False)
    if (own.st_uid, own.st_mode & 0o777) != (user, 0o700):  # another user's: code is loaded from there
        place = tempfile.mkdtemp(prefix="srlib-")
    return place


# Without the wrapper for callers in C: there are none.
jit = partial(kept, numba.njit(nogil=True, cache=True, boundscheck=False, no_cfunc_wrapper=True))
