"""The command `srlib`, and `python -m srlib`."""

import sys


def run() -> None:
    """Run the command; interrupted while it starts, it ends without a traceback."""
    try:
        from srlib.cli import main

        main(prog_name="srlib")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":  # the worker processes import this module too
    run()
