"""The claims of the paper's abstract, each as quantitative tests on the records of the figures (SPEC, The claims)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from srlib.companion.comparisons import (
    best_stepsize,
    final_errors,
    gain_of_bound,
    longest_average,
    of_average,
    over_images,
    proposed,
)
from srlib.companion.records import load_stamped
from srlib.companion.statistics import CONFIDENCE, mean_band
from srlib.companion.tables import parted

_ROUNDING = -1e-9  # of the closed forms, in units of the gap


@dataclass(frozen=True)
class Criterion:
    """A statistic that supports a claim if it is above a threshold.

    Attributes
    ----------
    sentence : str
        What it says, with "{}" in the place of the value.
    value, threshold : float
    figure : str
        Name of the figure whose record it is computed from.
    otherwise : str, optional
        What is said where that is not so, with "{}" in the place of the value with the other sign.
    """

    sentence: str
    value: float
    threshold: float
    figure: str
    otherwise: str = ""

    @property
    def margin(self) -> float:
        """How far the statistic is above the threshold."""
        return self.value - self.threshold

    @property
    def passed(self) -> bool:
        """Whether it is above."""
        return bool(self.margin > 0)

    @property
    def said(self) -> str:
        """The sentence with the value in it."""
        if self.otherwise and not self.passed:
            return self.otherwise.format(f"{-self.value:.3g}")
        return self.sentence.format(f"{self.value + 0.0:.3g}")


@dataclass(frozen=True)
class Claim:
    """A claim of the abstract, the test that it must pass, and criteria of its conditions: limits where it might fail.

    Attributes
    ----------
    name : str
    published, first : str
        What the published abstract says, and what its first version says. Where the first one leaves out a word such as
        "typically", all tests must pass for it to hold.
    test : Criterion
    conditions : tuple of Criterion
    """

    name: str
    published: str
    first: str
    test: Criterion
    conditions: tuple[Criterion, ...] = ()

    @property
    def tests(self) -> tuple[Criterion, ...]:
        """All tests, its own first."""
        return (self.test, *self.conditions)

    @property
    def verdict(self) -> str:
        """Say whether it holds, holds under conditions (some limit is not passed), or fails."""
        if not self.test.passed:
            return "fails"
        return "holds" if all(condition.passed for condition in self.conditions) else "holds under conditions"

    @property
    def verdict_on_first(self) -> str:
        """Say the same of the first version."""
        stronger = any(word in self.published and word not in self.first for word in ("typically", "on average"))
        return "fails" if stronger and self.verdict != "holds" else self.verdict


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
    "survival descent_bias noisy_sign signs_of_the_step convergence_bound where_the_bound_gains logistic_regression "
    "neural_network stepsizes annealing"
).split()


def ledger(claims: list[Claim]) -> list[dict]:
    """Return a row of text for each test, the claim's own with its verdict: what was found, what it must be above."""
    return [
        {
            "claim": claim.name if test is claim.test else "",
            "verdict": claim.verdict if test is claim.test else ("passed" if test.passed else "not passed"),
            "what was found": test.said,
            "must be above": f"{test.threshold:.3g}",
            "figure": test.figure.replace("_", " "),
        }
        for claim in claims
        for test in claim.tests
    ]


def wordings(claims: list[Claim]) -> list[dict]:
    """Return a row of text for each claim: both wordings of the abstract, each with its verdict."""
    return [
        {
            "claim": claim.name,
            "published": f"“{claim.published}”",
            "is found": claim.verdict,
            "first version": f"“{claim.first}”" if claim.first != claim.published else "the same",
            "was found": claim.verdict_on_first,
        }
        for claim in claims
    ]


