"""The numbers in the first paragraphs of the notebooks and in what was learned, against the committed records."""

import ast
import inspect
import re
from pathlib import Path

import ml_dtypes
import nbformat
import numpy as np
import pytest
from scipy.stats import gmean

from srlib import DiagonalQuadratic, Huber, exact_law
from srlib.companion.comparisons import best_stepsize, errors_at_best, final_errors, over_images, paired
from srlib.companion.explore import one_run
from srlib.companion.notebook import find_notebooks, read_notebook
from srlib.companion.records import load_record
from srlib.companion.statistics import plus_minus
from srlib.digits import rounded_up

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"


def cells(name):
    """The markdown cells of the notebook on a subject, each in one line."""
    (path,) = [path for path in find_notebooks(ROOT / "notebooks") if path.stem[3:] == name]
    return [" ".join(c.source.split()) for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]


def answer(name):
    """The first cell of the notebook on a subject."""
    return cells(name)[0]


def lessons(name):
    """Its last section."""
    (last,) = [text for text in cells(name) if "## What we learned" in text]
    return last.partition("## What we learned")[2]


def readme():
    return " ".join((ROOT / "README.md").read_text().split())


def numbers_of(figure):
    return load_record(FIGURES / f"{figure}.json")["numbers"]


def test_what_is_said_of_the_bound_has_the_numbers_of_its_record():
    small, large = (numbers_of("convergence_bound")[case] for case in ("t=0.0625", "t=1"))
    said, learned, most = answer("convergence_bound"), lessons("convergence_bound"), "signed_SR_eps(0.4)"

    def end(case, name, kind, digits=1):
        return f"{case[name][kind][-1]:.{digits}f}"

    (longer,) = [name for name in small if name.startswith("exact, t=0")]
    exact, biased, as_long = (end(small, name, "potential") for name in ("exact", most, longer))
    assert f"falls from {exact} to {biased}; exact steps as long give {as_long}." in said
    pair = f"lowers D5c from {exact} to {biased}, the paper's kind from {end(small, 'exact', 'within')}"
    assert f"{pair} to {end(small, most, 'within')}." in learned
    assert all(small["SR"][kind][-1] > small["exact"][kind][-1] for kind in ("potential", "within"))
    assert f"Exact steps of the mean $\\theta$ have {as_long} and {end(small, longer, 'within')}." in learned
    three = [end(large, name, "within") for name in ("exact", "SR", most)]
    assert f"({three[0]}, SR {three[1]}, signed-SR$_{{0.4}}$ {three[2]}), by (10)" in learned
    assert f"({end(large, 'exact', 'potential', 2)} and {end(large, most, 'potential', 2)})" in learned
    assert f"({end(small, 'exact', 'bound')}, signed-SR$_{{0.4}}$ {end(small, most, 'bound')})" in learned
    decades = zip(large[most]["decades"], large["exact"]["decades"], strict=True)
    gains = [1 - a / b for a, b in decades]
    (text,) = [text for text in cells("convergence_bound") if text.startswith("**Figure 3.**")]
    assert "gains most in the second decade of the curvature" in text and max(gains) == gains[1]


def test_what_is_said_of_the_map_of_bounds_is_in_its_record():
    record, most = numbers_of("where_the_bound_gains"), "signed_SR_eps(0.4)"
    ends, cases = record["horizons"], record["map"]
    learned = lessons("convergence_bound")

    def gain(found, name, kind, other="exact"):
        against = found[name]["longer"] if other == "longer" else found[other][kind]
        return 1 - np.array(found[name][kind], float) / np.array(against, float)

    short = [found for case in cases.values() for t, found in case.items() if float(t) < 1]
    equal, longer = (np.array([gain(found, most, "potential", o) for found in short]) for o in ("exact", "longer"))
    assert f"in {np.sum(equal > 0)} of {np.sum(np.isfinite(equal))} cells with $t<1/L$, and below" in learned
    assert f"below the longer step's in {np.sum(longer > 0)}, none of these after 600 steps" in learned
    assert not np.any(longer[:, ends.index(600) :] > 0)
    coarse = gain(cases["binary8"]["0.0625"], most, "potential")
    assert f"is {100 * coarse[0]:.0f}% after 20 steps and a loss of {-100 * coarse[2]:.0f}% after 150" in learned
    fine = gain(cases["bfloat16"]["0.0625"], "signed_SR_eps(0.1)", "potential")
    assert fine[3] > 0 > fine[4] and "it ends between 600 and 2000 steps" in learned

    def tuned(case, kind, k):
        best = {n: np.nanmin([found[n][kind][k] for found in floats(cases[case])]) for n in ("exact", *SIGNED)}
        return 1 - min(best[name] for name in SIGNED) / best["exact"]

    (table,) = [text for text in cells("convergence_bound") if text.startswith("**Table 2.**")]
    within = [tuned(case, "within", k) for case in cases for k in range(4)]
    assert max(within) < 0 and "never gains in D5p" in table
    assert max(tuned("binary8", "potential", k) for k in range(5)) < 0 and "in eight bits never" in table
    zero, four = (f"{100 * tuned(case, 'potential', 0):.0f}%" for case in ("bfloat16", "bfloat16 from 4"))
    assert f"by {zero} after 20 steps from 0 and {four} from 4" in table
    assert f"({100 * tuned('bfloat16 from 1', 'potential', 2):.0f}% after 150 steps from 1)" in table
    assert f"({100 * tuned('bfloat16', 'components', 2):.0f}% after 150 from 0)" in table
    assert f"before the floor ({100 * tuned('bfloat16', 'gap', 2):.0f}%)" in table


SIGNED = ("signed_SR_eps(0.1)", "signed_SR_eps(0.4)")


def floats(case):
    """What was found at each stepsize, numbers that are not finite too."""
    return [
        {n: {k: np.array(v, float) for k, v in kinds.items()} for n, kinds in found.items()} for found in case.values()
    ]


def test_the_answer_on_logistic_regression_has_the_numbers_of_its_record():
    curves, said = numbers_of("logistic_regression"), answer("logistic_regression")
    error = {name: f"{final_errors(c).mean():.2f}%" for name, c in curves.items()}
    loss = {name: np.mean([run[-1] for run in c["loss"]]) for name, c in curves.items()}
    assert f"SR ends at a test error of {error['SR']}, as binary32 does." in said and error["SR"] == error["binary32"]
    assert f"Signed-SR$_{{0.1}}$ reaches {error['signed_SR_eps(0.1)']}." in said
    assert loss["signed_SR_eps(0.4)"] < loss["SR"] and "although its training loss is lower" in said
    verdicts = {row["scheme"]: row["so"] for row in paired(curves)}
    assert (verdicts["signed_SR_eps(0.1)"], verdicts["signed_SR_eps(0.4)"]) == ("better", "neither")


