"""Biased stochastic rounding in low-precision gradient descent: the module behind the notebooks."""

import lazy_loader

# The names and their modules are in __init__.pyi; each is imported when it is first asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
