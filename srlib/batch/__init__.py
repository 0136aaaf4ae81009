"""Running the notebooks: what to run (`plan`) and running it (`run`)."""

from srlib.batch.plan import Job, Notebook, Parameter, find_notebooks, parse_value, plan_jobs, read_notebook, select
from srlib.batch.run import Outcome, process_pool, run_jobs

__all__ = [
    "Job",
    "Notebook",
    "Outcome",
    "Parameter",
    "find_notebooks",
    "parse_value",
    "plan_jobs",
    "process_pool",
    "read_notebook",
    "run_jobs",
    "select",
]