def as_json(claims: list[Claim]) -> str:
    """Return claims with their verdicts and tests as a JSON list."""
    found = [
        {
            "claim": claim.name,
            "published": claim.published,
            "verdict": claim.verdict,
            "first": claim.first,
            "verdict on first": claim.verdict_on_first,
            "tests": [asdict(test) | {"margin": test.margin, "passed": test.passed} for test in claim.tests],
        }
        for claim in claims
    ]
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _c1(records):
    figure = "logistic_regression"
    stuck, moving = (records[figure][name] for name in ("RN", "SR"))
    above = stuck["loss"][0][-1] - _upper([run[-1] for run in moving["loss"]])
    moved = 1 - _upper(np.array(moving["unmoved"])[:, -1])
    return Claim(
        "C1",
        "the employment of stochastic rounding schemes helps to prevent stagnation of convergence",
        "The employment of stochastic rounding schemes helps prevent stagnation of convergence",
        Criterion("In E3 the final loss of RN is {} above the upper limit of SR's.", above, 0.0, figure),
        (
            Criterion(
                "RN leaves a share of {} of the weights unmoved in the last epoch,",
                stuck["unmoved"][0][-1],
                0.99,
                figure,
            ),
            Criterion("in which SR moves a share of {} of them at least.", moved, 0.01, figure),
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
    text = "Sampled frequencies of survival differ from step/gap by less than chance allows at a rate of 10⁻⁶, by {}."
    return Claim(
        "C2",
        "Unbiased stochastic rounding yields zero bias by preserving small updates with probabilities proportional to "
        "their relative magnitudes",
        "Conventional stochastic rounding achieves zero bias by preserving small updates with probabilities "
        "proportional to their relative magnitudes",
        Criterion(text, np.min(within), 0.0, "survival"),
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

    def gains(text, where):
        return Criterion(text, least_gain(where), 0.0, "survival")

    return Claim(
        "C3",
        "two new stochastic rounding schemes that trade the zero bias property with a larger probability to preserve "
        "small gradients",
        "a new stochastic rounding scheme that trades the zero bias property with a larger probability to preserve "
        "small gradients",
        gains("signed-SR_eps keeps an update below half a gap more often than SR, by {} at least;", "inside a binade"),
        (
            gains("from a power of two, by {} at least.", "at a power of two"),
            gains("SR_eps keeps a number below half a gap more often than SR, by {} at least.", "away from zero"),
        ),
    )


def _c4(records):
    record = records["descent_bias"]
    downhill = {name: np.array(values) for name, values in record["downhill"].items() if name != "RN"}
    gap, moving = np.array(record["gap"]), np.array(record["gap"]) > 0
    signed = {name: values[moving] for name, values in downhill.items() if name.startswith("signed")}
    shares = [np.mean(np.isclose(values, _eps(name) * gap[moving])) for name, values in signed.items()]
    noisy, g = records["noisy_sign"]["every_operation"], np.array(records["noisy_sign"]["g"])
    least = min(np.min(-np.sign(g) * np.array(v)) for name, v in noisy.items() if name.startswith("signed"))
    along = records["signs_of_the_step"]["schemes"]
    beta = min(-_upper(-np.array(row)) for name, v in along.items() if name.startswith("signed") for row in v["beta"])
    once = "descent_bias"
    return Claim(
        "C4",
        "Our methods yield a constant rounding bias that, on average, lies in a descent direction",
        "Our method yields a constant rounding bias that, at each iteration, lies in a descent direction",
        Criterion(
            "Gradient rounded once: the expected error under signed-SR_eps points downhill, by {} ulps at least;",
            min(values.min() for values in signed.values()),
            0.0,
            once,
        ),
        (
            Criterion("it is ε·gap at a share of {} of the iterates;", min(shares), 0.99, once),
            Criterion(
                "that under SR_eps, too, never points uphill (by {} ulps at least).",
                min(v.min() for v in downhill.values()),
                _ROUNDING,
                once,
            ),
            Criterion(
                "Every operation rounded: under signed-SR_eps it points downhill by {} gaps at least.",
                least,
                _ROUNDING,
                "noisy_sign",
                "Every operation rounded, in notebook 03: under signed-SR_eps it points uphill, by up to {} gaps.",
            ),
            Criterion(
                "At the measured epochs of E3 the lower limit of β of the whole step is {} or more.",
                beta,
                0.0,
                "signs_of_the_step",
            ),
        ),
    )


def _c5(records):
    cases = records["convergence_bound"]
    small, large = min(cases, key=_stepsize), max(cases, key=_stepsize)
    signed = [scheme for scheme in cases[small] if scheme.startswith("signed")]
    least, most = min(signed, key=_eps), max(signed, key=_eps)
    longer = next(name for name in cases[small] if name.startswith("exact, t="))

    def gains(stepsize, kind, scheme, reference="exact"):
        place = f"Setting I, {stepsize.replace('=', ' = ')}"
        value = gain_of_bound(cases[stepsize], scheme, kind, reference)
        return _lower(f"{place}: {_KINDS[kind]} of {scheme}", value, reference, "convergence_bound")

    def worst(kind):
        return gains(small, kind, min(signed, key=lambda scheme: gain_of_bound(cases[small], scheme, kind)))

    return Claim(
        "C5",
        "For convex problems, we prove that the proposed rounding methods typically have a beneficial effect on the "
        "convergence rate of gradient descent",
        "For convex problems, we prove that the proposed rounding method has a beneficial effect on the convergence "
        "rate of gradient descent",
        worst("potential"),
        (
            worst("within"),
            gains(small, "potential", most, longer),
            gains(large, "potential", most),
            gains(large, "components", most),
            gains(large, "components", least),
            *_on_the_map(records["where_the_bound_gains"], most),
        ),
    )


_KINDS = {
    "gap": "f",
    "within": "the bound of the paper's kind",
    "potential": "the sharpest bound (D5c)",
    "components": "the sum of D5 by components",
}


def _lower(what, value, reference, figure):
    """Return the test that something is lower than the reference's, by a share of the latter."""
    whose = "exact arithmetic's" if reference == "exact" else f"{reference}'s"
    lower, higher = (f"{what} is {word} than {whose}, by {{}} times the latter." for word in ("lower", "higher"))
    return Criterion(lower, value, 0.0, figure, higher)


def _on_the_map(record, scheme):
    """Return the tests at other horizons, in eight bits, and of each method at its own best stepsize."""
    figure, ends = "where_the_bound_gains", record["horizons"]
    fine, coarse = list(record["map"].items())[:2]
    middle = ends.index(150) if 150 in ends else len(ends) // 2
    for (name, found), k in ((fine, -1), (coarse, 1), (coarse, middle)):
        t = min(found, key=lambda t: abs(np.log(float(t) * 16)))
        value = 1 - found[t][scheme]["potential"][k] / found[t]["exact"]["potential"][k]
        said = f"{name}, t = {t}, {ends[k]} steps: {_KINDS['potential']} of {scheme}"
        yield _lower(said, value, "exact", figure)
    name, found = fine
    for kind, title in _KINDS.items():
        mine, exact = (_least(found, one, kind, middle) for one in (scheme, "exact"))
        said = f"{name}, {ends[middle]} steps, each at its best stepsize: {title} of {scheme}"
        yield _lower(said, 1 - mine / exact, "exact", figure)


def _least(found, scheme, kind, k):
    values = [ends[scheme][kind][k] for ends in found.values()]
    return np.nanmin(np.asarray(values, dtype=np.float64))


def _stepsize(case):
    return float(case.removeprefix("t="))


def _c6(records):
    said = (
        "comparing the performances of various rounding schemes when optimizing a multinomial logistic regression model"
    )
    sweep = records["stepsizes"]["sweep"] | records["annealing"]["candidates"]
    own = _own_stepsizes(sweep, "stepsizes", "annealing")
    return _classifier(records["logistic_regression"], "C6", "logistic_regression", said, said, own)


def _c7(records):
    said = "and when training a simple neural network with {}8-bit floating-point format"
    both = said.format("an "), said.format("")
    return _classifier(records["neural_network"], "C7", "neural_network", *both, ())


def _classifier(curves, name, figure, published, first, own):
    schemes = proposed(curves)
    each = _each_of(schemes)
    gains = {scheme: _lower_gain(curves, scheme, "SR", each) for scheme in schemes}
    best, worst = max(gains, key=gains.get), min(gains, key=gains.get)
    same = f"At equal stepsize, {best}"

    def against(peer):
        return _ends(same, _lower_gain(curves, best, peer, each), peer, figure)

    controls = [f"{control}({_eps(best):g})" for control in ("skeleton", "longer step")]
    return Claim(
        name,
        published,
        first,
        _ends(same, gains[best], "SR", figure),
        (
            _ends(f"At equal stepsize, {worst}", gains[worst], "SR", figure),
            against("binary32"),
            *(against(control) for control in controls if control in curves),
            *_on_the_way(curves, schemes, each, figure),
            *own,
        ),
    )


def _on_the_way(curves, schemes, each, figure):
    """Return the tests of speed, loss and, if recorded, of the mean of the last iterates, at equal stepsize."""
    level = 1.25 * final_errors(curves["binary32"]).mean()
    sooner = {scheme: -_upper(_times(curves, scheme, level) - _times(curves, "SR", level), each) for scheme in schemes}
    final = {name: np.array([run[-1] for run in c["loss"]], dtype=np.float64) for name, c in curves.items()}
    lower = {scheme: -_upper(np.nan_to_num(final[scheme] / final["SR"] - 1, nan=np.inf), each) for scheme in schemes}
    first, least = max(sooner, key=sooner.get), max(lower, key=lower.get)
    yield Criterion(
        f"{first} is within a quarter of binary32's final error at least {{}} epochs before SR.",
        sooner[first],
        0.0,
        figure,
        f"{first} is within a quarter of binary32's final error at most {{}} epochs after SR.",
    )
    yield Criterion(
        f"The final loss of {least} is lower than SR's, by {{}} times the latter at least.",
        lower[least],
        0.0,
        figure,
        f"The final loss of {least} is higher than SR's, by {{}} times the latter at most.",
    )
    count = longest_average(curves["SR"])
    if count:
        means = of_average(curves, count)
        gains = {scheme: _lower_gain(means, scheme, "SR", each) for scheme in schemes}
        best = max(gains, key=gains.get)
        yield _ends(f"The mean of the last {count} iterates of {best}", gains[best], "SR's", figure)


def _times(curves, scheme, level):
    """Return after how many steps each replicate is first at an error in per cent, or one more than all."""
    steps = np.asarray(curves[scheme]["steps"], dtype=np.float64)
    below = 100 * np.asarray(curves[scheme]["error"], dtype=np.float64) <= level
    return np.where(below.any(axis=1), steps[below.argmax(axis=1)], steps[-1] + 1)


def _own_stepsizes(sweep, figure, of_lowered):
    """Return the tests of each method at its own best stepsize, chosen on held-out images, as are the controls."""
    ends = {name: points[best_stepsize(points)] for name, points in sweep.items()}
    constant, lowered = proposed(ends), [name for name in ends if name.startswith("annealed")]
    balls = [name for name in ends if name.startswith("heavy ball")]
    rounded = [name for name in balls if " in " in name]
    peers = [["binary64"], [name for name in balls if name not in rounded], rounded]
    for schemes, names, where in (*((constant, names, figure) for names in peers), (lowered, peers[0], of_lowered)):
        if schemes and names:
            peer = min(names, key=lambda name: np.mean(np.asarray(ends[name]["held_out"], dtype=np.float64)))
            beyond = {scheme: _lower_end(ends[scheme], ends[peer], _each_of(schemes)) for scheme in schemes}
            best = max(beyond, key=beyond.get)
            yield _ends(f"Each at its best stepsize, {best}", beyond[best], peer, where)


def _lower_end(mine, theirs, confidence):
    apart = np.asarray(mine["error"], dtype=np.float64) - np.mean(np.asarray(theirs["error"], dtype=np.float64))
    return _lower_limit(apart, mine, theirs, confidence)


def _ends(which, gain, reference, figure):
    """Return the test that the lower limit of a gain in the test error is positive."""
    below, above = (
        f"{which} ends {at} {{}} points of test error {side} {reference}, by the limit over replicates and images."
        for at, side in (("at least", "below"), ("at most", "above"))
    )
    return Criterion(below, gain, 0.0, figure, above)


def _lower_gain(curves, scheme, reference, confidence):
    """Return the lower limit of the gain of a scheme over another."""
    apart = final_errors(curves[scheme]) - final_errors(curves[reference])
    return _lower_limit(apart, curves[scheme], curves[reference], confidence)


def _lower_limit(apart, mine, theirs, confidence):
    """Return the lower limit of a gain from the differences of errors, the less of those over replicates and images."""
    _, half = over_images(mine, theirs, confidence)
    return -max(_upper(apart, confidence), np.mean(apart) + half)


def _each_of(schemes):
    """Return the confidence of a limit for each of some schemes with which all together have that of one."""
    return 1 - (1 - CONFIDENCE) / len(schemes)


def _eps(scheme):
    return float(parted(scheme)[1])


def _upper(values, confidence=CONFIDENCE):
    """Return the upper end of the confidence interval of a mean over replicates."""
    mean, half = mean_band(np.asarray(values)[None], confidence)
    return mean[0] + half[0]
