"""What `eval` raises.

EvalError
├── CheckerError     the checker itself cannot work here (a wrong answer is never an error)
└── BenchmarkError   problems could not be loaded
"""


class EvalError(Exception):
    """Base class of the errors of this package."""


class CheckerError(EvalError):
    """The checker cannot do its work on this machine; its labels would be wrong, so nothing is labelled."""


class BenchmarkError(EvalError):
    """A benchmark cannot be loaded; the message names the cause and the next step."""
