"""The command `srlib`: list the notebooks, and regenerate every figure from them."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from srlib import checks
from srlib.batch.manifest import made_from, reason_to_run
from srlib.batch.plan import plan_jobs, select
from srlib.batch.progress import Display, counted, summary
from srlib.batch.progress import as_json as json_of
from srlib.batch.run import dask_executor, run_jobs, staging_directory
from srlib.batch.store import Store
from srlib.batch.sweep import Sweep, parse_value, read_sweep
from srlib.companion.notebook import find_notebooks, read_notebook
from srlib.companion.records import write_atomically
from srlib.companion.settings import BACKENDS, PROFILES, array_library
from srlib.version import __version__

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
_jobs = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Notebooks to run at the same time."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
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
    help="A few seconds a notebook, or the experiments in full. [default: quick]",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Arrays on the processor or on a GPU. [default: numpy]",
)
@click.option(
    "--out", default="build", show_default=True, help="Where results go: a directory, or a URL that fsspec knows."
)
@_jobs
@click.option("--scheduler", metavar="ADDRESS", help="Run on the workers of this Dask scheduler instead.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Value of a parameter of the notebooks, a JSON or Python literal or a word; repeatable.",
)
@click.option(
    "--sweep",
    type=click.Path(path_type=Path),
    help="YAML file of notebooks, profile, backend and parameters, whose lists are crossed.",
)
@click.option(
    "--split",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Divide the replicates of a notebook into so many jobs, and merge them.",
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds after which a job is ended.")
@click.option("--force", is_flag=True, help="Run what is up to date, too.")
@click.option("--keep-going", is_flag=True, help="Start further jobs after one has failed.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and why; run nothing.")
@click.option("--site", is_flag=True, help="Build the web pages at the end; see `srlib site`.")
@click.option("--json", "as_json", is_flag=True, help="Write what became of each job as JSON, and the rest to stderr.")
@_notebooks
def regenerate(
    names, out, jobs, scheduler, sweep, dry_run, site, as_json, directory, timeout, force, keep_going, **given
) -> None:
    """Run notebooks, and keep the figures and executed notebooks of those that succeed.

    Figures go to OUT/figures and executed notebooks to OUT/notebooks, with a manifest for each in OUT/manifests: what
    it was made from, and the hashes of all that it made. What is up to date by its manifest is not run again. A
    notebook that fails goes to OUT/failed, as far as it got, with its log, and the command then ends with status 1.
    """
    try:
        store = _store(out, directory)
        planned = _plan(names, sweep, directory, store, **given)
        if store.local is None and (given["split"] > 1 or site):
            raise ValueError(f"--out {out}: --split and --site need a directory of this machine")
        if dry_run:
            return _say_what_would_run(planned, store, force)
    except (ImportError, OSError, RuntimeError, SyntaxError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    try:
        store.check_writable()
    except Exception as error:  # of any kind where the place is not local
        said = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise click.UsageError(f"--out {out}: cannot write there ({said})") from None
    stream = sys.stderr if as_json else sys.stdout
    options = {"timeout": timeout, "force": force, "keep_going": keep_going}
    try:
        with _stopped_once(), ExitStack() as stack:
            staging = _entered(stack, staging_directory(store), f"--out {out}: ")
            executor, share = _entered(stack, _executor(scheduler, min(jobs, len(planned)), stream))
            display = stack.enter_context(closing(Display(staging, stream)))
            running = run_jobs(planned, store, staging, executor, share=share, watch=display, **options)
            outcomes = []
            for outcome in stack.enter_context(closing(running)):
                display.end(outcome)
                outcomes.append(outcome)
    except KeyboardInterrupt:
        click.echo("Interrupted; notebooks that had not finished left nothing.", err=True)
        raise click.exceptions.Exit(130) from None
    _conclude(outcomes, store, stream, as_json)
    if site:
        click.echo(_built_site(store.local, directory, _ROOT / "figures", _ROOT / "docs"), file=stream)


def _entered(stack, context, prefix=""):
    """Enter a context; where that fails, the usage is wrong."""
    try:
        return stack.enter_context(context)
    except (OSError, RuntimeError) as error:
        raise click.UsageError(f"{prefix}{error}") from None


@contextmanager
def _stopped_once():
    """Let Ctrl-C, SIGTERM and SIGHUP stop a batch in the same way, and no second one disturb how it ends."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number, frame):
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # as nohup does with SIGHUP
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _store(out, notebooks):
    """Return where results go; raise ValueError if something would be lost there."""
    if not out.strip():
        raise ValueError("--out is empty; must be a directory or a URL")
    if out.partition("://")[0] == "memory":
        raise ValueError(f"--out {out}: what is there is lost when the command ends")
    store = Store(out)
    if store.local is not None:
        for part in (store.local, *store.local.parents):
            if part.is_symlink() and not part.exists():
                raise ValueError(f"--out {out}: {part} is a link to {part.readlink()}, which is not there")
        for name, kept in {"notebooks": Path(notebooks), "figures": _ROOT / "figures"}.items():
            if (store.local / name).resolve() == kept.resolve():
                raise ValueError(f"--out {out}: results would replace what is kept in {kept}")
    return store


