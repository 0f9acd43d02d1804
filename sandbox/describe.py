"""Errors of the code, in words that help whoever wrote it: its own failing lines, then the exception."""

import sys
from types import TracebackType

from sandbox.result import cut, printable

# A deep recursion shows its first and last lines.
SHOWN_LINES = 5


class Describer:
    """Words for the errors of one session's blocks; knows their source."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sources: dict[str, list[str]] = {}
        self.echoed_line = 0
        # The longest first, so that a folder inside another is recognised.
        self._folders = sorted((path for path in sys.path if len(path) > 1), key=len, reverse=True)

    def add(self, name: str, code: str) -> None:
        """Remember the source of a block by the file name that it is compiled under."""
        self._sources[name] = code.split("\n")
        self.echoed_line = 0

    def describe(self, error: BaseException, block: str) -> str:
        """The failing lines of the code, outermost first, then the exception; at most about `limit` characters.

        Frames of libraries and of the sandbox are left out, and the folders of the machine in the message.
        """
        lines = [*self._syntax(error, block), *self._frames(error.__traceback__, block)]
        if not lines and self.echoed_line:
            lines = [self._line(block, self.echoed_line, "", block)]
        if len(lines) > SHOWN_LINES:
            lines = [lines[0], "...", *lines[2 - SHOWN_LINES :]]
        return printable(cut("\n".join([*lines, self._headline(error), *_notes(error)]), self._limit))

    def _frames(self, trace: TracebackType | None, block: str) -> list[str]:
        lines = []
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename in self._sources:
                function = "" if code.co_name == "<module>" else code.co_name
                lines.append(self._line(code.co_filename, trace.tb_lineno, function, block))
            trace = trace.tb_next
        return lines

    def _syntax(self, error: BaseException, block: str) -> list[str]:
        if isinstance(error, SyntaxError) and error.filename in self._sources:
            return [self._line(str(error.filename), error.lineno or 1, "", block)]
        return []

    def _line(self, name: str, number: int, function: str, block: str) -> str:
        source = self._sources[name]
        text = source[number - 1].strip() if number <= len(source) else ""
        where = f"line {number}" if name == block else f"{name.strip('<>')}, line {number}"
        return f"{where}{', in ' + function if function else ''}: {cut(text, 200)}"

    def _headline(self, error: BaseException) -> str:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else _full_name(kind)
        text = _text(error)
        for folder in self._folders:
            text = text.replace(f"{folder}/", "")
        return f"{cut(name, 200)}: {text}" if text else cut(name, 200)


def _notes(error: BaseException) -> list[str]:
    """What was added to an error by `add_note`, and the errors in a group."""
    notes = getattr(error, "__notes__", [])
    lines = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    if isinstance(error, BaseExceptionGroup):
        lines += [f"  {type(each).__qualname__}: {_text(each)}" for each in error.exceptions]
    return lines


def _full_name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    """The message of an error; the code may have defined it, so it may fail itself."""
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception as problem:  # noqa: BLE001 - code of the block
        return f"<its text raised {type(problem).__name__}>"
