"""Every algebraic step behind the bounds, proved for all real numbers by Z3: its negation has no solution.

What is not algebra is the mathematics of notebook 04: the descent lemma, co-coercivity, Cauchy–Schwarz, and that
expectations are linear and keep inequalities.
"""

import pytest
import sympy
import z3

a, b, c, d, q, s, t, w = z3.Reals("a b c d q s t w")
A, B, D, G, L, P, R, S, W = z3.Reals("A B D G L P R S W")
tau, theta, rho, omega, alpha, beta, eta, eps, phi = z3.Reals("tau theta rho omega alpha beta eta eps phi")
along, outward, noise = z3.Reals("along outward noise")  # E⟨g, e⟩, E⟨e, x̂ − x*⟩, E‖e‖²


def prove(claim, *hypotheses):
    solver = z3.Solver()
    solver.set("timeout", 20_000)
    solver.add(*hypotheses, z3.Not(claim))
    assert solver.check() == z3.unsat, solver.model() if solver.check() == z3.sat else "not decided"


TWO_STEPSIZES = (along == (t - tau) * G, outward == (t - theta) * P, noise == (rho + (t - tau) ** 2) * G)
LEMMA = -tau * G + L / 2 * (tau**2 + rho) * G  # E⟨g, x̂⁺ − x̂⟩ + L/2·E‖x̂⁺ − x̂‖²
GAINS = s == 2 * tau - L * tau**2 - L * rho


def test_a_step_is_one_of_tau_along_the_gradient_and_a_noise():
    """x̂⁺ − x̂ = −tg + e."""
    prove(-t * G + along == -tau * G, *TWO_STEPSIZES)
    prove(t**2 * G - 2 * t * along + noise == (tau**2 + rho) * G, *TWO_STEPSIZES)
    prove(-t * P + outward == -theta * P, *TWO_STEPSIZES)


def test_the_noise_is_not_negative():
    """E‖e − λg‖² ≥ 0 at λ = E⟨g, e⟩/G."""
    prove(rho >= 0, G > 0, b * G == along, noise - 2 * b * along + b**2 * G >= 0, *TWO_STEPSIZES)


def test_the_descent_of_f_is_half_of_s_times_g():
    prove(LEMMA == -s * G / 2, GAINS)


def test_no_rounding_descends_by_more_than_exact_arithmetic_at_the_best_stepsize():
    prove(s <= 1 / L, GAINS, L > 0, rho >= 0)
    prove((s == 1 / L) == z3.And(L * tau == 1, rho == 0), GAINS, L > 0, rho >= 0)


def test_the_distance_changes_by_theta_and_the_squares():
    """½‖x̂⁺ − x*‖² = ½‖x̂ − x*‖² + ⟨x̂⁺ − x̂, x̂ − x*⟩ + ½‖x̂⁺ − x̂‖², component by component."""
    x, y = z3.Reals("x y")
    prove((x + y) ** 2 / 2 == x**2 / 2 + y * x + y**2 / 2)


POTENTIAL = (
    L > 0, G >= 0, A >= 0, alpha >= 0, alpha >= theta,
    b <= a - s * G / 2,  # descent
    d == R - 2 * theta * P + (tau**2 + rho) * G,  # the squared distance, before and after
    P >= a + G / (2 * L),  # co-coercivity at x*
    2 * w == (A + alpha) * s + alpha / L - tau**2 - rho,
)  # fmt: skip


def test_the_potential_falls_by_w_times_g():
    prove((A + alpha) * b + d / 2 <= A * a + R / 2 - w * G + (alpha - theta) * P, *POTENTIAL)


def test_only_what_is_lost_adds_to_the_potential():
    gained, lost = z3.If(w > 0, w, 0) * G, z3.If(w < 0, -w, 0) * G
    prove(-w * G == lost - gained)


def test_the_gradient_grows_by_at_most_1_plus_omega():
    """Co-coercivity between iterates with d = g⁺ − g, x̂⁺ − x̂ = −τg + n, E⟨g, n⟩ = 0, E‖n‖² = ρG, and Young's.

    D = E‖d‖², b = E⟨d, g⟩, c = E⟨d, n⟩.
    """
    inside = (L > 0, tau > 0, L * tau < 2, G >= 0, D >= 0, rho >= 0)
    co_coercive, cauchy = -tau * b + c >= D / L, c**2 <= D * rho * G
    defined = omega * (2 * tau - L * tau**2) == L * rho
    # Young: c ≤ (2/L − τ)D/2 + ρG/(2(2/L − τ)).
    young = 2 * c * (2 / L - tau) <= D * (2 / L - tau) ** 2 + rho * G
    prove(young, *inside, cauchy)
    prove(G + 2 * b + D <= (1 + omega) * G, *inside, co_coercive, young, defined)


