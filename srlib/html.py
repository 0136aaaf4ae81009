"""What Jupyter shows of formats, schemes, histories and certificates."""

from html import escape

import numpy as np

_COLOURS = ("#0072B2", "#D55E00")
_SIZE, _PAD = (240, 130), 34  # of a graph, in pixels
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
    count = 2 ** (fmt.precision - 1) * (fmt.emax - fmt.emin + 2)
    if count > 256:
        return ""
    positive = fmt.values()
    positive = ", ".join(f"{value:g}" for value in positive[positive > 0])
    return f"<details><summary>positive values</summary>{positive}</details>"


def scheme_html(scheme, theta, curves) -> str:
    """Return what a scheme does, and its probability of rounding up at positions θ in a gap, a curve or two."""
    lines = [(theta, up, colour, label) for (label, up), colour in zip(curves.items(), _COLOURS, strict=False)]
    text = f"<p>{escape(_FORMULAS[scheme.name])}{f', ε = {scheme.eps:g}' if scheme.name.endswith('_eps') else ''}</p>"
    return _titled(str(scheme), text + _graph(lines, "θ", "P(up), x > 0", (0.0, 1.0)))


def history_html(history) -> str:
    """Return the objective of a run, the mean over the replicates if there are any, and how it ends."""
    values = np.asarray(history.objective, dtype=np.float64)
    mean = values if values.ndim == 1 else values.mean(axis=1)
    rows = {
        "steps": history.steps[-1],
        "replicates": 1 if values.ndim == 1 else values.shape[1],
        "objective": f"{mean[0]:.4g} → {mean[-1]:.4g}",
        "unmoved in the last step": f"{np.mean(history.stagnated[-1]):.1%}",
    }
    drawn = _graph([(history.steps, mean, "#0072B2", "")], "step", "objective") if np.all(np.isfinite(mean)) else ""
    return _titled("History", _table(rows) + drawn)


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


def _graph(lines, below, beside, span=None):
    """Return lines (x, y, colour, label) as an SVG picture with the ranges at its edges."""
    (width, height), pad = _SIZE, _PAD
    xs, ys = (np.concatenate([np.asarray(line[part], dtype=np.float64) for line in lines]) for part in (0, 1))
    (left, right), (low, high) = ((x.min(), x.max() if x.max() > x.min() else x.min() + 1) for x in (xs, ys))
    low, high = span or (low, high)

    def points(x, y):
        across = pad + (np.asarray(x) - left) / (right - left) * (width - 2 * pad)
        down = height - pad - (np.asarray(y) - low) / (high - low) * (height - 2 * pad)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))

    def text(x, y, words, colour="currentColor", anchor="middle"):
        return f'<text x="{x}" y="{y}" font-size="10" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'

    parts = [f'<polyline points="{points(x, y)}" fill="none" stroke="{colour}"/>' for x, y, colour, _ in lines]
    parts += [text(pad + 4, pad + 10 + 12 * k, line[3], line[2], "start") for k, line in enumerate(lines)]
    parts += [text(width / 2, height - 4, below), text(width / 2, 12, beside)]
    parts += [text(pad, height - 8, f"{left:.3g}"), text(width - pad, height - 8, f"{right:.3g}")]
    parts += [text(2, height - pad, f"{low:.3g}", anchor="start"), text(2, pad, f"{high:.3g}", anchor="start")]
    frame = (
        f'<rect x="{pad}" y="{pad}" width="{width - 2 * pad}" height="{height - 2 * pad}" fill="none" stroke="#999"/>'
    )
    return f'<svg width="{width}" height="{height}" role="img">{frame}{"".join(parts)}</svg>'
