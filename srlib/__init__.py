"""Biased stochastic rounding in low-precision gradient descent: the module behind the notebooks."""

import os

import lazy_loader

# The names and their modules are in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _find_a_place_for_kernels():
    """Let Numba keep compiled code in a temporary directory where it finds no other: it would refuse to compile."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    while not os.path.exists(home) and os.path.dirname(home) != home:
        home = os.path.dirname(home)
    if "NUMBA_CACHE_DIR" in os.environ or any(os.access(path, os.W_OK) for path in (os.path.dirname(__file__), home)):
        return
    import tempfile

    place = os.path.join(tempfile.gettempdir(), f"srlib-{os.getuid()}")
    os.makedirs(place, mode=0o700, exist_ok=True)
    own = os.stat(place, follow_symlinks=False)
    if (own.st_uid, own.st_mode & 0o777) != (os.getuid(), 0o700):  # somebody else's: code is loaded from there
        place = tempfile.mkdtemp(prefix="srlib-")
    os.environ["NUMBA_CACHE_DIR"] = place


_find_a_place_for_kernels()