def test_the_answer_on_the_network_has_the_numbers_of_its_record():
    curves, said = numbers_of("neural_network"), answer("neural_network")
    error = {name: final_errors(c).mean() for name, c in curves.items()}
    loss = {name: np.mean([run[-1] for run in c["loss"]]) for name, c in curves.items()}
    assert (
        f"RN gets stuck at a test error of {error['RN']:.1f}%. SR ends at {error['SR']:.2f}%, as binary32 does." in said
    )
    assert f"{error['binary32']:.2f}" == f"{error['SR']:.2f}" and f"{loss['binary32']:.3f}" == f"{loss['SR']:.3f}"
    assert f"({loss['signed_SR_eps(0.1)']:.3f} against {loss['SR']:.3f})" in said
    assert f"that is not told apart from theirs, {error['signed_SR_eps(0.1)']:.2f}%;" in said
    points = numbers_of("elsewhere")["network"]["binary64"]
    assert f"with its own, exact descent has {np.mean(points[best_stepsize(points)]['error']):.2f}%" in said
    assert f"end at {error['signed_SR_eps(0.2)']:.2f}% and {error['signed_SR_eps(0.4)']:.2f}%, worse than SR" in said
    rows = {row["scheme"]: row["so"] for row in paired(curves)}
    assert {name for name, so in rows.items() if so == "worse"} == {
        "RN",
        *(f"{family}({e})" for family in ("signed_SR_eps", "both") for e in (0.2, 0.4)),
    }
    assert "better" not in rows.values()
    assert f"by {max(error['SR'] - error[f'SR_eps({e})'] for e in (0.1, 0.2, 0.4)):.2f} points or less" in said


def tuned(family):
    """A table of notebook 07: its errors as shown, and differences to the first method, or others, over test images."""
    sweep = {
        "constant": numbers_of("stepsizes")["sweep"],
        "annealed": numbers_of("annealing")["candidates"],
        "all images": numbers_of("whole_set")["sweep"],
    }[family]
    rows = numbers_of("stepsizes")["sweep"] | sweep if family == "annealed" else sweep
    best = {name: points[best_stepsize(points)] for name, points in rows.items()}

    def shown(name):
        return plus_minus(errors_at_best(sweep)[name], 2).replace("\u00a0", " ") + "%"

    def less(name, other="binary64"):
        apart, half = over_images(best[name], best[other], 1 - 0.05 / (len(sweep) - 1))
        return f"{-apart:.2f} ± {half:.2f}".replace("-", "−")

    return best, shown, less


SCHEDULE = "[0.4, 0.1, 0.02]"
ANNEALED = f"annealed {SCHEDULE}"


def test_the_answer_on_what_the_bias_does_has_the_numbers_of_its_records():
    explained, said = numbers_of("two_explanations"), answer("what_the_bias_does")
    apart = [
        np.mean(case["skeleton"]["loss"]) / np.mean(case["signed"]["loss"]) - 1
        for key, case in explained.items()
        if float(key.partition(", ")[2]) <= 0.25
    ]
    assert f"to within {np.ceil(100 * max(map(abs, apart))):.0f}% for $t\\le\\frac14$" in said
    sweep = numbers_of("stepsizes")["sweep"]
    short = {name: {p["t"]: np.mean(p["error"]) for p in points if p["t"] <= 0.5} for name, points in sweep.items()}
    half = sorted(short[f"signed_SR_eps({eps})"][0.5] for eps in (0.1, 0.2, 0.4))
    for eps in (0.1, 0.2, 0.4):
        own = short[f"signed_SR_eps({eps})"]
        assert all(own[t] < error for t, error in short["binary64"].items())
    assert f"with {half[0]:.1f} to {half[-1]:.1f}% against {short['binary64'][0.5]:.1f}%" in said
    _, shown, less = tuned("constant")
    assert f"exact descent ends at a test error of {shown('binary64')}, SR in eight bits at {shown('SR')}" in said
    assert f"signed-SR$_{{0.2}}$ at {shown('signed_SR_eps(0.2)')}. Its advantage" in said
    assert f"over exact descent is {less('signed_SR_eps(0.2)')} points" in said
    cost = less("SR").replace("−", "")
    _, shown, less = tuned("annealed")
    assert f'("annealed") gives {shown(ANNEALED)}, and its skeleton {shown("skeleton " + SCHEDULE)}.' in said
    gain = less(ANNEALED)
    assert f"Annealing's advantage over exact descent is {gain} points for all methods of Table 4" in said
    assert clear(gain)
    two = f"{shown('sign step 0.03 ' + SCHEDULE)} and {shown('sign step 0.1 ' + SCHEDULE)}"
    assert f"which the held-out images do not tell apart, end at {two}," in said
    assert f"a coefficient of 0.9, at {shown('heavy ball 0.9')}." in said
    _, shown, less = tuned("all images")
    three = f"exact descent {shown('binary64')}, SR {shown('SR')}, signed-SR$_{{0.1}}$ {shown('signed_SR_eps(0.1)')}."
    assert f"gains nothing clear either: {three}" in said
    assert f"Annealed it ends at {shown(ANNEALED)}, which is {less(ANNEALED)} points below" in said
    assert f"not told apart from the heavy ball's {shown('heavy ball 0.9')}." in said
    assert f"Decreased during the run it gains {less(ANNEALED)[:3]} points on all images" in readme()
    apart, half = less("SR").split(" ± ")
    assert f"told from chance ({cost} and −{apart} ± {half} points)" in said


def clear(difference):
    gain, half = difference.split(" ± ")
    return float(gain.replace("−", "-")) > float(half)


