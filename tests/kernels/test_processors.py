import os
import subprocess
import sys

import pytest
from shared import DISPATCHED

PROGRAM = """
import hashlib
import numpy as np
import srlib
from srlib.arithmetic import exp, matmul

x = np.random.Generator(np.random.PCG64(1)).uniform(-4, 4, (3, 40_000))
x = x * x * x
x = x * x * x  # not x**9: NumPy's power differs in last bits from processor to processor
found = [exp(x / 400), matmul(x[:, :300], x.reshape(300, 400), 0.0)]
for y, scheme in ((x, "RN"), (x, "SR"), (x, "signed_SR_eps(0.1)"), (x.astype(np.float32), "SR_eps(0.1)")):
    found += [srlib.round_to(y, fmt, scheme, srlib.Philox(7, replicates=3), v=-y) for fmt in ("binary8", "bfloat16")]
print(hashlib.sha256(b"".join(y.tobytes() for y in found)).hexdigest())
"""


def digest(**environment):
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment, check=True).stdout


@pytest.mark.slow
def test_a_processor_without_vector_instructions_gives_the_same_bits(tmp_path):
    """Kernels are compiled anew for it, and NumPy and OpenBLAS told to do without what this one has."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert digest(NPY_DISABLE_CPU_FEATURES=DISPATCHED, OPENBLAS_CORETYPE="Nehalem", **plain) == digest()
