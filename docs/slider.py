"""A page of the site on which sliders change a run of gradient descent, without a kernel and without a network."""

import ast
import base64
import inspect
import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from srlib.companion.explore import draw_run, one_run, scheme_of
from srlib.companion.figures import use_style
from srlib.companion.notebook import read_notebook

VALUES = {"stepsize": [2.0**k for k in range(-9, 1)], "eps": [k / 10 for k in range(10)]}
SYMBOLS = {"stepsize": "t", "eps": "ε"}
PAGE = """# A run and its law, with sliders

The second figure of the [explorer](notebooks/14_explorer.ipynb) with its parameters ({fmt}, {bits} random bits). A
slider changes one of them. Left: the probability of each value after each step by the exact law, and one run. Right:
the objective of that run, and its exact expectation for the scheme, for SR and for RN. The pictures are part of this
page: it needs no kernel and no network.

## The stepsize

At the smallest stepsizes RN does not move and, with so few random bits, SR does not either; signed-SR does. At larger
ones SR follows, and RN stops ever closer to the minimiser.

{stepsize}

## The bias

With ε = 0 the scheme is SR. A larger ε is faster; the floor at the end is nearly the same for all that are not 0.

{eps}
"""
SLIDER = """```{{raw}} html
<div class="slider"><label>{symbol} = <output>{value}</output><br>
<input type="range" aria-label="{symbol}" min="0" max="{last}" value="{middle}" oninput="{script}"></label>
{images}</div>
```"""
SCRIPT = (
    "const box = this.closest('.slider'), images = box.querySelectorAll('img');"
    " images.forEach((image, k) => image.hidden = k != this.value);"
    " box.querySelector('output').textContent = images[this.value].dataset.value"
)
IMAGE = '<img {hidden} data-value="{value:g}" alt="Law and objective with {symbol} = {value:g}" src="data:{data}">'


def slider_page(notebook: Path) -> str:
    """Return the page, of the explorer with the parameters that it has."""
    declared = {parameter.name: parameter.default for parameter in read_notebook(notebook).parameters}
    chosen = {name: ast.literal_eval(declared[name]) for name in inspect.signature(one_run).parameters}
    with matplotlib.rc_context():
        use_style()
        return PAGE.format(**chosen | {name: slider(name, values, chosen) for name, values in VALUES.items()})


def slider(name, values, chosen):
    """Return a slider with a picture for each value, of which one shows; all have the same axes."""
    figures = []
    for value in values:
        run = chosen | {name: value}
        figures.append(draw_run(one_run(**run), scheme_of(run["scheme"], run["eps"]), run["minimiser"]))
    for k in range(2):
        ends = [figure.axes[k].get_ylim() for figure in figures]
        for figure in figures:
            figure.axes[k].set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    middle, symbol = len(values) // 2, SYMBOLS[name]
    images = [
        IMAGE.format(hidden="hidden" * (k != middle), value=value, symbol=symbol, data=as_data(figure))
        for k, (value, figure) in enumerate(zip(values, figures, strict=True))
    ]
    facts = {"symbol": symbol, "value": f"{values[middle]:g}", "middle": middle, "last": len(values) - 1}
    return SLIDER.format(images="\n".join(images), script=SCRIPT, **facts)


def as_data(figure):
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    return "image/png;base64," + base64.b64encode(content.getvalue()).decode()