def _plan(names, sweep, directory, store, profile, backend, parameters, split):
    asked = read_sweep(sweep) if sweep else Sweep()
    values = {name: parse_value(text) for name, text in parameters}
    twice = sorted(values.keys() & (asked.values.keys() | asked.crossed.keys()))
    if twice:
        raise ValueError(f"parameter {twice[0]!r} is given both by -p and in {sweep}")
    if names and asked.notebooks:
        raise ValueError(f"notebooks are named both on the command line and in {sweep}")
    profile = checks.choice("profile", profile or asked.profile or "quick", PROFILES)
    backend = checks.choice("backend", backend or asked.backend or "numpy", BACKENDS)
    notebooks = _read(directory, names or asked.notebooks)
    planned = plan_jobs(notebooks, profile, backend, {**asked.values, **values}, asked.crossed, split, store.place)
    array_library(backend)
    return planned


def _say_what_would_run(planned, store, force):
    running = set()
    for job in planned:
        needed = [need.name for need in job.needs if need.name in running]
        why = f"it needs {', '.join(needed)}" if needed else reason_to_run(job, made_from(job), store)
        why = why or ("--force" if force else None)
        if why:
            running.add(job.name)
        click.echo(f"{job.name}  {'would run: ' + why if why else 'up to date'}")


@contextmanager
def _executor(scheduler, jobs, stream):
    """Yield what runs jobs, and how many of them share a machine."""
    if scheduler is None:
        with ThreadPoolExecutor(jobs, thread_name_prefix="srlib-job") as pool:
            yield pool, jobs
    else:
        with dask_executor(scheduler, lambda text: click.echo(text, file=stream)) as found:
            yield found


@main.command()
@_figures
@_notebooks
def results(figures, directory) -> None:
    """Write what the records of all figures say: RESULTS.md beside their directory, and a gallery in it."""
    from srlib.companion.report import (  # here and below: slow to import, and not needed to regenerate
        gallery,
        results_page,
    )

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
    from srlib.companion.claims import as_json, evaluate, ledger, settings_of

    try:
        found, settings = evaluate(figures), settings_of(figures)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    write_atomically(figures / "claims.json", as_json(found).encode())
    rows = ledger(found)
    widths = {name: max(len(row[name]) for row in [*rows, {name: name}]) for name in rows[0]}
    for row in [{name: name for name in widths}, *rows]:
        click.echo("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())
    click.echo(f"\n{settings}")


@main.command()
@click.argument("batch", type=click.Path(path_type=Path), default=Path("build"))
@_notebooks
@_figures
@click.option(
    "--docs",
    type=click.Path(path_type=Path),
    default=_ROOT / "docs",
    show_default="those of the checkout",
    help="Directory of Sphinx's conf.py and pages.",
)
def site(batch, directory, figures, docs) -> None:
    """Build BATCH/site (default: build/site), the companion as web pages, from what has been made; nothing is run.

    Notebooks that the batch has not run are those of the checkout, and so are all figures that a page says are
    committed.
    """
    click.echo(_built_site(batch, directory, figures, docs))


def _built_site(batch, notebooks, figures, docs):
    from srlib.batch.site import build_site

    try:
        return build_site(batch, notebooks, figures, docs)
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("build"))
def verify(directory):
    """Check that every result below DIRECTORY (default: build) is what the manifests say; status 1 if not."""
    from srlib.batch.verify import find_problems

    try:
        manifests, outputs, found = find_problems(directory)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    for problem in found:
        click.echo(problem)
    if found:
        raise click.ClickException(f"{counted(len(found), 'problem')} in {counted(manifests, 'job')}")
    click.echo(f"{counted(outputs, 'file')} of {counted(manifests, 'job')} are as they were made.")


@main.command()
@click.argument("one", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path))
@click.option("--details", is_flag=True, help="Also show each number that is not identical.")
def compare(one, other, details):
    """Say figure by figure whether the numbers in two directories agree, and what that means; status 1 if not."""
    from srlib.batch.compare import compare as compare_batches
    from srlib.batch.compare import meaning

    try:
        found = compare_batches(one, other)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    width = max(len(comparison.figure) for comparison in found)
    for comparison in found:
        click.echo(f"{comparison.figure:{width}}  {comparison.verdict}")
        if details or comparison.verdict == "not comparable":
            for detail in comparison.details:
                click.echo(f"{'':{width}}    {detail}")
    click.echo(f"\n{meaning(found)}")
    if any(comparison.verdict in ("different", "not comparable") for comparison in found):
        raise click.exceptions.Exit(1)