def test_the_lessons_on_what_the_bias_does_have_the_numbers_of_their_records():
    said = lessons("what_the_bias_does")
    best, shown, less = tuned("constant")
    skeletons = {eps: shown(f"skeleton({eps})") for eps in (0.1, 0.2)}
    assert f"is as good ({shown('relative step 0.2 of an ulp')} against {skeletons[0.2]} for the skeleton" in said
    constant = less("signed_SR_eps(0.2)")
    assert f"signed-SR$_{{0.2}}$ is {constant} points below exact descent" in said and not clear(constant)
    held = {name: np.mean(point["held_out"]) for name, point in best.items()}
    steps = [name for name in held if name.startswith("sign step")]
    assert min(steps, key=held.get) == "sign step 0.002"
    two = f"{shown('sign step 0.001')} with $c=0.001$ and {shown('sign step 0.002')} with 0.002, which the held-out"
    assert f"A constant sign step is as good as a constant bias: {two}" in said
    falls = f"({shown('falling t, 1 to 1/4')}, and {shown('t/4 at the end')} if it falls at the end)"
    sweep = numbers_of("stepsizes")["sweep"]
    least = {name: np.mean(points[best_stepsize(points, "loss")]["loss"]) for name, points in sweep.items()}
    losses = f"({least['falling t, 1 to 1/4']:.3f} and {least['t/4 at the end']:.3f}, constant {least['binary64']:.3f})"
    assert f"gains nothing clear in the error {falls}, and something in the loss {losses}." in said
    kept = f"SR has {shown('SR')} where exact descent has {shown('binary64')}, and "
    assert f"its smallest loss is {least['SR']:.3f}, that of exact descent {least['binary64']:.3f}." in said
    _, _, less = tuned("annealed")
    over_bias = less(ANNEALED, "signed_SR_eps(0.2)")
    gain, over_falling = less(ANNEALED), less(ANNEALED, "t/4 at the end")
    ball = less("heavy ball 0.9", ANNEALED)
    signs = [less(f"sign step {c} {SCHEDULE}", ANNEALED) for c in (0.03, 0.1)]
    assert [clear(text) for text in (gain, over_bias, over_falling, ball, *signs)] == [1, 0, 0, 1, 1, 0]
    _, shown, less = tuned("all images")
    assert f"{kept}{shown('SR')} where it has {shown('binary64')} on all images" in said
    constant, more, over_constant = less("signed_SR_eps(0.1)"), less(ANNEALED), less(ANNEALED, "signed_SR_eps(0.1)")
    assert f"on all images signed-SR$_{{0.1}}$ {constant}." in said and not clear(constant)
    assert f"gains on all images**: {more} points over exact descent and {over_constant} over" in said
    assert clear(more) and clear(over_constant)
    assert f"On 10,000 images it is {gain} over exact descent, but {over_bias} over signed-SR$_{{0.2}}$" in said
    assert f"and {over_falling} over exact descent whose stepsize falls to a quarter at the end" in said
    assert f"constant $\\varepsilon=0.1$ is as low ({skeletons[0.1]})." in said
    level = less("heavy ball 0.9", ANNEALED)
    assert f"ends {ball} points below the annealed scheme, and on all images {level}." in said and not clear(level)
    assert f"of fixed size end {signs[0]} and, which may be chance, {signs[1]} points below it." in said
    assert f"on all images {shown('sign step 0.001')} and {shown('sign step 0.002')}." in said
    at = {f"{p['t']:.3g}": p for p in sweep["binary64"]}
    near, far = (f"{np.mean(at[t]['held_out']):.2f}%" for t in ("1.19", "4"))
    assert f"with $t=1.19$ ({near}) from $t=4$ ({far}, with a test error of {np.mean(at['4']['error']):.2f}%)" in said


def test_a_longer_step_explains_the_loss_where_it_is_stable():
    said = lessons("what_the_bias_does")
    assert (
        "has that loss to within 3%, and a test error that is lower or the same, where all of these are below 1.5."
        in said
    )
    (caption,) = [text for text in cells("what_the_bias_does") if text.startswith("**Figure 2.**")]
    apart, lower, higher = {0.5: [], 1.0: []}, [], []
    for key, case in numbers_of("two_explanations").items():
        t = float(key.partition(", ")[2])
        ratios = [
            np.mean(case[name]["loss"]) / np.mean(case["signed"]["loss"]) - 1 for name in ("skeleton", "longer step")
        ]
        if t in apart:
            apart[t].append(ratios[0])
        if t <= 0.5:
            stable = t * (1 + max(case["beta"])) < 1.5
            assert stable == (abs(ratios[1]) < 0.03)
            error = np.mean(case["signed"]["error"]) - np.mean(case["longer step"]["error"])
            assert stable == (error > 0)
            (lower if stable else higher).append(error if stable else 100 * ratios[1])
        assert t > 1 or ratios[0] > 0
    least, *others = sorted(lower)
    assert least < 0.1 and f"lower there by {others[0]:.1f} to {others[-1]:.1f} points (equal at" in caption
    assert f"its loss is {min(higher):.0f} to {max(higher):.0f}% higher" in caption
    assert f"{100 * max(apart[0.5]):.0f}% for $t=\\frac12$ and {100 * max(apart[1.0]):.0f}% for $t=1$" in said


def test_the_lessons_on_the_network_and_the_quadratic_have_the_numbers_of_their_record():
    places, said = numbers_of("elsewhere"), lessons("what_the_bias_does")
    network = places["network"]
    best = {name: points[best_stepsize(points)] for name, points in network.items()}
    names = ("binary64", "heavy ball 0.5", "signed_SR_eps(0.1)", "signed_SR_eps(0.4)")
    exact, ball, small, large = (f"{np.mean(best[name]['error']):.2f}%" for name in names)
    assert f"{exact} for exact descent, {ball} for the heavy ball with 0.5, {small} for signed-SR$_{{0.1}}$" in said
    assert f"and {large} for signed-SR$_{{0.4}}$." in said
    exact, ball, small = (f"{np.mean(best[name]['held_out']):.2f}" for name in names[:3])
    assert f"of the first two ({exact} and {ball}%) are in the opposite order to that of the third ({small}%)" in said
    bits, skeleton, bare = (
        f"{np.mean(network[name][0]['error']):.1f}%"
        for name in ("signed_SR_eps(0.4)", "skeleton(0.4)", "skeleton(0.4), w = 1")
    )
    assert f"({bare} for the network with $t=2^{{-7}}$ and $\\varepsilon=0.4$, where eight bits are at {bits};" in said
    assert f"with $w$ {skeleton.removesuffix('%')}%)" in said
    (caption,) = [text for text in cells("what_the_bias_does") if text.startswith("**Figure 3.**")]
    pairs = {
        place: [
            (one, other)
            for eps in (0.1, 0.4)
            for one, other in zip(runs[f"skeleton({eps})"], runs[f"signed_SR_eps({eps})"], strict=True)
        ]
        for place, runs in places.items()
    }
    ratios = {p: [np.mean(a["loss"]) / np.mean(b["loss"]) - 1 for a, b in both] for p, both in pairs.items()}
    assert f"its loss is within {np.ceil(100 * max(map(abs, ratios['network']))):.0f}%" in caption
    error = max(abs(np.mean(a["error"]) - np.mean(b["error"])) for a, b in pairs["network"])
    assert f"its test error within {rounded_up(error, 2)} points of" in caption
    lower = sorted(-100 * ratio for ratio in ratios["quadratic"])
    assert f"ends lower, by {lower[0]:.0f} to {lower[-1]:.0f}%" in caption


def test_the_captions_on_annealing_have_the_numbers_of_their_records():
    (caption,) = [text for text in cells("what_the_bias_does") if text.startswith("**Figure 4.**")]
    _, _, less = tuned("annealed")
    assert f"by {less(ANNEALED, 'SR')} and {less(ANNEALED)} points over test images" in caption
    assert f"are not told apart ({less('heavy ball 0.9', f'sign step 0.03 {SCHEDULE}')})" in caption
    (caption,) = [text for text in cells("what_the_bias_does") if text.startswith("**Figure 5.**")]
    sweep = numbers_of("whole_set")["sweep"]
    signed, exact = (
        min(np.mean(point["loss"]) for name, points in sweep.items() if name.startswith(kind) for point in points)
        for kind in ("signed", "binary64")
    )
    assert f"({signed:.3f} against {exact:.3f})" in caption


