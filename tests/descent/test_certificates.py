"""The weights behind the bounds of notebook 09, Figure 1, kept here: proofs that need no solver to be read."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from rationals import is_nonnegative, proved

from srlib.companion.records import load_record
from srlib.descent.potentials import Potential
from srlib.descent.rates import Rates

KEPT = json.loads((Path(__file__).parent / "certificates.json").read_text())
FIGURE = Path(__file__).parents[2] / "figures" / "sharpest_bound.json"


@pytest.mark.parametrize("case", KEPT)
def test_a_committed_bound_has_a_proof_in_rationals(case):
    tau, rho, theta = KEPT[case]["rates"]
    one = np.ones(40)  # with L = R₀ = 1, G and P are at most 1
    known = Rates(1.0, 1.0, one, one, one - tau, one - theta, rho + (one - np.array(tau)) ** 2).knowledge()
    proof = Potential(**{name: np.array(values) for name, values in KEPT[case]["weights"].items()})
    assert proved(proof, known, 1.0) == pytest.approx(load_record(FIGURE)["numbers"][case]["D5c"][40], rel=1e-5)


def test_every_case_of_the_figure_is_kept():
    assert set(KEPT) == set(load_record(FIGURE)["numbers"])


def test_what_is_not_nonnegative_is_found():
    def rational(rows):
        return np.array([[Fraction(value) for value in row] for row in rows], dtype=object)

    assert is_nonnegative(rational([[1, 1], [1, 1]])) and is_nonnegative(rational([[0, 0], [0, 2]]))
    assert not is_nonnegative(rational([[1, 2], [2, 1]])) and not is_nonnegative(rational([[0, 1], [1, 9]]))
