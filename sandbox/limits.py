"""What one session may use."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a session.

    Args:
        seconds: Wall clock of one block. A block ends at most one second later, whatever it does.
        cpu_seconds: CPU time of one block's Python code, or None for none but the wall clock. Set it together with a
            larger `seconds` where sessions outnumber cores and waiting for a core should not count. A call into C
            that ignores signals is ended by the wall clock only.
        memory_mb: Address space that a session's processes together may add to what the warm interpreter already uses,
            in MiB.
        output_chars: Characters of output, and of error text, that a result keeps; the middle is left out.
        processes: Processes and threads of a session; only its processes, and a tenth of a second late, where it can
            have neither a user of its own nor a user namespace.
        file_mb: Size of any one file, the captured output included, and of all together in a root of its own, in MiB.
        open_files: Open descriptors of each process.

    Raises:
        ValueError: A value is not a positive finite number, or a whole number is required.
    """

    seconds: float = 5.0
    cpu_seconds: float | None = None
    memory_mb: int = 512
    output_chars: int = 2000
    processes: int = 64
    file_mb: int = 64
    open_files: int = 256

    def __post_init__(self) -> None:
        _check_duration("seconds", self.seconds)
        if self.cpu_seconds is not None:
            _check_duration("cpu_seconds", self.cpu_seconds)
        for name, least in LEAST.items():
            _check_count(name, getattr(self, name), least)


# The worker itself needs this much to answer at all.
LEAST = {"memory_mb": 16, "output_chars": 100, "processes": 1, "file_mb": 1, "open_files": 16}


def _check_duration(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"Limits.{name} is {value!r}: give a positive number of seconds, such as 5.0")


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Limits.{name} is {value!r}: give a whole number of at least {least}")