def test_what_is_said_of_sharpness_has_the_numbers_of_its_records():
    worst, functions = list(numbers_of("sharpest_bound").values()), numbers_of("five_functions")

    def above(case, kind):
        assert case["steps"][-1] == 40
        return 100 * (case[kind][40] / case["worst case"][-1] - 1)

    said, learned = answer("sharper_bounds"), lessons("sharper_bounds")
    (caption,) = [text for text in cells("sharper_bounds") if text.startswith("**Figure 1.**")]
    slow, fast, steep, noisy, noisier, loud, ahead, behind, longer = worst
    for case in (slow, fast, ahead, longer):
        assert abs(above(case, "D5c")) < 0.04  # the solver's four digits
    with_noise = [above(case, "D5c") for case in (noisy, noisier, loud, behind)]
    assert f"and {min(with_noise):.1f} to {max(with_noise):.1f}% above it with noise, after 40 steps" in learned
    assert round(max(with_noise)) == 6 and "up to 6% above" in said and "up to 6% above with noise" in caption
    others = [above(case, "D5") for case in (slow, fast, noisy, noisier, loud, ahead, behind)]
    assert f"D5 (blue) is {min(others):.0f} to {max(others):.0f}% above" in caption
    assert f"{above(noisy, 'D5'):.0f} and {above(noisier, 'D5'):.0f}% above the worst case for $\\rho=0.02$" in learned
    assert above(steep, "D5c") > 200 and "for $Lt=1.9$ after two shorter steps" in learned
    free = [c["worst case, any theta"][-1] / c["worst case"][-1] - 1 for c in (noisy, noisier, loud, ahead, behind)]
    assert f"that is {100 * min(free):.0f} to {100 * max(free):.0f}% higher in the cases with noise" in caption
    (rule,) = [text for text in cells("sharper_bounds") if text.startswith("So for $\\theta=\\tau$")]
    lost = [f"{100 * (case['rule'] - 1):.1f}" for case in (noisy, noisier, loud, ahead, behind)]
    assert f"(at paper scale {lost[0]} and {lost[1]}%)" in rule
    assert (
        f"it loses {float(lost[2]):.0f}%." in rule
        and f"it loses {float(lost[3]):.0f} and {float(lost[4]):.0f}%," in rule
    )
    huber = functions["Huber"]
    truth, *bounds = (huber["SR"][what][-1] for what in ("gap", "D5c", "D5"))
    shares = f"{100 * truth / bounds[0]:.1f}%", f"{100 * truth / bounds[1]:.0f}%"
    assert f"is {shares[0]} of D5c after 300 steps ({truth:.3g} of {rounded_up(bounds[0])}), and {shares[1]}" in learned
    biased = huber["signed_SR_eps(0.25)"]["D5c"][-1]
    assert f"on Huber's by {100 * (1 - biased / bounds[0]):.0f}% (certified)" in learned
    for kind in ("diagonal quadratic", "Huber", "Nesterov", "dense quadratic", "logistic loss"):
        assert functions[kind]["signed_SR_eps(0.25)"]["D5c"][-1] < functions[kind]["SR"]["D5c"][-1]
    coarse = functions["signed by SR"]["diagonal quadratic in binary8"]
    assert f"In binary8 it raises D5c on the diagonal quadratic to {coarse[1]:.1f} times SR's" in learned
    nesterov = functions["Nesterov"]["SR"]
    assert nesterov["D5p"][-1] < nesterov["D5c"][-1] and "On Nesterov's function it is below D5c to the end" in learned
    (table,) = [text for text in cells("sharper_bounds") if text.startswith("**Table 1.**")]
    pairs = {}
    for kind, long in functions["SR with a longer step"].items():
        biased = functions[kind]["signed_SR_eps(0.25)"]["D5c"][-1]
        pairs[kind] = f"{rounded_up(long['D5c'])} and {rounded_up(biased)} on"
        assert long["gap"] < functions[kind]["signed_SR_eps(0.25)"]["gap"][-1] * (1 + 1e-4)
    assert f"(at paper scale {pairs['diagonal quadratic']} the quadratic" in table
    assert f"{pairs['Huber']} Huber's function)" in table


def test_what_is_said_of_where_the_bias_pays_has_the_numbers_of_its_record():
    numbers = numbers_of("where_the_bias_pays")
    cases, said, learned = numbers["map"], answer("where_the_bias_pays"), lessons("where_the_bias_pays")
    found = [cell for row in cases.values() for cell in row.values()]

    def mean(cell):
        return gmean(cell["ratio"])

    def clear(kind):
        return sum(all(r + h < 1 for r, h in zip(c[kind]["ratio"], c[kind]["half"], strict=True)) for c in found)

    def below(control):
        return sum(mean(c[control]) < min(mean(c["signed"]), mean(c["annealed"])) for c in found)

    def ratio(row, condition, kind="signed", digits=2):
        return f"{mean(cases[row][condition][kind]):.{digits}f}"

    assert clear("SR") == 0 and "SR) is never clearly below" in said
    assert f"Signed-SR$_{{0.4}}$ is, in {clear('signed')} of {len(found)} cases" in said
    ball = {kind: sum(mean(c["rounded ball"]) < mean(c[kind]) for c in found) for kind in ("SR", "signed")}
    assert f"momentum ends below the constant bias in {ball['signed']} cases;" in said
    assert f"is below the constant bias in {ball['signed']} cases and below SR in {ball['SR']}." in learned
    first = "bfloat16, 150 steps"
    assert f"{ratio(first, '1000')} times at condition $10^3$, 1000 components" in learned
    silver, exact = below("silver steps"), below("heavy ball")
    assert f"lower than both biased schemes in {silver} of {len(found)} cases, the heavy ball in {exact}." in learned
    near = "geometric from 1.5"
    assert f"({ratio(near, '1000')} against {ratio(near, '1000', 'rounded ball')} at condition $10^3$)" in learned
    flat = ratio("uniform from 0", "1000", digits=1), ratio("uniform from 0", "1000", "SR", 1)
    assert f"ends at {flat[0]} times exact descent at condition $10^3$, and SR at {flat[1]} times" in learned
    ends = [cell for cell in found if not all(inside for kind in cell.values() for inside in kind["inside"])]
    assert f"In {len(ends)} cases of {len(found)} some method's best stepsize is at an end of its grid, 13" in learned
    assert sum(not all(cell["rounded ball"]["inside"]) for cell in found) == 13
    far = [mean(cases[f"{kind} from 16"]["1000"]["signed"]) for kind in ("geometric", "uniform", "two clusters")]
    assert max(far) < 1 and mean(cases["rotated"]["1000"]["signed"]) > 1
    assert f"{ratio(first, '1000')} times at condition 10³, for a quadratic with 1000 components after 150" in readme()
    apart = [
        [max(c["signed"]["ratio"]) / min(c["signed"]["ratio"]) - 1 for c in row.values()] for row in cases.values()
    ]
    (text,) = [text for text in cells("where_the_bias_pays") if text.startswith("The draws of")]
    assert (
        f"up to {100 * max(apart[1]):.0f}% with ten components and {100 * max(apart[0]):.0f}% with a thousand" in text
    )
    assert apart[1].index(max(apart[1])) == 1 and apart[0].index(max(apart[0])) == 0
    assert f"elsewhere in the first row by at most {100 * max(apart[0][1:]):.0f}%" in text


