"""The command `srlib`, and `python -m srlib`."""

import sys


def run() -> None:
    """Run the command; interrupted while it starts, or without a package that it needs, it ends without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what a terminal cannot show is no reason to fail
    try:
        from srlib.cli import main

        main(prog_name="srlib")
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "srlib":
            raise
        sys.exit(f"srlib: {error.name} is missing; the command needs: pip install 'srlib[companion]'")


if __name__ == "__main__":  # the worker processes import this module too
    run()
