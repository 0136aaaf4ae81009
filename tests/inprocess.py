"""Stands for the process of a job: its cells are run here, in a hundredth of the time in which a kernel starts."""

import io
from contextlib import redirect_stdout

import nbformat
from nbformat.v4 import new_code_cell, new_output


class InProcess:
    """As `supervise._Watched`, for tests of what is kept, resumed and said; threads share the working directory."""

    memory = 10**7

    def __init__(self, task, staged, staging):
        self.job, self.staged = task.job, staged

    def run(self):
        figures = self.staged / "figures"
        figures.mkdir()
        given = dict(self.job.parameters) | {"output_dir": str(figures)}
        notebook, names, problem, count = nbformat.read(self.job.notebook, as_version=4), {}, None, 0
        injected = new_code_cell("\n".join(f"{name} = {value!r}" for name, value in given.items()))
        injected.metadata["tags"] = ["injected-parameters"]
        place = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        notebook.cells.insert(place[0] + 1 if place else 0, injected)
        for cell in [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]:
            count, said = count + 1, io.StringIO()
            try:
                with redirect_stdout(said):
                    exec(compile(cell.source, "cell", "exec"), names)
            except Exception as error:
                problem = f"cell [{count}]: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            cell.outputs = [new_output("stream", text=said.getvalue())] if said.getvalue() else []
            if problem:
                break
        nbformat.write(notebook, self.staged / f"{self.job.stem}.ipynb")
        (self.staged / "log").write_text(problem or "")
        return problem