def test_what_was_gained_is_kept_but_for_the_growth_of_the_gradient():
    """W_{K+1}(1 + ω) = W_K + max(0, w): if S ≥ W_K·G_K, then S + max(0, w)G_K ≥ W_{K+1}·G_{K+1}."""
    later = z3.Real("later")
    prove(
        S + c * G >= B * later,
        S >= W * G, B * (1 + omega) == W + c, later <= (1 + omega) * G, later >= 0, omega >= 0, c >= 0, W >= 0, G >= 0,
    )  # fmt: skip


def test_the_least_over_the_last_distance_and_gradient():
    """With a ≤ xy − y²/(2L), x = R_K and y = √G_K: ½x² + Wy² ≥ a·(1/(2L) + √(2W + 1/(4L²)))."""
    x, y, h = z3.Reals("x y h")
    root = (h > 0, W >= 0, q > 0, q**2 == 2 * W + h**2)
    # The difference at a = xy − hy² is a square.
    prove(2 * (x**2 / 2 + W * y**2 - (x * y - h * y**2) * (h + q)) == (x - (h + q) * y) ** 2, *root)
    prove(x**2 / 2 + W * y**2 >= a * (h + q), *root, a <= x * y - h * y**2, (x - (h + q) * y) ** 2 >= 0)


def test_the_bound_is_the_potential_by_the_sum_of_the_stepsizes():
    """A·a + ½R² + W·G ≤ top, and the least of the last two, give a ≤ top/(A + h + q)."""
    h, top, rest = z3.Reals("h top rest")
    prove(a <= top / (A + h + q), A >= 0, h > 0, q > 0, A * a + rest <= top, rest >= a * (h + q))
    prove(R / 2 / (h + h) == L * R / 2, L > 0, h == 1 / (2 * L))  # at K = 0


def test_the_bound_of_the_papers_kind():
    """D5p: a⁺ ≤ a − ½sG, G ≥ a²/R² (here R is the square), and 0 ≤ a ≤ B."""
    step = (b <= a - s * G / 2, G >= a**2 / R, R > 0, 0 <= a, a <= B)
    prove(b <= B / (1 + B * s / (2 * R)), *step, s >= 0)
    prove(b <= B - s * G / 2, *step, s < 0)


def test_the_constant_of_the_paper_is_at_most_s_by_t():
    """E⟨g, e⟩ = −βtG and E‖e‖² = η(t/L)G make τ = t(1 + β) and ρ = ηt/L − t²β²; c = 1 − η + 2(1 − Lt)β."""
    named = (tau == t * (1 + beta), rho == eta * t / L - t**2 * beta**2, GAINS, L > 0, t > 0, L * t <= 1)
    prove(1 - eta + 2 * (1 - L * t) * beta <= s / t, *named)


def test_exact_arithmetic():
    """D4: with s = 2t − Lt² ≥ t and R the square of the radius, 1/a⁺ ≥ 1/a + t/(2R)."""
    prove(2 * t - L * t**2 >= t, L > 0, t > 0, L * t <= 1)
    prove(1 / b >= 1 / a + t / (2 * R), 0 < b, b <= a, b <= a - t * a**2 / (2 * R), R > 0, t > 0)
    prove(1 / (1 / (L * R / 2) + t * q / (2 * R)) == 2 * L * R / (4 + L * t * q), L > 0, R > 0, t > 0, q >= 0)


r = z3.Real("r")
SHORT = (0 < r, 0 < eps, eps < 1, 0 < L * t)


def contribution(along_, square_):
    """Of one component to c·G·t²/gap² less that of exact arithmetic, from E e·sign(g) and E e² in gaps."""
    return -2 * (1 - L * t) * r * along_ - L * t * square_


@pytest.mark.parametrize("clipped", [False, True])
def test_when_a_component_gains_at_equal_stepsize(clipped):
    """Below r = 1 − ε the clip is idle, e = −gap with probability r + ε less r·gap; from there it is certain."""
    p = 1 if clipped else r + eps
    mean, square = r - p, p * (1 - r) ** 2 + (1 - p) * r**2
    gain = contribution(mean, square)
    if clipped:
        prove((gain > 0) == (r > L * t / (2 - L * t)), *SHORT, r < 1, r >= 1 - eps, L * t < 2)
    else:
        parabola = L * t * r**2 + (2 * eps - L * t) * r - L * t * eps
        prove(gain == parabola, *SHORT, r < 1 - eps)


