"""The process of one job: papermill on one notebook. `supervise` starts it as a script, so that it is soon ready.

Its argument is a JSON file with the arguments of `_execute` and the number of the process that supervises it. It says
what became of the notebook on what was its standard output: nothing, or one line on why it failed.
"""

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from itertools import count
from pathlib import Path

_LOOK_EVERY = 0.5  # seconds
_LONGEST = 80  # characters of a directory of sockets, whose paths may have about 100


def main(task: Path) -> None:
    """Run a task and end the process: with status 0 if the notebook has succeeded, else 1."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    os.dup2(2, 1)  # what kernels print there belongs in the log
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not SIG_IGN, which kernels would inherit
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would say is in the answer
    order = json.loads(task.read_text(encoding="utf-8"))
    arguments, parent = order["arguments"], order["parent"]
    threading.Thread(target=_end_with_parent, args=(parent, arguments["sockets"]), daemon=True).start()
    try:
        _execute(**arguments)
    except Exception as error:
        answer.write(_describe(error, Path(arguments["progress"])))
        answer.close()
        with suppress(OSError):  # the disk may be full
            traceback.print_exc()
        sys.exit(1)


def _execute(notebook, staged, parameters, sockets, progress):
    """Run a notebook with papermill; what connects to its kernel lies in the directory `sockets`.

    The file `progress` says how many of its cells with code have been started, how many there are, and what processes
    run them.
    """
    import papermill
    import psutil
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from traitlets.config import Config

    class OwnKernel(AsyncKernelManager):
        """A kernel of this interpreter, whatever a notebook or the machine calls by the name of one."""

        kernel_spec = KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())

    cells = 1 + sum(map(_is_run, json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]))  # one is injected
    started = count(1)

    def tell(cell, cell_index):
        if _is_run(cell):
            numbers = next(started), cells, *(child.pid for child in psutil.Process().children())
            with suppress(OSError):  # a full disk is the notebook's to report
                Path(progress).write_text(" ".join(map(str, numbers)), encoding="utf-8")

    # A TCP port that was free when it was chosen may be taken when the kernel opens it; a file is not.
    files = os.name == "posix" and len(sockets) < _LONGEST
    connection = {"transport": "ipc" if files else "tcp", "connection_file": str(Path(sockets, "kernel.json"))}
    papermill.execute_notebook(
        _literal(notebook),
        _literal(staged),
        parameters,
        cwd=Path(notebook).parent,
        progress_bar=False,
        kernel_name="python3",
        language="python",
        kernel_manager_class=OwnKernel,
        on_cell_start=tell,
        shutdown_kernel="immediate",  # a kernel asked to stop prints tracebacks, a killed one does not
        config=Config(KernelManager=connection),
        extra_arguments=["--log-level=CRITICAL"],  # the kernel's: it would warn of unencrypted TCP at every start
    )


def _end_with_parent(parent, sockets):
    """End this process and its kernel when the one that supervises it has died, and remove what connected them."""
    import psutil

    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)


def _literal(path):
    """Return a path as papermill wants it, which takes it for a format string."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _is_run(cell):
    return cell["cell_type"] == "code" and bool("".join(cell["source"]).strip())


def _describe(error, progress):
    """Return the failure of a notebook in one line, with the number that Jupyter gives the cell."""
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f"cell [{error.exec_count}]: {error.ename}: {_first_line(error.evalue)}"
    if isinstance(error, DeadKernelError):
        try:
            return f"cell [{progress.read_text(encoding='utf-8').split()[0]}]: the kernel died"
        except (OSError, IndexError):  # it could not be written as a whole
            return "the kernel died"
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text):
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
