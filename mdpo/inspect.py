"""Trajectories at the terminal, with the action mask in colour.

The stored ids are decoded run by run, not token by token, so that characters of several tokens survive.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mdpo.errors import DataError
from mdpo.trajectory import Trajectory, read_trajectories

_PROMPT, _ACTION, _OBSERVATION = "dim", "green", "yellow"


def show(
    path: Path,
    console: Console,
    problem: str | None = None,
    sample: int | None = None,
    right: bool | None = None,
    count: int = 1,
    tokenizer: str | None = None,
) -> None:
    """Print trajectories of a file.

    Args:
        path: The trajectory file.
        console: Where to.
        problem, sample: Only these.
        right: Only right or only wrong ones; `None` for both.
        count: How many.
        tokenizer: The checkpoint whose tokenizer decodes the ids; default: the one that the file names, if it is there.

    Raises:
        DataError: No trajectory fits.
    """
    chosen = (
        t
        for t in read_trajectories(path)
        if (problem is None or t.problem_id == problem)
        and (sample is None or t.sample == sample)
        and (right is None or (t.reward > 0.5) is right)
    )
    shown = 0
    for trajectory in islice(chosen, count):
        shown += 1
        _print(trajectory, console, tokenizer)
    if not shown:
        raise DataError(f"no trajectory in {path} fits; leave out some of --problem, --sample, --right, --wrong")


def _print(trajectory: Trajectory, console: Console, tokenizer: str | None) -> None:
    verdict = "[green]right[/]" if trajectory.reward > 0.5 else "[red]wrong[/]"
    console.rule(f"{trajectory.problem_id}, sample {trajectory.sample}: {verdict}", align="left")
    text = Text()
    for run, style in _runs(trajectory, tokenizer):
        text.append(run, style)
    console.print(text)
    actions = sum(len(turn.action_ids) for turn in trajectory.turns)
    observations = sum(len(turn.observation_ids) for turn in trajectory.turns)
    legend = Text("\n")
    legend.append(f"prompt {len(trajectory.prompt_ids)} tokens, mask 0", _PROMPT)
    legend.append(" · ")
    legend.append(f"actions {actions} tokens, mask 1", _ACTION)
    legend.append(" · ")
    legend.append(f"observations {observations} tokens, mask 0", _OBSERVATION)
    console.print(legend)
    console.print(
        Text(
            f"stopped: {trajectory.stop_reason}; answered {trajectory.prediction}, gold {trajectory.answer}; "
            f"{trajectory.calls} calls; policy {trajectory.policy}"
        )
    )


def _runs(trajectory: Trajectory, tokenizer: str | None) -> Iterator[tuple[str, str]]:
    """Text and style of each run of tokens; without a tokenizer, the stored texts."""
    source = tokenizer or (trajectory.policy if Path(trajectory.policy).is_dir() else None)
    if source is None:
        yield trajectory.question + "\n", _PROMPT
        for turn in trajectory.turns:
            yield turn.action + "\n", _ACTION
            if turn.observation is not None:
                yield turn.observation + "\n", _OBSERVATION
        return
    # Only here: it takes seconds, and the stored texts do without it.
    from mdpo.checkpoint import load_tokenizer

    decode = load_tokenizer(source).decode
    yield str(decode(trajectory.prompt_ids)), _PROMPT
    for turn in trajectory.turns:
        yield str(decode(turn.action_ids)), _ACTION
        yield str(decode(turn.observation_ids)), _OBSERVATION
