"""What Jupyter shows: well-formed, and with the numbers of the object."""

from xml.etree import ElementTree

import numpy as np
import oracle
import pytest

import srlib
from srlib.descent.bounds import certify
from srlib.digits import rounded_up


def shown(item):
    """Return the text of what is shown, which must be well-formed."""
    return " ".join(ElementTree.fromstring(item._repr_html_()).itertext())


@pytest.mark.parametrize("fmt", oracle.FORMATS, ids=str)
def test_every_format_shows_its_range(fmt):
    text = shown(fmt)
    assert text.startswith(str(fmt)) and f"{fmt.largest:.6g}" in text
    few = fmt.count <= 512
    assert ("positive values" in text) == few


def test_a_format_shows_its_bits_and_values():
    text = shown(srlib.Format.parse("binary8"))
    assert "8: 1 sign, 5 exponent, 2 significand" in text and "2^-16 = 1.52588e-05" in text
    assert "1, 1.25, 1.5, 1.75, 2, 2.5" in text
    assert "6: 1 sign, 3 integer, 2 fraction" in shown(srlib.Format.fixed(3, 2))


@pytest.mark.parametrize("name", ["RN", "RZ", "RU", "RD", "SR", "SR_eps(0.2)", "signed_SR_eps(0.2)"])
def test_every_scheme_shows_what_it_does(name):
    scheme = srlib.Scheme.parse(name)
    assert shown(scheme).startswith(name) and ("ε = 0.2" in shown(scheme)) == (scheme.eps > 0)


@pytest.mark.parametrize("replicates", [None, 3])
def test_a_history_and_a_certificate_show_their_ends(replicates):
    problem = srlib.DiagonalQuadratic(np.ones(4), np.full(4, 1.3))
    start = np.zeros(4) if replicates is None else np.zeros((replicates, 4))
    options = {"stepsize": 0.5, "steps": 6, "fmt": "bfloat16"}
    history = srlib.gradient_descent(problem, start, rng=srlib.Philox(1, replicates), **options)
    text = shown(history)
    assert f"replicates {replicates or 1}" in text and f"→ {np.mean(history.objective[-1]):.4g}" in text
    rng = None if replicates is None else srlib.Philox(1, replicates)
    certificate = certify(problem, start, lipschitz=1.0, minimiser=problem.minimiser, rng=rng, **options)
    text = shown(certificate)
    assert ("estimated, 95% confidence" if replicates else "certified: exact expectations") in text
    assert f"f − f* after 6 steps {certificate.gap[-1].mean():.4g}" in text
    assert f"D5 {rounded_up(certificate.bound[-1])}" in text and ("D5′" in text) == (replicates is None)
