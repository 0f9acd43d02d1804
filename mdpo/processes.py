"""Which of several training processes this one is, as `accelerate launch` and `torchrun` tell it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """Which one this is; 0 is the main one, which alone prints and writes."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the main process."""
    return process_number() == 0


@contextmanager
def main_first() -> Iterator[None]:
    """The main process does the block, then the others do it and find what it has made."""
    if process_count() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield
