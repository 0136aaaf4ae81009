"""The claims of the paper's abstract, each as quantitative tests on the records of the figures (SPEC, The claims)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from srlib.companion.comparisons import errors_at_best, final_errors, gain_of_bound, over_images, proposed
from srlib.companion.records import load_stamped
from srlib.companion.statistics import CONFIDENCE, mean_band

_ROUNDING = -1e-9  # of the closed forms, in units of the gap


@dataclass(frozen=True)
class Test:
    """A statistic that supports a claim if it is above a threshold.

    Attributes
    ----------
    statistic : str
        What it is.
    value, threshold : float
    figure : str
        Name of the figure whose record it is computed from.
    """

    statistic: str
    value: float
    threshold: float
    figure: str

    __test__ = False  # not one of pytest's

    @property
    def margin(self) -> float:
        """How far the statistic is above the threshold."""
        return self.value - self.threshold

    @property
    def passed(self) -> bool:
        """Whether it is above."""
        return bool(self.margin > 0)


@dataclass(frozen=True)
class Claim:
    """A claim, the test that it must pass, and tests of its limits: conditions under which it might fail."""

    name: str
    text: str
    test: Test
    limits: tuple[Test, ...] = ()

    @property
    def verdict(self) -> str:
        """Say whether it holds, holds under conditions (some limit is not passed), or fails."""
        if not self.test.passed:
            return "fails"
        return "holds" if all(limit.passed for limit in self.limits) else "holds under conditions"


def evaluate(figures: Path) -> list[Claim]:
    """Return the claims C1 to C7 with their tests, evaluated from the records in a directory.

    Raises
    ------
    FileNotFoundError, ValueError
        If a record is missing, damaged, or made by hand.
    """
    records = {name: load_stamped(figures / f"{name}.json")["numbers"] for name in _RECORDS}
    return [claim(records) for claim in (_c1, _c2, _c3, _c4, _c5, _c6, _c7)]


def settings_of(figures: Path) -> str:
    """Return in a sentence of which profile, with what other parameters, the records behind the claims are.

    Raises
    ------
    FileNotFoundError, ValueError
        As `evaluate` does.
    """
    parameters = {name: load_stamped(figures / f"{name}.json")["parameters"] for name in _RECORDS}
    profiles = sorted({given["profile"] for given in parameters.values()})
    e3 = {name: parameters["logistic_regression"].get(name) for name in ("fmt", "images", "steps", "replicates")}
    listed = ", ".join(f"{name} {value}" for name, value in e3.items())
    return f"From records of the {' and '.join(profiles)} profile (E3: {listed})."


_RECORDS = (
    "survival descent_bias noisy_sign convergence_bound bound_limits logistic_regression neural_network stepsizes"
).split()


def ledger(claims: list[Claim]) -> list[dict]:
    """Return a row of text for each test: a claim's own test with its verdict, then its limits.

    The margin is the value less its threshold.
    """
    return [
        {
            "claim": claim.name if test is claim.test else "",
            "verdict": claim.verdict if test is claim.test else ("passed" if test.passed else "not passed"),
            "statistic": test.statistic,
            "value": f"{test.value + 0.0:.3g}",
            "margin": f"{test.margin:+.3g}",
            "figure": test.figure.replace("_", " "),
        }
        for claim in claims
        for test in (claim.test, *claim.limits)
    ]


def as_json(claims: list[Claim]) -> str:
    """Return claims with their verdicts and tests as a JSON list."""
    found = [
        {
            "claim": claim.name,
            "text": claim.text,
            "verdict": claim.verdict,
            "tests": [
                asdict(test) | {"margin": test.margin, "passed": test.passed} for test in (claim.test, *claim.limits)
            ],
        }
        for claim in claims
    ]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _c1(records):
    figure = "logistic_regression"
    stuck, moving = (records[figure][name] for name in ("RN", "SR"))
    above = stuck["loss"][0][-1] - _upper([run[-1] for run in moving["loss"]])
    return Claim(
        "C1",
        "With RN, low-precision gradient descent stagnates; SR prevents it.",
        Test("E3: final loss of RN less upper limit of SR's", above, 0.0, figure),
        (
            Test(
                "E3: share of weights that RN leaves unmoved in the last epoch", stuck["unmoved"][0][-1], 0.99, figure
            ),
            Test(
                "E3: share of weights that SR moves in the last epoch",
                1 - _upper(np.array(moving["unmoved"])[:, -1]),
                0.01,
                figure,
            ),
        ),
    )


_FALSE_ALARM = 1e-6  # of each test on sampled frequencies


def _limit(variances, draws):
    """Return how far sampled frequencies go, all of them together, but for a false alarm."""
    return ndtri(1 - _FALSE_ALARM / (2 * np.size(variances))) * np.sqrt(np.asarray(variances) / draws)


def _c2(records):
    sampled = records["survival"]["sampled"]
    steps, shares = np.array(sampled["step"]), np.array(sampled["inside a binade"]["SR"])
    within = _limit(steps * (1 - steps), sampled["draws"]) - np.abs(shares - steps)
    return Claim(
        "C2",
        "SR has zero bias: a small update survives with a probability in proportion to its size.",
        Test(
            "survival by the kernel is nearer to step/gap than a false alarm of 10⁻⁶, by",
            np.min(within),
            0.0,
            "survival",
        ),
    )


def _c3(records):
    sampled = records["survival"]["sampled"]
    small = np.array(sampled["step"]) < 0.5

    def least_gain(where):
        found = {name: np.array(shares)[small] for name, shares in sampled[where].items()}
        schemes = [name for name in found if name not in ("RN", "SR")]
        gains = np.array([found[name] - found["SR"] for name in schemes])
        spread = np.array([found[name] * (1 - found[name]) for name in schemes]) + found["SR"] * (1 - found["SR"])
        return np.min(gains - _limit(spread, sampled["draws"]))

    return Claim(
        "C3",
        "The proposed schemes give up zero bias for a larger probability of keeping a small gradient.",
        Test(
            "update below half a gap: signed-SR_eps survives more often than SR, by at least",
            least_gain("inside a binade"),
            0.0,
            "survival",
        ),
        (
            Test("the same from a power of two", least_gain("at a power of two"), 0.0, "survival"),
            Test(
                "number below half a gap: SR_eps moves it away from zero more often than SR, by at least",
                least_gain("away from zero"),
                0.0,
                "survival",
            ),
        ),
    )


def _c4(records):
    record = records["descent_bias"]
    downhill = {name: np.array(values) for name, values in record["downhill"].items() if name != "RN"}
    gap, moving = np.array(record["gap"]), np.array(record["gap"]) > 0
    shares = [
        np.mean(np.isclose(values[moving], _eps(name) * gap[moving]))
        for name, values in downhill.items()
        if name.startswith("signed")
    ]
    noisy, g = records["noisy_sign"]["every_operation"], np.array(records["noisy_sign"]["g"])
    least = min(np.min(-np.sign(g) * np.array(v)) for name, v in noisy.items() if name.startswith("signed"))
    return Claim(
        "C4",
        "The bias is constant (ε times the gap), and lies in a descent direction at each iteration.",
        Test(
            "least expected error downhill, in gaps", min(v.min() for v in downhill.values()), _ROUNDING, "descent_bias"
        ),
        (
            Test("least share of iterates where it is ε·gap for signed-SR_eps", min(shares), 0.99, "descent_bias"),
            Test("least expected error downhill when every operation is rounded", least, _ROUNDING, "noisy_sign"),
        ),
    )


def _c5(records):
    cases, coarse = records["convergence_bound"], records["bound_limits"]
    small, large = min(cases, key=_stepsize), max(cases, key=_stepsize)
    signed = [scheme for scheme in cases[small] if scheme.startswith("signed")]
    least, most = min(signed, key=_eps), max(signed, key=_eps)

    def gains(stepsize, kind, scheme, reference="exact"):
        gain = gain_of_bound(cases[stepsize], scheme, kind, reference)
        who = "exact arithmetic" if reference == "exact" else reference
        text = f"at {stepsize} {_KINDS[kind]} of {scheme} is by this share below that of {who}"
        return Test(text, gain, 0.0, "convergence_bound")

    def in_eight_bits(kind):
        text = f"in {_KINDS[kind]} {most} has this share less than exact arithmetic in the lower format"
        return Test(text, gain_of_bound(coarse, most, kind), 0.0, "bound_limits")

    worst = min(signed, key=lambda scheme: gain_of_bound(cases[small], scheme, "within"))
    return Claim(
        "C5",
        "For convex problems the bias improves the convergence bound (one quadratic, bfloat16).",
        gains(small, "within", worst),
        (
            gains(small, "bound", most),
            gains(large, "bound", most, "SR"),
            gains(large, "bound", most),
            gains(large, "components", most),
            gains(large, "components", least),
            in_eight_bits("within"),
            in_eight_bits("components"),
        ),
    )


_KINDS = {
    "within": "the bound of the paper's kind",
    "bound": "the bound D5",
    "components": "the sum of D5 by components",
}


def _stepsize(case):
    return float(case.removeprefix("t="))


def _c6(records):
    claim = _classifier(
        records,
        "C6",
        "logistic_regression",
        "Multinomial logistic regression in 8 bits: the proposed schemes are better than SR.",
    )
    errors = errors_at_best(records["stepsizes"]["sweep"])
    schemes = proposed(errors)
    limits = []
    for control in ("binary64", "heavy ball"):
        least = min(np.mean(values) for name, values in errors.items() if name.startswith(control))
        beyond = {scheme: least - _upper(errors[scheme], _each_of(schemes)) for scheme in schemes}
        best = max(beyond, key=beyond.get)
        text = f"points of test error that {best} is below {control}, each at its best stepsize, lower limit"
        limits.append(Test(text, beyond[best], 0.0, "stepsizes"))
    return Claim(claim.name, claim.text, claim.test, (*claim.limits, *limits))


def _c7(records):
    return _classifier(
        records, "C7", "neural_network", "A simple neural network in 8 bits: the proposed schemes are better than SR."
    )


def _classifier(records, name, figure, text):
    curves = records[figure]
    schemes = proposed(curves)
    each = _each_of(schemes)
    gains = {scheme: _lower_gain(curves, scheme, "SR", each) for scheme in schemes}
    best, worst = max(gains, key=gains.get), min(gains, key=gains.get)
    return Claim(
        name,
        text,
        _gain(f"the best proposed scheme, {best},", "SR", gains[best], figure),
        (
            _gain(f"the worst, {worst},", "SR", gains[worst], figure),
            _gain(best, "binary32", _lower_gain(curves, best, "binary32", each), figure),
        ),
    )


def _lower_gain(curves, scheme, reference, confidence):
    """Return the lower limit of a gain, the less of those over replicates and over test images."""
    apart = final_errors(curves[scheme]) - final_errors(curves[reference])
    _, half = over_images(curves[scheme], curves[reference])
    return -max(_upper(apart, confidence), np.mean(apart) + half)


def _gain(scheme, reference, value, figure):
    return Test(
        f"points of test error that {scheme} is below {reference}, lower limit over replicates and images",
        value,
        0.0,
        figure,
    )


def _each_of(schemes):
    """Return the confidence of a limit for each of some schemes with which all together have that of one."""
    return 1 - (1 - CONFIDENCE) / len(schemes)


def _eps(scheme):
    return float(scheme.partition("(")[2].removesuffix(")"))


def _upper(values, confidence=CONFIDENCE):
    """Return the upper end of the confidence interval of a mean over replicates."""
    mean, half = mean_band(np.asarray(values)[None], confidence)
    return mean[0] + half[0]