def test_the_answer_on_the_best_rounding_has_the_numbers_of_its_record():
    numbers, said = numbers_of("best_rounding"), answer("exact_law")
    ends = {name: values[160] for name, values in numbers["by_horizon"].items()}
    assert ends["threshold"] == pytest.approx(ends["any policy"], rel=1e-6)
    steps, sixteenth = numbers["steps_to_minimiser"], numbers["stepsizes"].index(0.0625)
    assert 13 <= steps["any policy"][sixteenth] < 13.5 and "at $t=1/16$ every rounding needs at least 13 steps" in said
    assert steps["RN, $t=1/L$"] < 1.1 and "round-to-nearest with $t=1/L$ needs one." in said


def test_what_is_said_of_one_random_bit_and_of_where_rn_stops_is_so():
    def arrives(eps, t):
        law = exact_law(DiagonalQuadratic(np.ones(1), np.array([1100.0])), "binary8", t,
                        update=f"signed_SR_eps({eps})", bits=1)  # fmt: skip
        return np.isfinite(law.hitting_time([law.state(1024.0), law.state(1280.0)])[law.state(3584.0)])

    short = [2.0**-k for k in range(4, 11)]
    assert all(arrives(0.25, t) for t in short) and not arrives(0.249, 2.0**-13)
    assert arrives(0.2, 0.046875) and not arrives(0.2, 1 / 64)
    (caption,) = [text for text in cells("exact_law") if text.startswith("**Figure 2.**")]
    assert "with $\\varepsilon=0.2$ it is at this one, and at $t=\\frac1{64}$ it is not" in caption
    nearest = dict.fromkeys(("gradient", "multiply", "update"), "RN")
    law = exact_law(Huber(1.0, 0.2), "binary8", 1.0, **nearest)
    assert law.stagnant[law.state(3.5)] and "on Huber's function with $L=1$ and $w=0.2$ it stays at 3.5" in caption


def test_the_answer_on_which_bias_has_the_numbers_of_its_record():
    ratios, said = numbers_of("which_eps"), answer("rate_and_floor")
    cases = {
        name: np.concatenate([np.array(part[name], dtype=float) for part in ratios.values()])
        for name in ratios["quadratic"]
    }

    def mean(name, chosen=slice(None)):
        return gmean(cases[name].reshape(-1, 4)[:, chosen], axis=None)  # four horizons

    caption = " ".join(text for text in cells("rate_and_floor") if text.startswith("**Table 4.**"))

    def at(name):
        return f"({mean(name, [2]):.2f}, {mean(name, [3]):.2f})"

    half, third, late, nearest = map(at, ("0.9 until half", "annealed", "0.9 until nine tenths", "0.9, then RN"))
    assert f"at half {half}, three quarters {third} or nine tenths {late} of the steps" in caption
    early = np.mean(cases["0.9 until half"].reshape(-1, 4)[:, 2])
    assert f"switching at half (arithmetic mean {early:.2f} at $K=80$)" in caption
    assert f"To RN instead of SR the gain is lost {nearest}" in caption
    learned = lessons("rate_and_floor")
    assert f"RN after the bias ends at {' and '.join(nearest[1:-1].split(', '))}, SR at" in learned
    assert f"SR at {' and '.join(third[1:-1].split(', '))}." in learned
    assert f"The threshold ends at {mean('threshold'):.2f}." in learned and len(cases["SR"]) == 5400
    assert mean("threshold") < 1 and "Knowing the curvature usually does better." in said
    assert mean("annealed", slice(2, 4)) < 1 and "as well as the best constant $\\varepsilon$ in hindsight" in said
    assert "after 15 steps, where SR takes 1042" in said


def test_the_answer_on_stagnation_has_the_numbers_of_its_record():
    runs, said = numbers_of("stagnation"), answer("stagnation")
    after = {name: run["distance"][20] for name, run in runs.items()}
    assert after["RN"] == runs["RN"]["distance"][-1] == 3584 - 1024
    assert f"SR is at a mean distance of {after['SR']:.0f} from the minimiser, signed-SR$_{{0.4}}$ at" in said
    assert f"signed-SR$_{{0.4}}$ at {after['signed_SR_eps(0.4)']:.1f}." in said
    assert load_record(FIGURES / "stagnation.json")["parameters"]["replicates"] == 20_000


def ahead(curves, name, other="SR"):
    """The longest time, from record to record, in which a scheme has a lower mean test error than another."""
    mine, others = (np.mean(curves[which]["error"], axis=0) for which in (name, other))
    turns = np.flatnonzero(np.diff([False, *(mine < others), False]))
    first, end = max(turns.reshape(-1, 2).tolist(), key=lambda turn: turn[1] - turn[0])
    return curves[name]["steps"][first], curves[name]["steps"][end - 1]


def test_the_lessons_of_logistic_regression_have_the_numbers_of_its_records():
    curves, said = numbers_of("logistic_regression"), lessons("logistic_regression")
    moved = np.flatnonzero(np.array(curves["RN"]["unmoved"][0]) < 1)[-1] + 1
    assert f"after epoch {moved} no weight moves any more" in said
    assert any(
        f"({moved} epochs until none moves, in the committed run)" in cell for cell in cells("logistic_regression")
    )
    assert f"the test error stays at {final_errors(curves['RN']).mean():.2f}%." in said
    apart = {row["scheme"]: row["error − SR's (points)"].replace("\u00a0", " ") for row in paired(curves)}
    so = {row["scheme"]: row["so"] for row in paired(curves)}
    (images,) = [row["over images"] for row in paired(curves) if row["scheme"] == "binary32"]
    loss = {name: np.mean(c["loss"], axis=0) for name, c in curves.items()}
    cost = f"{loss['SR'][-1] - loss['binary32'][-1]:.3f}"
    assert f"a loss that is larger by {cost}." in said
    assert f"on MNIST eight bits cost {cost} in the loss" in readme()
    still = np.mean(np.array(curves["SR"]["unmoved"])[:, -1])
    assert f"in the end {100 * still:.0f}% of the weights do not move" in said
    assert "to within 0.05 points over random words, and 0.15 over test images" in said
    assert (apart["binary32"], images) == ("-0.01 ± 0.05", "±\u00a00.15")
    first, second = (apart[f"signed_SR_eps({eps})"].removeprefix("-") for eps in (0.1, 0.2))
    assert f"by {first} and {second} points, and better than binary32" in said
    assert {so["signed_SR_eps(0.1)"], so["signed_SR_eps(0.2)"], so["both(0.1)"]} == {"better"}
    for eps in (0.1, 0.2, 0.4):
        assert np.all(loss[f"signed_SR_eps({eps})"][1:] < loss["SR"][1:])
    most = apart["signed_SR_eps(0.4)"].removeprefix("+")
    since, until = ahead(curves, "signed_SR_eps(0.4)")
    behind = ahead(curves, "SR", "signed_SR_eps(0.4)")
    assert f"signed-SR$_{{0.4}}$ is behind SR at epochs {behind[0]} to {behind[1]}, ahead of it from" in said
    assert f"from {since} to {until}, and ends {most} points above it" in said
    both = [apart[f"both({eps})"].partition(" ")[0].strip("+-") for eps in (0.4, 0.1)]
    assert f"it is worse, by {both[0]} points, and the loss is {loss['both(0.4)'][-1]:.1f};" in said
    assert f'"both" with $\\varepsilon=0.1$ is better than SR, by {both[1]}.' in said
    little = [apart[f"SR_eps({eps})"].partition(" ")[0].strip("+") for eps in (0.2, 0.4)]
    assert f"$\\varepsilon=0.2$ and $0.4$, by {' and '.join(little)} points." in said
    assert {so["SR_eps(0.2)"], so["SR_eps(0.4)"], so["both(0.4)"]} == {"worse"}
    hops = [
        f"{100 * np.abs(np.array(curves[name]['error'])[:, -1] - np.array(curves[name]['error'])[:, -2]).mean():.2f}"
        for name in ("signed_SR_eps(0.1)", "signed_SR_eps(0.2)", "signed_SR_eps(0.4)", "SR")
    ]
    assert f"by {hops[0]}, {hops[1]} and {hops[2]} points from one record to the next (SR: {hops[3]})" in said


