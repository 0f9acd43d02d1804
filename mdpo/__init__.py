"""Teach language models to solve mathematics with a Python interpreter, by multi-turn iterative preference learning."""

from importlib.metadata import version

__version__ = version("mdpo")
