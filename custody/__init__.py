"""Custody keeps AI model weights encrypted everywhere except in the memory of the job that is allowed to run them."""

__all__ = ["__version__"]

__version__ = "0.1.0"
