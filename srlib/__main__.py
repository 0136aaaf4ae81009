"""`python -m srlib`, the same as the command `srlib`."""

from srlib.cli import main

if __name__ == "__main__":  # the worker processes import this module too
    main(prog_name="srlib")
