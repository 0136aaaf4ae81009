"""The command `srlib`: list the notebooks, and regenerate every figure from them."""

import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from tqdm import tqdm

from srlib import batch
from srlib.claims import as_json, evaluate, ledger
from srlib.records import write_atomically
from srlib.report import gallery, results_page
from srlib.settings import BACKENDS, PROFILES, array_library

_ROOT = Path(__file__).parents[1] if (Path(__file__).parents[1] / "notebooks").is_dir() else Path()

_names = click.argument("names", metavar="[NOTEBOOK]...", nargs=-1)
_notebooks = click.option(
    "--notebooks",
    "directory",
    type=click.Path(path_type=Path),
    default=_ROOT / "notebooks",
    help="Directory of the notebooks. [default: that of the checkout, else ./notebooks]",
)
_figures = click.option(
    "--figures",
    type=click.Path(path_type=Path),
    default=_ROOT / "figures",
    help="Directory of the records. [default: that of the checkout, else ./figures]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Reproduce the figures of the companion to biased stochastic rounding in low-precision gradient descent.

    A NOTEBOOK is given by its name (05_logistic_regression), its number (05) or its path; none means all.
    """


@main.command("list")
@_names
@_notebooks
def list_notebooks(names, directory) -> None:
    """Show each notebook's title, parameters and figures."""
    for notebook in _read(directory, names):
        click.echo(f"{notebook.path.stem}  {notebook.title}".rstrip())
        assignments = [f"{parameter.name} = {parameter.default}" for parameter in notebook.parameters]
        width = max(map(len, assignments), default=0)
        for assignment, parameter in zip(assignments, notebook.parameters, strict=True):
            click.echo(f"    {assignment:{width}}  {parameter.help}".rstrip())
        if notebook.figures:
            click.echo(f"    figures: {', '.join(notebook.figures)}")


@main.command()
@_names
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="quick",
    show_default=True,
    help="A few seconds a notebook, or the experiments in full.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="numpy",
    show_default=True,
    help="Arrays on the processor or on a GPU.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True, help="Where results go."
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Notebooks to run at the same time."
)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Value of a parameter of the notebooks, a JSON or Python literal or a word; repeatable.",
)
@_notebooks
def regenerate(names, profile, backend, out, jobs, parameters, directory) -> None:
    """Run notebooks, and keep the figures and executed notebooks of those that succeed.

    Figures go to OUT/figures and executed notebooks to OUT/notebooks; a notebook that fails goes to OUT/failed, as far
    as it got, and the command then ends with status 1.
    """
    values = {name: batch.parse_value(text) for name, text in parameters}
    notebooks = _read(directory, names)
    try:
        planned = batch.plan_jobs(notebooks, profile, backend, values)
        array_library(backend)
    except (RuntimeError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as on Ctrl-C
    try:
        with _staging(out) as staging, batch.process_pool(min(jobs, len(planned))) as pool:
            outcomes = _report(batch.run_jobs(planned, out, Path(staging), pool), len(planned))
    except KeyboardInterrupt:
        click.echo("Interrupted; notebooks that had not finished left nothing.", err=True)
        raise click.exceptions.Exit(130) from None
    _summarise(outcomes, out)


@main.command()
@_figures
@_notebooks
def results(figures, directory) -> None:
    """Write what the records of all figures say: RESULTS.md beside their directory, and a gallery in it."""
    try:
        pages = {
            figures.parent / "RESULTS.md": results_page(figures),
            figures / "README.md": gallery(figures, directory),
        }
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    for path, text in pages.items():
        write_atomically(path, text.encode())
        click.echo(path)


@main.command()
@_figures
def claims(figures) -> None:
    """Test each claim of the paper's abstract on the records of all figures; also write claims.json beside them."""
    try:
        found = evaluate(figures)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    write_atomically(figures / "claims.json", as_json(found).encode())
    rows = ledger(found)
    widths = {name: max(len(row[name]) for row in [*rows, {name: name}]) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        click.echo("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())


def _read(directory, names):
    try:
        return [batch.read_notebook(path) for path in batch.select(batch.find_notebooks(directory), names)]
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _staging(out):
    """Make `out` and a directory in it, where jobs write until they have succeeded and which is then removed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        return TemporaryDirectory(prefix=".staging-", dir=out, ignore_cleanup_errors=True)
    except OSError as error:
        raise click.UsageError(f"--out {out}: cannot write there ({error.strerror})") from None


def _report(outcomes, total):
    """Print a line for each outcome as it comes, below them a bar that counts them, and return them all."""
    finished = []
    for outcome in tqdm(outcomes, total=total, unit="notebook", disable=None):  # no bar where there is no terminal
        with tqdm.external_write_mode():
            click.echo(_line(outcome))
        finished.append(outcome)
    return finished


def _line(outcome):
    if outcome.problem is None:
        return f"{outcome.job.name}  ok  {outcome.seconds:.1f} s  {_count(len(outcome.figures), 'figure')}"
    where = f"  (see {outcome.notebook})" if outcome.notebook else ""
    return f"{outcome.job.name}  FAILED  {outcome.seconds:.1f} s  {outcome.problem}{where}"


def _summarise(outcomes, out):
    figures = sum(len(outcome.figures) for outcome in outcomes)
    click.echo(f"{_count(figures, 'figure')} in {out / 'figures'}")
    failed = sorted(outcome.job.name for outcome in outcomes if outcome.problem is not None)
    if failed:
        raise click.ClickException(f"{len(failed)} of {_count(len(outcomes), 'notebook')} failed: {', '.join(failed)}")


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"