def test_for_every_stepsize_below_the_best_some_component_gains():
    """Just below a gap: max(1 − ε, Lt/(2 − Lt)) < r < 1."""
    prove(L * t / (2 - L * t) < 1, 0 < L * t, L * t < 1)


def test_the_noise_floor_of_hops_between_two_values():
    """D10: φ and 1 − φ gaps from x*; up with probability Ltφ + ε from below, down with Lt(1 − φ) + ε from above."""
    up, down = L * t * phi + eps, L * t * (1 - phi) + eps
    floor = (phi**2 * down + (1 - phi) ** 2 * up) / (up + down)
    known = (L * t * phi * (1 - phi) + eps * (phi**2 + (1 - phi) ** 2)) / (L * t + 2 * eps)
    prove(floor == known, L * t > 0, eps >= 0)
    # Its mean over φ from 0 to 1, of φ(1 − φ) and φ² + (1 − φ)², is that of 1/6 and 2/3: SR's 1/6, at most twice that.
    mean = (L * t / 6 + eps * 2 / 3) / (L * t + 2 * eps)
    prove(z3.And(mean >= z3.Q(1, 6), mean <= z3.Q(1, 3)), L * t > 0, eps >= 0)
    prove(mean == z3.Q(1, 6), L * t > 0, eps == 0)


def test_the_better_of_two_neighbours_is_that_with_the_smaller_f():
    """D11: from a value z gaps from x* a step ends φ = Ltz < 1 gaps nearer, between that value and the one at z − 1."""
    z = z3.Real("z")
    prove(((z - 1) ** 2 < z**2) == (z > z3.Q(1, 2)))
    prove((z > z3.Q(1, 2)) == (phi > L * t / 2), phi == L * t * z, L * t > 0)


PLANTED = [
    ("1 for 2 in s", 2 * s == 2 * tau - L * tau**2 - L * rho),
    ("the squares without the noise", s == 2 * tau - L * tau**2),
    ("another L", s == 2 * tau - L / 2 * tau**2 - L / 2 * rho),
]


@pytest.mark.parametrize(("fault", "wrong"), PLANTED, ids=[fault for fault, _ in PLANTED])
def test_a_planted_fault_has_no_proof(fault, wrong):
    with pytest.raises(AssertionError):
        prove(LEMMA == -s * G / 2, wrong, L > 0, rho >= 0)


def test_the_weights_of_a_potential_without_noise_make_a_form_of_rank_one():
    """Notebook 09, (6): of the form in X, g and h, and the sign of what it is a multiple of, up to Lt = 3/2."""
    s, t, n = sympy.symbols("s t n", positive=True)
    a, b = n - s, n - s - t

    def rational(expression):
        return sympy.factor(sympy.cancel(sympy.together(expression)))

    before, after = (1 + n) * s / a, (1 + n) * (s + t) / b
    c, c1 = 1 - s * (s + 1) / (a * (a + 1)), 1 - (s + t) * (s + t + 1) / (b * (b + 1))
    alpha = (1 + n) * t / a
    gamma, m = after - before - alpha, before + alpha
    assert rational(gamma - (1 + n) * t * (s + t) / (a * b)) == 0
    pivot = t * (1 + n) * (n + n * t + 2 * s * b) / (a * (a + 1) * b * (b + 1))
    assert rational(c - c1 - pivot) == 0
    of_g, of_h = t * c1 - alpha, -gamma
    gg, gh, hh = m + alpha - t**2 * c1, (t - 1) * m + t * gamma, m + gamma
    q = (2 - t) * s * b + n * (1 + t - t**2) + t * (1 - t)
    multiple = t * (1 + n) ** 2 * (s + t) * q / (a**2 * (a + 1) * b * (b + 1))
    assert rational(gg * pivot - of_g**2 - multiple) == 0
    assert rational(hh * pivot - of_h**2 - multiple) == 0
    assert rational(gh * pivot - of_g * of_h + multiple) == 0
    least = (q - (2 - t) * s * b).subs(n, 2 * t)
    assert sympy.expand(least - t * (3 - 2 * t) * (1 + t)) == 0
    end = {s: n / 2 - t}
    assert rational(c1.subs(end)) == 0 and rational(after.subs(end) - 1 - n) == 0