def test_the_lessons_on_the_steps_of_logistic_regression_have_the_numbers_of_their_record():
    schemes, said = numbers_of("signs_of_the_step")["schemes"], lessons("logistic_regression")
    mean = {n: {key: np.mean(values, axis=1) for key, values in found.items()} for n, found in schemes.items()}
    signed = [mean[f"signed_SR_eps({eps})"] for eps in (0.1, 0.2, 0.4)]
    wrong = sorted(100 * found["wrong_sign"][-1] for found in signed)
    assert (
        f"in {wrong[0]:.1f} to {wrong[-1]:.1f}% of the weights where neither it nor $g$ is 0 under the signed" in said
    )
    assert f"in {100 * mean['SR']['wrong_sign'][-1]:.0f}% under SR" in said
    last = sorted(found["beta"][-1] for found in signed)
    assert all(np.all(found["beta"] > 0) for found in signed)
    assert f"positive at all epochs shown, and grows to {last[0]:.1f} to {last[-1]:.1f}." in said
    most = sorted(found["decrease"].max() for found in signed)
    assert most[0] < 1.1 < most[1] and f"(up to {most[1]:.1f} and {most[2]:.1f} times)" in said
    late = max(found["decrease"][-1] for found in signed)
    assert f"is {rounded_up(late, 2)} times that or less in the last epochs" in said
    assert f"where exact descent has {mean['binary64']['decrease'][-1]:.1f}." in said
    cosines = [f"−{-found['cosine'][-1]:.2f}" for found in signed]
    assert f"(cosines of {cosines[0]}, {cosines[1]} and {cosines[2]} for" in said
    exact = -mean["binary64, $3t$"]["cosine"][-1]
    assert f"SR: {mean['SR']['cosine'][-1]:.2f}), as in exact descent with $3t$ (−{exact:.2f})" in said


def test_the_lessons_of_the_network_have_the_numbers_of_its_record():
    curves, said = numbers_of("neural_network"), lessons("neural_network")
    rows = {row["scheme"]: row for row in paired(curves)}
    apart = {name: row["error − SR's (points)"].replace("\u00a0", " ").strip("+-") for name, row in rows.items()}
    images = {name: row["over images"].replace("\u00a0", " ") for name, row in rows.items()}
    loss = {name: np.mean(c["loss"], axis=0)[-1] for name, c in curves.items()}
    rn = plus_minus(final_errors(curves["RN"]), 2).replace("\u00a0", " ")
    stopped = sum(run[-1] == 1 for run in curves["RN"]["unmoved"])
    assert f"RN comes to a complete stop in {stopped} of 20 runs, with {rn}% of the test images" in said
    assert f"(their difference is {apart['binary32']} points)" in said
    move = {name: 100 * (1 - np.mean(np.array(curves[name]["unmoved"])[:, -1])) for name in ("SR", "binary32")}
    assert f"a step moves {move['SR']:.1f}% of the weights, against {move['binary32']:.0f}% in binary32" in said
    small = apart["signed_SR_eps(0.1)"]
    assert f"{loss['signed_SR_eps(0.1)']:.3f} against {loss['SR']:.3f}, and {small} points above in the error" in said
    two = [(apart[f"SR_eps({eps})"], images[f"SR_eps({eps})"]) for eps in (0.1, 0.2)]
    assert f"are {two[0][0]} and {two[1][0]} points below SR over replicates ({two[0][1]} and {two[1][1]} over" in said
    large = [apart[f"signed_SR_eps({eps})"].partition(" ")[0] for eps in (0.2, 0.4)]
    assert f"worse than SR by {large[0]} points for $\\varepsilon=0.2$ and by {large[1]} for" in said
    assert {rows[f"signed_SR_eps({eps})"]["so"] for eps in (0.2, 0.4)} == {"worse"}
    assert {row["so"] for name, row in rows.items() if float(row["error − SR's (points)"][:5]) < 0} == {"neither"}


def test_the_lessons_of_the_exact_law_have_the_numbers_of_its_records():
    few, said = numbers_of("few_random_bits"), lessons("exact_law")
    time, floor = ({name: np.array(v[key], float) for name, v in few["schemes"].items()} for key in ("time", "floor"))
    at = {bits: k for k, bits in enumerate(few["bits"])}
    fast, slow = "signed_SR_eps(0.4)", "SR"
    assert f"signed-SR$_{{0.4}}$ needs {time[fast][-1]:.0f} steps where SR needs {time[slow][-1]:.0f}," in said
    assert f"its long-term $f$ is {100 * (floor[fast][-1] / floor[slow][-1] - 1):.0f}% higher" in said
    assert np.all(np.isinf(time["SR"][: at[3]])) and np.isfinite(time["SR"][at[3]])
    assert f"(floor {floor['SR'][at[3]]:.0f}, SR's with 32 bits {floor['SR'][-1]:.0f})" in said
    assert floor["SR"][at[4]] == floor["SR"][at[5]] == min(floor["SR"])
    assert "From 8 bits on nothing changes by more than 3%" in said
    for values in (*time.values(), *floor.values()):
        assert np.all(np.abs(values[at[8] :] / values[-1] - 1) < 0.03)
    assert "One bit is enough to arrive at every stepsize iff $\\varepsilon\\ge\\frac14$" in said
    assert {name for name, values in time.items() if np.isfinite(values[0])} == {
        f"signed_SR_eps({e})" for e in (0.2, 0.4)
    }
    best = numbers_of("best_rounding")
    steps = dict(zip(best["stepsizes"], zip(*(best["steps_to_minimiser"][n] for n in NAMES), strict=True), strict=True))
    downhill, threshold, any_policy, sr, signed = steps[0.0625]
    assert f"{downhill:.1f} steps for both, at least {any_policy:.1f} for any policy, {sr:.0f} for SR;" in said
    assert f"{downhill:.1f}" == f"{threshold:.1f}"
    downhill, threshold, any_policy, sr, signed = steps[0.5]
    assert f"are faster ({downhill:.1f} and {signed:.1f} steps against {threshold:.1f})" in said
    assert f"at $t=\\frac12$ SR takes {sr / any_policy:.1f} times as many." in said
    _, _, any_policy, sr, signed = steps[2.0**-7]
    assert round(sr / any_policy) == 12 and "SR takes twelve times the steps of the fastest policy" in said
    assert f"signed-SR$_{{0.4}}$ {signed / any_policy:.1f} times;" in said
    ends = {name: values[-1] for name, values in best["by_horizon"].items()}
    assert f"where it rests: {ends['threshold']:.5f} against {ends['downhill']:.4f}." in said
    at_once = best["steps_to_minimiser"]["RN, $t=1/L$"]
    assert f"it needs {at_once:.2f} steps and rests at {ends['RN, $t=1/L$']:.5f}." in said