@main.command()
@_jobs
@_notebooks
@_figures
def restamp(jobs, directory, figures) -> None:
    """Write into the records that they hold for the code as it is, where a small run of the notebooks says so.

    That is for changes that alter no number, such as a move. The identity in a record is then that of the code again,
    beside that of the code by which its numbers were computed. Nothing is written while a unit test fails. Status 1 if
    notebooks must be run anew, which `srlib update` does.
    """
    stale = _restamped(_checked(directory, figures, jobs), figures, ())
    if stale:
        stems = " ".join(notebook.path.stem for notebook in stale)
        raise click.ClickException(f"to be run at paper scale: {stems}")


@main.command()
@_names
@_jobs
@click.option("--out", default="build/paper", show_default=True, help="Where results at paper scale go.")
@_notebooks
@_figures
@click.pass_context
def update(context, names, jobs, out, directory, figures) -> None:
    """Make the figures those of the code as it is: restamp what can be, and run the rest at paper scale.

    Notebooks that are named are run in any case. The digests of the small runs are then those of the new code.
    """
    from srlib.batch.regression_check import write_known

    named = [notebook.path for notebook in _read(directory, names)] if names else []
    findings = _checked(directory, figures, jobs)
    stale = _restamped(findings, figures, named)
    if stale:
        stems = [notebook.path.stem for notebook in stale]
        context.invoke(regenerate, names=stems, profile="paper", out=out, jobs=jobs, directory=directory)
        for name in (name for notebook in stale for name in notebook.figures):
            for suffix in ("png", "pdf", "json"):
                made = Path(out, "figures", f"{name}.{suffix}").read_bytes()
                write_atomically(figures / f"{name}.{suffix}", made)
    write_known(figures, [f for f in findings if f.notebook in stale or f.verdict == "never checked"])


def _checked(directory, figures, jobs):
    """Run the unit tests and the check of all notebooks; return what it says, if nothing fails."""
    from srlib.batch.regression_check import check, failing_tests

    notebooks = _read(directory, ())
    try:
        red = failing_tests(notebooks, directory.absolute().parent, jobs)
        findings = check(notebooks, figures, jobs)
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    broken = [f"{finding.notebook.path.stem} fails: {finding.problem}" for finding in findings if finding.problem]
    if red or broken:
        other = [f"{f.notebook.path.stem}  {f.verdict}" for f in findings if f.verdict not in ("same", "fails")]
        failed = ["", "a unit test fails:", "", red] if red else []
        raise click.ClickException("\n".join(["nothing is written", *other, *broken, *failed]))
    return findings


def _restamped(findings, figures, named):
    """Restamp what can be, say what becomes of each notebook, and return those that must be run."""
    from srlib.batch.regression_check import restamp

    stale, width = [], max(len(finding.notebook.path.stem) for finding in findings)
    for finding in findings:
        stem, chosen = finding.notebook.path.stem, finding.notebook.path in named
        state = finding.verdict if chosen or finding.must_run else "up to date"
        if chosen or finding.must_run:
            stale.append(finding.notebook)
        if not chosen and restamp(finding, figures):
            state = "restamped, redraw" if finding.must_run else "restamped"
        click.echo(f"{stem:{width}}  {'to be run' if chosen else state}")
    return stale


def _read(directory, names):
    try:
        available = find_notebooks(directory)
        for path in sorted(directory.glob("[!.]*.ipynb")) if not names else ():
            if path.resolve() not in available:
                click.echo(f"{path.name} is left out: it is a copy, or has no cell tagged 'parameters'", err=True)
        return [read_notebook(path) for path in select(available, names)]
    except FileNotFoundError as error:
        hint = "" if _ROOT.name else "; the package has none: clone the repository, or say where with --notebooks"
        raise click.UsageError(f"{error}{hint}") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _conclude(outcomes, store, stream, as_json):
    click.echo(f"\n{summary(outcomes)}\n\nResults are in {store.place}", file=stream)
    if as_json:
        click.echo(json_of(outcomes))
    failed = sorted(outcome.job.name for outcome in outcomes if outcome.state in ("failed", "not run"))
    if failed:
        total = counted(len(outcomes), "notebook")
        raise click.ClickException(f"{len(failed)} of {total} failed or did not run: {', '.join(failed)}")
