"""What tests of several rooms share."""

import struct

import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

# What NumPy has for this processor beyond the least, as NPY_DISABLE_CPU_FEATURES wants it.
DISPATCHED = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))


def idx(array):
    """The bytes of an IDX file, written with struct as its specification says."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