NAMES = ("downhill", "threshold", "any policy", "SR", "signed_SR_eps(0.4)")


def test_the_lessons_of_your_own_problem_have_the_numbers_of_its_record():
    runs, said = numbers_of("your_own_problem"), lessons("your_own_problem")
    ends = {name: {key: run[key][-1] for key in ("mean", "bound")} for name, run in runs.items()}
    assert f"RN stops at $f-f^*={100 * ends['RN']['mean']:.1f}\\cdot10^{{-2}}$." in said
    assert f"(D5: {rounded_up(ends['signed_SR_eps(0.4)']['bound'])}, SR {rounded_up(ends['SR']['bound'])})" in said
    floor = np.mean(runs["signed_SR_eps(0.4)"]["mean"][-50:])
    assert 1.8 < floor / np.mean(runs["SR"]["mean"][-50:]) < 2.2 and "the floor is about twice SR's" in said
    arrived = [int(np.argmax(np.array(runs[name]["mean"]) < 1.1 * floor)) for name in ("signed_SR_eps(0.4)", "SR")]
    assert "is near its floor after some 120 steps, whereas SR needs twice as many" in said
    assert 115 < arrived[0] < 145 and 1.7 < arrived[1] / arrived[0] < 2.3


def test_the_lessons_on_which_bias_have_the_numbers_of_their_record():
    """Cases lie by function, format, stepsize, minimiser and horizon; means are over all but stepsize and horizon."""
    parts, said = numbers_of("which_eps").values(), lessons("rate_and_floor")

    def means(name):
        each = np.concatenate([np.array(part[name], dtype=float).reshape(3, 3, -1, 4) for part in parts])
        return gmean(each, axis=(0, 2))

    late, early = slice(2, 4), slice(0, 2)
    assert (
        means("annealed")[:, late].max() < 1.02 and "within 2% of the best constant $\\varepsilon$ in hindsight" in said
    )
    assert f"a constant 0.9 costs up to {means('ε = 0.9')[:, late].max():.2f} there" in said
    assert f"and SR up to {means('SR')[:, late].max():.0f}." in said
    short = means("annealed")[:, early]
    assert f"(annealed {short.min():.2f} to {short.max():.2f})" in said
    whole = {name: gmean(means(name), axis=None) for name in ("ε = 0.9", "downhill", "threshold")}
    assert f"as good as $\\varepsilon=0.9$ ({whole['downhill']:.2f}; all 5400 cases)" in said
    assert whole["downhill"] < whole["ε = 0.9"]
    assert f"ends at {whole['threshold']:.2f}." in said
    lower = 0
    for part in parts:
        nearest, threshold = (np.array(part[name], dtype=float) for name in ("RN, t = 1/L", "threshold"))
        lower += bool(np.all(np.isfinite(nearest)) and gmean(nearest) < gmean(threshold))
    assert lower == 5 and "that ends lower still, on five functions of six" in said
    (caption,) = [text for text in cells("rate_and_floor") if text.startswith("**Figure 2.**")]
    assert "is the lowest in the geometric mean on five functions" in caption
    lowest = [min(part, key=lambda name: gmean(np.array(part[name], dtype=float))) for part in parts]
    assert lowest.count("RN, t = 1/L") == 5


def test_the_lessons_on_the_bias_of_a_step_have_the_numbers_of_its_records():
    every, said = numbers_of("noisy_sign"), lessons("descent_bias")
    g, noisy = np.array(every["g"]), {name: np.array(values) for name, values in every["every_operation"].items()}
    for once in every["once"].values():
        assert np.all(once * g < 1e-12)
    wrong = {name: np.flatnonzero(values * np.sign(g) > 1e-6) for name, values in noisy.items()}
    signed = [f"signed_SR_eps({eps})" for eps in (0.1, 0.4)]
    for name in signed:
        assert g[wrong[name]].min() > 0 and g[wrong[name]].max() < 0.03
    least, most = (noisy[name][wrong[name]].max() for name in signed)
    assert "it has the wrong sign for $0<g<0.03$: by up to" in said
    uphill = rounded_up(max(np.max(values * np.sign(g)) for values in noisy.values()), 2)
    assert f"points uphill, by up to {uphill} gaps." in answer("descent_bias")
    assert f"by up to {least:.2f} gaps for $\\varepsilon=0.1$, {most:.2f} for $\\varepsilon=0.4$." in said
    beyond = wrong["both(0.4)"]
    assert -0.05 <= g[beyond].min() and g[beyond].max() < 0
    assert f"gives up to {rounded_up(-noisy['both(0.4)'][beyond].min(), 2)} gaps for $-0.05<g<0$." in said
    length = numbers_of("bias_and_length")
    r, ends = np.array(length["r"]), {0.1: 0.875, 0.2: 0.75, 0.4: 0.5}
    assert "From $r=2^{-14}$ on" in said and "up to $r=0.875$, 0.75 and 0.5 for the three" in said
    for eps, end in ends.items():
        bias = np.array(length["downhill"][f"signed_SR_eps({eps})"])
        assert np.allclose(bias[(r >= 2.0**-14) & (r <= end)], eps, rtol=1e-9)
        assert not np.allclose(bias[(r > end) & (r < end + 0.1)], eps)


def test_the_lesson_on_smooth_eigenvectors_has_the_number_of_its_record():
    cases, said = numbers_of("where_the_bias_pays")["map"], lessons("where_the_bias_pays")
    smooth = {condition: gmean(cell["signed"]["ratio"]) for condition, cell in cases["smooth eigenvectors"].items()}
    assert f"({smooth['100']:.2f}), gains a little at $10^3$ ({smooth['1000']:.2f}) and nothing beyond" in said
    assert min(smooth["10000"], smooth["100000"]) > 1


