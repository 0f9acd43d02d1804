"""Trajectories at the terminal: what was said and run, turn by turn, or every token with its mask.

What models and programs wrote is printed as text only: never as markup of the terminal library, and with what would
control the terminal made visible.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import chop_cells
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from mdpo.decoded import decode, differences
from mdpo.errors import CheckpointError, DataError
from mdpo.trajectory import Trajectory, Turn, read_trajectories
from mdpo.visible import visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROMPT, _ACTION, _OBSERVATION = "dim", "green", "yellow"
_VERDICTS = ("wrong", "bold red"), ("right", "bold green")
# Up to the end of the action where the fence was never closed: it is shown, though it was not run.
_PROGRAM = re.compile(r"^(```python[ \t]*\n)(.*?)(^```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


def show(
    path: Path,
    console: Console,
    problem: str | None = None,
    sample: int | None = None,
    right: bool | None = None,
    count: int = 1,
    tokenizer: str | None = None,
    *,
    mask: bool = False,
) -> None:
    """Print trajectories of a file.

    Args:
        path: The trajectory file. It is read only as far as the last one that is shown.
        console: Where to.
        problem, sample: Only these.
        right: Only right or only wrong ones; `None` for both.
        count: How many.
        tokenizer: The checkpoint whose tokenizer decodes the ids; default: the one that the file names, if it is there.
        mask: Show the decoded tokens with their action mask instead of the texts.

    Raises:
        DataError: No trajectory fits.
        CheckpointError: `tokenizer` cannot be loaded.
    """
    chosen = (
        t
        for t in read_trajectories(path)
        if (problem is None or t.problem_id == problem)
        and (sample is None or t.sample == sample)
        and (right is None or (t.reward > 0.5) is right)
    )
    load = _loader(tokenizer, console)
    shown = 0
    for trajectory in islice(chosen, count):
        shown += 1
        _print(console, *_header(trajectory, console.width))
        decoder = load(trajectory)
        if mask and decoder is not None:
            _print(console, *_tokens(trajectory, decoder, console.width if console.is_terminal else None))
        else:
            _print(console, *_turns(trajectory))
        _print(console, _result(trajectory))
        if decoder is not None:
            _print(console, *_check(trajectory, decoder))
    if not shown:
        raise DataError(f"no trajectory in {path} fits; leave out some of --problem, --sample, --right, --wrong")


def _print(console: Console, *lines: Text) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _loader(tokenizer: str | None, console: Console) -> "Callable[[Trajectory], PreTrainedTokenizerBase | None]":
    """Finds the tokenizer of a trajectory, and says once of each policy that it has none to offer."""

    @lru_cache
    def load(source: str) -> "PreTrainedTokenizerBase | None":
        try:
            if tokenizer is not None or Path(source).is_dir():
                # Only here: the import takes seconds.
                from mdpo.checkpoint import load_tokenizer

                return load_tokenizer(source)
            cause = f"there is no folder {source}"
        except (CheckpointError, OSError) as error:
            if tokenizer is not None:
                raise
            cause = str(error)
        what = "the stored texts are shown, without the ids and their mask; name a tokenizer with --tokenizer"
        _print(console, Text(f"{visible(cause)}: {what}", "yellow"))
        return None

    return lambda trajectory: load(tokenizer or trajectory.policy)


def _header(trajectory: Trajectory, width: int) -> Iterator[Text]:
    title = Text(f"{visible(trajectory.problem_id)}, sample {trajectory.sample}: ")
    title.append(*_VERDICTS[trajectory.reward > 0.5])
    title.append(" " + "─" * max(width - title.cell_len - 1, 2), "dim")
    yield title
    turns, calls = len(trajectory.turns), trajectory.calls
    yield Text(
        f"stopped: {visible(trajectory.stop_reason)} after {turns} {_plural(turns, 'action')} and {calls} "
        f"{_plural(calls, 'call')}; policy {visible(trajectory.policy)}",
        "dim",
    )


def _result(trajectory: Trajectory) -> Text:
    prediction = "none" if trajectory.prediction is None else visible(trajectory.prediction)
    _, style = _VERDICTS[trajectory.reward > 0.5]
    return Text.assemble("prediction ", (prediction, style), " · gold ", (visible(trajectory.answer), "bold"))


def _turns(trajectory: Trajectory) -> Iterator[Text]:
    """The question, and each action with the observation that answered it."""
    yield Text("\n── question", "dim")
    yield Text(visible(trajectory.question))
    for number, turn in enumerate(trajectory.turns, start=1):
        yield Text(f"\n── turn {number}, action, {_tokens_of(turn.action_ids)}", _ACTION)
        yield _action(turn.action)
        if turn.code is not None:
            yield _observation_title(turn, number)
        if turn.observation is not None:
            yield Text(visible(turn.observation), _OBSERVATION)
    yield Text()


def _observation_title(turn: Turn, number: int) -> Text:
    fitted = f", {_tokens_of(turn.observation_ids)}" if turn.observation is not None else ", had no room"
    text = Text(f"\n── turn {number}, observation{fitted}, ", _OBSERVATION)
    text.append(visible(str(turn.status)), _OBSERVATION if turn.status == "ok" else "bold red")
    return text.append(f" in {turn.seconds:.3f} s")


def _action(action: str) -> Text:
    """Prose as it is, programs highlighted."""
    # The lexer needs no background, and colours of the terminal's own palette are readable on any.
    python = Syntax("", "python", theme="ansi_dark", background_color="default")
    text = Text()
    end = 0
    for block in _PROGRAM.finditer(action):
        text.append(visible(action[end : block.start()]))
        text.append(visible(block[1]), "dim")
        code = python.highlight(visible(block[2]))
        if not block[2].endswith("\n"):
            code.right_crop(1)  # the lexer ends every text with a line break
        text.append_text(code)
        text.append(visible(block[3]), "dim")
        end = block.end()
    return text.append(visible(action[end:]))


def _tokens(trajectory: Trajectory, tokenizer: "PreTrainedTokenizerBase", width: int | None) -> Iterator[Text]:
    """Every token, decoded run by run, behind its mask; the legend is last."""
    runs = [(trajectory.prompt_ids, 0, _PROMPT)]
    for turn in trajectory.turns:
        runs += [(turn.action_ids, 1, _ACTION), (turn.observation_ids, 0, _OBSERVATION)]
    yield Text()
    for ids, bit, style in runs:
        for line in _lines(decode(tokenizer, ids), width and max(width - 4, 1)) if ids else ():
            yield Text.assemble((f"{bit} {'┃' if bit else '│'} ", style), (line, style))
    yield _legend(trajectory)


def _lines(text: str, width: int | None) -> Iterator[str]:
    """A run cut at its line breaks, which stay visible because the next run may begin in the middle of a line."""
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        shown = visible(line.removesuffix("\n")).replace("\t", "␉") + ("⏎" if line.endswith("\n") else "")
        yield from chop_cells(shown, width) if width else [shown]


def _legend(trajectory: Trajectory) -> Text:
    actions = sum(trajectory.completion_mask)
    observations = len(trajectory.completion_mask) - actions
    return Text.assemble(
        "\n",
        (f"0 │ prompt, {_tokens_of(trajectory.prompt_ids)}", _PROMPT),
        "   ",
        (f"1 ┃ actions, {actions} {_plural(actions, 'token')}", _ACTION),
        "   ",
        (f"0 │ observations, {observations} {_plural(observations, 'token')}", _OBSERVATION),
        "   ⏎ a line break\n",
    )


def _check(trajectory: Trajectory, tokenizer: "PreTrainedTokenizerBase") -> Iterator[Text]:
    """Whether the ids decode to the texts, and where not."""
    found = list(differences(trajectory, tokenizer))
    if not found:
        yield Text("the ids decode to the texts\n", "dim")
    for difference in found:
        yield Text(f"the ids do not decode to the text: {difference.place}", "bold red")
        for line in difference.diff:
            yield Text(visible(line), {"-": "red", "+": "green"}.get(line[:1], "dim"))
        yield Text()


def _tokens_of(ids: list[int]) -> str:
    return f"{len(ids)} {_plural(len(ids), 'token')}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"
