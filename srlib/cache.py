"""Compiled code that is kept on disk: for which sources it holds."""

import hashlib
from importlib import resources

import numba

# Modules of kernels, and those whose constants they take.
SOURCES = ("cpu", "elementary", "philox", "products", "rules")


def stamp() -> str:
    """Return the SHA-256 of all sources of kernels."""
    code = [(resources.files("srlib") / f"{name}.py").read_bytes() for name in SOURCES]
    return hashlib.sha256(b"".join(code)).hexdigest()


_STAMP = stamp()


def kept_for_all_sources(compiled):
    """Return a function that Numba compiles and keeps, to be compiled anew when any source of kernels has changed.

    Numba looks at the file of the function alone, and would keep what it has inlined from others.
    """
    if not numba.config.DISABLE_JIT:
        compiled._cache._cache_file._source_stamp = _STAMP
    return compiled
