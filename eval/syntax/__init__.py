"""Read an answer, in LaTeX or as Python prints it, into a small tree; nothing of it is ever run."""

from eval.syntax.parser import parse
from eval.syntax.tree import Node, NotReadError, UnknownCommandError

__all__ = ["Node", "NotReadError", "UnknownCommandError", "parse"]
