from fractions import Fraction

import array_api_strict
import numpy as np
import oracle
import pytest

from srlib import Format, Philox, Scheme, mean_error, prob_up, round_to, variance

each_scheme = pytest.mark.parametrize("scheme", oracle.SCHEMES)
SMALL = [fmt for fmt in oracle.FORMATS if fmt.precision <= 8]


@pytest.mark.parametrize(
    "text", [*oracle.SCHEMES, "SR_eps(0.0)", "SR_eps(1e-05)", "signed_SR_eps(0.30000000000000004)"]
)
def test_str_gives_back_what_was_parsed(text):
    assert str(Scheme.parse(text)) == text
    assert Scheme.parse(Scheme.parse(text)) == Scheme.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sr",
            r"scheme is 'sr'; must be a Scheme or one of RN, RZ, RU, RD, SR, SR_eps\(eps\), signed_SR_eps\(eps\)$",
        ),
        ("SR(0.1)", r"scheme is 'SR\(0.1\)'; must be"),
        ("SR_eps", "scheme is 'SR_eps'; must be"),
        ("SR_eps(a)", r"scheme is 'SR_eps\(a\)'"),
        ("SR_eps(nan)", "eps is nan; must be at least 0 and below 1"),
        ("signed_SR_eps(1)", "eps is 1.0; must be at least 0 and below 1"),
        (None, "scheme is None; must be"),
    ],
)
def test_what_is_no_scheme_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Scheme.parse(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("RX",), ValueError, "scheme is 'RX'; must be one of RN"),
        (
            ("SR_eps(0.1)",),
            ValueError,
            r"scheme is 'SR_eps\(0.1\)'; must be a name alone: Scheme.parse takes one with eps",
        ),
        (("RN", 0.1), ValueError, "eps is 0.1; must be 0 for RN"),
        (("SR_eps", "0.1"), TypeError, "eps is '0.1'; must be a real number"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Scheme(*arguments)


@pytest.mark.parametrize("eps", [0, Fraction(1, 4), np.float32(0.25)], ids=repr)
def test_any_real_number_is_kept_as_a_float(eps):
    scheme = Scheme("SR_eps", eps)
    assert type(scheme.eps) is float
    assert str(scheme) == f"SR_eps({float(eps)})"


@pytest.mark.parametrize("fmt", SMALL, ids=str)
@each_scheme
def test_probability_bias_and_variance_are_those_of_the_rationals(fmt, scheme):
    """In float64, on numbers whose θ is exact; the one rounding in θ ± ε is then the only error."""
    magnitudes = np.array(oracle.magnitudes(fmt)[:: max(1, len(oracle.magnitudes(fmt)) // 60)])[:-1]
    x = np.concatenate([sign * magnitudes * factor for sign in (1, -1) for factor in (1, 1.0625, 1.3, 1.5)])
    x = x[np.abs(x) < oracle.magnitudes(fmt)[-1]]
    v = np.resize([1.0, -1.0, 0.0], x.shape)
    up = prob_up(x, fmt, scheme, v=v)
    bias, spread = mean_error(x, fmt, scheme, v=v), variance(x, fmt, scheme, v=v)
    for i, y in enumerate(x):
        below, above, theta, odd = oracle.locate(abs(y), fmt)
        gap = Fraction(above) - Fraction(below)
        away = Fraction(oracle.prob_away(scheme, theta, odd, y, v[i], np.float64)) if theta else Fraction(0)
        assert up[i] == float(away if y > 0 or theta == 0 else 1 - away)
        assert bias[i] == pytest.approx(
            float(np.sign(y)) * float(gap * (away - theta)), rel=1e-15, abs=float(gap) * 2e-16
        )
        assert spread[i] == pytest.approx(float(gap**2 * away * (1 - away)), rel=1e-15, abs=float(gap) ** 2 * 2e-16)


@pytest.mark.parametrize("scheme", ["SR", "SR_eps(0.1)", "signed_SR_eps(0.25)", "SR_eps(0.6)"])
def test_a_million_draws_have_the_probability_of_the_closed_form(scheme):
    """At 100 positions and 10^6 draws each, 4 schemes: |z| ≤ 6.2 fails by chance once in 1.8e9, below 3e-7 in all."""
    fmt, draws = Format.parse("binary8"), 10**6
    theta = np.concatenate([[0.001, 0.05, 0.2, 0.5, 0.8, 0.95], np.linspace(0.013, 0.993, 19)])
    x = np.concatenate([4 + theta, -(3.5 + theta / 2), 2**-16 * theta, -(57344 + 8192 * theta)])
    x = x.astype(np.float32).astype(np.float64)
    v = np.resize([1.0, -1.0], x.shape)
    rounded, rng = np.empty((len(x), draws), np.float32), Philox(1)
    for one, direction, row in zip(x, v, rounded, strict=True):
        row[:] = one
        round_to(row, fmt, scheme, rng, v=np.full_like(row, direction), out=row)
    below, above = fmt.neighbours(x)
    went_up = (rounded > x[:, None]).mean(axis=1)
    assert np.all((rounded == below[:, None]) | (rounded == above[:, None]) | np.isinf(rounded))
    expected = prob_up(x, fmt, scheme, v=v)
    z = (went_up - expected) * np.sqrt(draws / np.maximum(expected * (1 - expected), 1e-12))
    assert np.all(np.abs(z[(expected > 0) & (expected < 1)]) <= 6.2)
    certain = (expected == 0) | (expected == 1)
    np.testing.assert_array_equal(went_up[certain], expected[certain])


def test_sr_has_no_bias_and_the_biased_schemes_have_theirs_wherever_the_clip_is_idle():
    x = np.linspace(-7.9, 7.9, 400)
    v = np.resize([1.0, -2.0, 0.0], x.shape)
    fmt = Format.parse("binary8")
    _, gap, theta = fmt.locate(x)
    idle = (theta > 0.1) & (theta < 0.9)
    np.testing.assert_array_equal(mean_error(x, fmt, "SR"), 0)
    away = mean_error(x, fmt, "SR_eps(0.1)")
    np.testing.assert_allclose(away[idle], (np.sign(x) * 0.1 * gap)[idle], rtol=1e-14)
    along = mean_error(x, fmt, "signed_SR_eps(0.1)", v=v)
    np.testing.assert_allclose(along[idle], (-np.sign(v) * 0.1 * gap)[idle], rtol=1e-14)
    assert np.all(away * np.sign(x) >= 0) and np.all(np.abs(away) <= 0.1 * gap * (1 + 1e-14))
    assert np.all(along * np.sign(v) <= 0) and np.all(np.abs(along) <= 0.1 * gap * (1 + 1e-14))


def test_values_have_probability_bias_and_variance_0_and_what_is_not_finite_has_nan():
    values = Format.parse("binary8").values()
    for function in (prob_up, mean_error, variance):
        np.testing.assert_array_equal(function(values, "binary8", "SR_eps(0.5)"), 0)
        assert np.all(np.isnan(function(np.array([np.nan, np.inf, -np.inf]), "binary8", "SR_eps(0.5)")))


def test_a_number_whose_theta_underflows_is_still_no_value_of_the_format():
    fmt = Format("high", 4, 100, 120)
    tiny = np.float64(5e-324)
    assert prob_up(tiny, fmt, "RU") == 1
    assert prob_up(tiny, fmt, "SR_eps(0.25)") == 0.25
    assert round_to(tiny, fmt, "RU") == 2.0**97


@each_scheme
def test_array_api_strict_arrays_have_the_same_numbers(scheme):
    x = oracle.edges(Format.parse("e4m3"), np.float64)
    strict = array_api_strict.asarray(x)
    for function in (prob_up, mean_error, variance):
        with np.errstate(over="ignore", invalid="ignore"):
            np.testing.assert_array_equal(
                np.asarray(function(strict, "e4m3", scheme, v=-strict)), function(x, "e4m3", scheme, v=-x)
            )


def test_scalars_are_taken_and_returned():
    assert prob_up(1.125, "binary8", "SR") == 0.5
    assert prob_up(-1.0625, "binary8", "SR") == 0.75
    assert mean_error(1.125, "binary8", "signed_SR_eps(0.25)", v=-1.0) == 0.0625
    assert isinstance(variance(1.125, "binary8", "SR"), float)


@pytest.mark.parametrize("function", [prob_up, mean_error, variance])
def test_bad_input_is_refused(function):
    with pytest.raises(TypeError, match="x is of int64; must be of float32 or float64"):
        function(np.arange(3), "binary8", "SR")
    with pytest.raises(ValueError, match="v is missing"):
        function(1.1, "binary8", "signed_SR_eps(0.1)")
    for scheme in ("signed_SR_eps(0.1)", "SR"):
        with pytest.raises(TypeError, match=r"^v is of int64; must be of float32 or float64"):
            function(np.ones(3), "binary8", scheme, v=np.arange(3))
        with pytest.raises(ValueError, match=r"^v has shape \(2,\); must be \(3,\)"):
            function(np.ones(3), "binary8", scheme, v=np.ones(2))
    with pytest.raises(ValueError, match="format is 'x'"):
        function(1.1, "x", "SR")
