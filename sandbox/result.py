"""What came of a block."""

import codecs
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "error", "timeout", "memory", "crashed", "refused"]

NO_OUTPUT = "[no output]"


@dataclass(frozen=True)
class ExecutionResult:
    """What came of a block.

    Args:
        status: `ok`; `error`, the code raised; `timeout`, `memory`, it passed a limit; `crashed`, its interpreter died
            or broke the protocol; `refused`, it was not run.
        output: What was printed, then the representation of a last expression that is not None.
        error: The failing lines of the code and the exception, or what ended the block; None if it is `ok`.
        seconds: Wall clock from asking to the answer. Varies from run to run; not part of `text`.
        truncated: Whether the middle of the output was left out.
    """

    status: Status
    output: str
    error: str | None
    seconds: float
    truncated: bool

    @property
    def text(self) -> str:
        """What the policy is shown: output, then error, as a notebook would; `[no output]` if there is neither."""
        parts = (self.output.rstrip("\n"), self.error or "")
        return "\n".join(part for part in parts if part) or NO_OUTPUT


class Excerpt:
    """The first and last characters of a long text that comes in pieces, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._text = ""
        self._tail = ""
        self._total = 0

    def add(self, piece: str) -> None:
        """Append `piece` to the text."""
        room = self._limit - len(self._text)
        self._text += piece[:room]
        self._tail = (self._tail + piece[max(room, len(piece) - self._limit) :])[-self._limit :]
        self._total += len(piece)

    @property
    def truncated(self) -> bool:
        """Whether some of the text is not kept."""
        return self._total > self._limit

    def __str__(self) -> str:
        if not self.truncated:
            return self._text
        half = self._limit // 2
        end = (self._text + self._tail)[-half:]
        return f"{self._text[:half]}\n[... {self._total - 2 * half} characters left out ...]\n{end}"


def cut(text: str, limit: int) -> str:
    """`text` as it is up to `limit` characters, else with its middle left out and a notice there."""
    excerpt = Excerpt(limit)
    excerpt.add(text)
    return str(excerpt)


def printable(text: str) -> str:
    """`text` with lone surrogates written as escapes: what remains can be encoded, stored and tokenised."""
    return codecs.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def timeout_text(seconds: float) -> str:
    """What is said of a block that ran into the clock."""
    return f"the code ran longer than {seconds:g} second{'' if seconds == 1 else 's'}"
