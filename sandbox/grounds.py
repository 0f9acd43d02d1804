"""What the warm process knows of the machine, and hands on to its sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

MIB = 1 << 20

Refusals = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class Grounds:
    """What the warm process has prepared for its sessions, and what it found.

    Args:
        folder: Where sessions that cannot have a private root get their folders.
        refused: Layer → the machine's reason, for each that cannot be had here.
        pid_namespace: A descriptor of the warm process's own, or None if sessions cannot have theirs.
        readable: What a session may read.
        landlock: The version of Landlock; 0 if there is none.
        program: The filter of system calls; empty if there is none.
        mapped: Bytes of address space with which each session begins.
    """

    folder: Path
    refused: Refusals = field(default_factory=dict)
    pid_namespace: int | None = None
    readable: tuple[str, ...] = ()
    landlock: int = 0
    program: bytes = b""
    mapped: int = 0

    def has(self, layer: str) -> bool:
        """Whether this machine grants a layer."""
        return layer not in self.refused


def attempt(refused: Refusals, layer: str, apply: Callable[[], T]) -> T | None:
    """What `apply` returns; None if the machine refuses, with its reason noted under the layer's name."""
    try:
        return apply()
    except OSError as error:
        refused[layer] = str(error)
        return None