def test_the_page_with_sliders_says_what_its_laws_show():
    (path,) = [path for path in find_notebooks(ROOT / "notebooks") if path.stem == "14_explorer"]
    declared = {parameter.name: parameter.default for parameter in read_notebook(path).parameters}
    chosen = {name: ast.literal_eval(declared[name]) for name in inspect.signature(one_run).parameters}

    def ends(**change):
        return {name: curve[[0, -1]] for name, curve in one_run(**chosen | change)["expected"].items()}

    said = (ROOT / "docs" / "slider.py").read_text().replace("\n", " ")
    assert "At the smallest stepsizes RN does not move and, with so few random bits, SR does not either;" in said
    short = ends(stepsize=2.0**-9)
    assert [start == end for start, end in short.values()] == [True, True, False]
    stops = [ends(stepsize=2.0**k)["RN"][1] for k in range(-9, 1)]
    assert "RN stops ever closer to the minimiser" in said and stops == sorted(stops, reverse=True)
    biased = [list(ends(eps=k / 10).values())[-1][1] for k in range(1, 10)]
    assert "the floor at the end is nearly the same for all that are not 0" in said and max(biased) < 1.1 * min(biased)


def test_the_answer_beyond_descent_has_the_numbers_of_its_records():
    said, sums = answer("beyond_descent"), numbers_of("harmonic_sums")
    ends = {name: run["mean"][-1] for name, run in sums["sums"].items()}
    exact = sum(1 / i for i in range(1, 10_001))
    assert sums["terms"][-1] == 10_000 and abs(ends["bfloat16, SR"] - exact) < 0.1 < exact - ends["bfloat16, RN"]
    assert f"and at {ends['bfloat16, signed_SR_eps(0.1)']:.0f} with a bias of 0.1" in said
    products, decay = numbers_of("matrix_vector"), numbers_of("euler_decay")
    for rn, sr, biased in (
        [products[name]["mean"][-1] for name in ("RN", "SR", "SR_eps(0.1)")],
        [decay[f"bfloat16, {name}"]["mean"][-1] for name in ("RN", "SR", "signed_SR_eps(0.1)")],
    ):
        assert sr < min(rn, biased)
    circle = numbers_of("euler_circle")
    unrounded = (1 + float(ml_dtypes.bfloat16(2 * np.pi / circle["steps"])) ** 2) ** (circle["steps"] / 2)
    assert abs(circle["RN"]["radius"][0] - 1) < unrounded - 1 and "RN cancels Euler's own error" in said


def test_what_is_said_of_coupled_components_has_the_numbers_of_its_record():
    (caption,) = [text for text in cells("where_the_bias_pays") if text.startswith("**Figure 2.**")]
    ends = {case: rounded_up(run["bound"][-1]) for case, run in numbers_of("coupled").items()}
    pairs = [
        f"{ends[f'{kind}, signed_SR_eps(0.4)']} against {ends[f'{kind}, SR']}"
        for kind in ("dense quadratic", "logistic loss")
    ]
    assert f"(thin; {pairs[0]}, {pairs[1]})" in caption
    raised = []
    for kind in ("dense quadratic", "logistic loss"):
        runs = (numbers_of("coupled")[f"{kind}, {scheme}"]["bound"] for scheme in ("signed_SR_eps(0.4)", "SR"))
        by = np.divide(*runs)
        above = np.flatnonzero(by > 1)
        assert list(above) == list(range(above[0], above[-1] + 1))
        raised.append((f"{above[0]} to {above[-1]}", f"{100 * (by.max() - 1):.0f}%"))
    (steps, most), (others, least) = raised
    assert f"raises D5, after {steps} steps on the quadratic and {others} on the logistic loss, by" in caption
    assert f"by at most {most} and {least}." in caption


def test_what_is_said_of_what_the_proof_gives_away_and_of_a_matrix_is_in_the_records():
    functions, said = numbers_of("five_functions"), lessons("sharper_bounds")
    windows = functions.pop("windows")
    del functions["signed by SR"], functions["SR with a longer step"]
    gains = {
        kind: max(
            1 - case[name][f"{kind} with M"][-1] / case[name][kind][-1]
            for case in functions.values()
            for name in ("RN", "SR", "signed_SR_eps(0.25)")
        )
        for kind in ("D5", "D5p")
    }
    assert f"gains at most {100 * gains['D5']:.0f}% in D5, and up to {100 * gains['D5p']:.0f}% in D5p" in said
    above = {case: 100 * (bound / worst - 1) for case, (worst, _, bound) in windows.items()}
    last = [f"{above[f'{name}, 200']:.0f}" for name in ("SR", "signed_SR_eps(0.25)")]
    sharp = max(100 * (bound / worst - 1) for worst, bound, _ in windows.values())
    (caption,) = [text for text in cells("sharper_bounds") if text.startswith("**Table 1.**")]
    assert f"up to {last[0]}% for SR and {last[1]}% for the bias; D5c at most {rounded_up(sharp, 1)}%)" in caption
    (caption,) = [text for text in cells("sharper_bounds") if text.startswith("**Figure 3.**")]
    assert "The descent lemma, which contains the errors, gives away less than 4%." in caption
    assert max(max(case["descent"]) for case in numbers_of("given_away").values()) < 0.04


def test_what_is_said_of_single_problems_is_printed_on_the_page():
    (path,) = [path for path in find_notebooks(ROOT / "notebooks") if path.stem[3:] == "rate_and_floor"]
    shown = path.read_text()
    assert "(11 at $x^*=1.26$, 654 at 1.2501)" in lessons("rate_and_floor")
    assert "x* = 1.26: floor with ε = 0.4 by that of SR: 11.2" in shown
    assert "x* = 1.2501: floor with ε = 0.4 by that of SR: 653.8" in shown
    assert "| t too small | 1042; 0.080 | 56; 0.169 | 29; 0.170 | 15; 0.170 | 986; 0.080 |" in shown


QUICK = {
    "convergence_bound": r"quick run, with ([\d,]+) components",
    "logistic_regression": r"quick one \(([\d,]+) images",
    "neural_network": r"quick one \(([\d,]+) images",
    "exact_law": r"\(([\d,]+) in a quick run\)",
}


@pytest.mark.parametrize("name", QUICK)
def test_what_is_said_of_a_quick_run_is_what_it_is(name):
    (path,) = (ROOT / "notebooks").glob(f"*_{name}.ipynb")
    (said,) = (number for text in cells(name) for number in re.findall(QUICK[name], text))
    assert int(said.replace(",", "")) in {int(count) for count in re.findall(r"quick=([\d_]+)", path.read_text())}


NOT_YET = {"neural_network", "what_the_bias_does"}


@pytest.mark.parametrize(
    "name", [path.stem[3:] for path in find_notebooks(ROOT / "notebooks") if path.stem[3:] not in NOT_YET]
)
def test_an_opening_is_an_answer_in_few_words_and_numbers(name):
    """In bold at most 25 words, then at most 80; three numbers outside formulas and names."""
    (path,) = (ROOT / "notebooks").glob(f"*_{name}.ipynb")
    first = nbformat.read(path, as_version=4).cells[0].source
    bold, rest = re.fullmatch(r"# [^\n]+\n\n\*\*(.+?)\*\*\n(.+?)\n\n.*", first, re.DOTALL).groups()
    assert len(bold.split()) <= 25 and len(rest.split()) <= 80
    plain = re.sub(r"\]\([^)]*\)|\$[^$]*\$|(binary|bfloat|D)\d+|R\. Soc\.[^)]*", "", f"{bold} {rest}")
    assert len(re.findall(r"\d[\d.,]*", plain)) <= 3, plain
