"""What Jupyter shows of formats, schemes, histories and certificates."""

from html import escape

import numpy as np

_FORMULAS = {
    "RN": "to nearest, ties to even",
    "RZ": "toward zero",
    "RU": "up",
    "RD": "down",
    "SR": "P(up) = θ",
    "SR_eps": "P(away) = min(θ + ε, 1)",
    "signed_SR_eps": "P(up) = clip(θ − sign(v)·ε, 0, 1)",
}


def format_html(fmt) -> str:
    """Return the bits, the range and the positive values of a format, the latter if there are at most 256."""
    exponent = int(np.ceil(np.log2(fmt.emax - fmt.emin + 2)))
    bits = f"1 sign, {exponent} exponent, {fmt.precision - 1} significand"
    rows = {
        "bits": f"{1 + exponent + fmt.precision - 1}: {bits}",
        "precision p": fmt.precision,
        "exponents": f"{fmt.emin} to {fmt.emax}",
        "unit roundoff": _number(fmt.unit_roundoff),
        "largest": _number(fmt.largest),
        "smallest normal": _number(fmt.smallest_normal),
        "smallest subnormal": _number(fmt.smallest_subnormal) if fmt.subnormals else "none",
        "overflow": {"inf": "±∞", "nan": "NaN", "saturate": "± the largest"}[fmt.overflow],
    }
    if fmt.emin == fmt.emax:  # of fixed point: no exponent to store
        fraction = fmt.precision - 1 - fmt.emax
        bits = f"{1 + fmt.precision}: 1 sign, {fmt.emax + 1} integer, {fraction} fraction"
        rows = {"bits": bits, "gap": _number(fmt.quantum), "largest": rows["largest"], "overflow": rows["overflow"]}
    return _titled(str(fmt), _table(rows) + _values(fmt))


def _values(fmt):
    if fmt.count > 2 * 256:
        return ""
    positive = fmt.values()
    positive = ", ".join(f"{value:g}" for value in positive[positive > 0])
    return f"<details><summary>positive values</summary>{positive}</details>"


def scheme_html(scheme) -> str:
    """Return what a scheme does."""
    text = f"<p>{escape(_FORMULAS[scheme.name])}{f', ε = {scheme.eps:g}' if scheme.name.endswith('_eps') else ''}</p>"
    return _titled(str(scheme), text)


def history_html(history) -> str:
    """Return the objective of a run, the mean over the replicates if there are any, and how it ends."""
    values = np.asarray(history.objective, dtype=np.float64)
    mean = values if values.ndim == 1 else values.mean(axis=1)
    rows = {
        "steps": history.steps[-1],
        "replicates": 1 if values.ndim == 1 else values.shape[1],
        "objective": f"{mean[0]:.4g} → {mean[-1]:.4g}",
        "unmoved in the last step": f"{np.mean(history.unmoved[-1]):.1%}",
    }
    return _titled("History", _table(rows))


def certificate_html(certificate, ends) -> str:
    """Return whether the bounds of a run are certified, and what they are after the last step, given as text."""
    certified, rates = certificate.certified, certificate.rates
    known = "certified: exact expectations" if certified else f"estimated, {certificate.confidence:.0%} confidence"
    rows = {
        "L, t, R": f"{rates.lipschitz:.4g}, {rates.stepsize:.4g}, {certificate.radius:.4g}",
        "bounds": known,
        f"f − f* after {len(certificate.bound) - 1} steps": f"{certificate.gap[-1].mean():.4g}",
    }
    return _titled("Certificate", _table(rows | ends))


def _titled(title, body):
    return f"<div><strong>{escape(title)}</strong>{body}</div>"


def _table(rows):
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def _number(value):
    mantissa, exponent = np.frexp(value)
    power = f"2^{exponent - 1}" if mantissa == 0.5 else ""
    return f"{power} = {value:.6g}" if power else f"{value:.6g}"
