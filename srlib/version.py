"""The version of this code, which may be run without being installed."""

__version__ = "0.1.0"
