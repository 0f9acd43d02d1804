"""Which trajectories are kept for preferences: named filters, each a plain function that says whether to drop one.

The paper's own are on (§3.1): right ones whose last program failed, long ones, and those that never ran a program. So
is `repeated`, of the authors' script, as the last step. The others of that script and SimpleTIR's are here by name.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mdpo.render import OUTPUT_FENCE, last_program
from mdpo.trajectory import Trajectory, Turn

Side = Literal["both", "right"]
Drops = Callable[[Trajectory], bool]

_LONG_ANSWER = 20  # characters, in the authors' script

# A failed library call in the authors' sandbox: a text of any message, and what must stand beside it.
_FAULTS = (
    ("traitlets", "error"),
    ("sympy.core.numbers", "error"),
    ("sympy.tensor.tensor", "error"),
    ("minlex() got an", ""),
    ("no module named", "sympy."),
    ("object is not subscriptable", ""),
)


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason to leave trajectories out.

    Attributes:
        name: Its name in `pairs.filters`.
        drops: Whether a trajectory, which has at least one turn, is left out.
        side: Whether it looks at `both` sides or at `right` trajectories only.
        default: Whether it is on unless it is switched off.
        about: What it drops, in words.
    """

    name: str
    drops: Drops
    side: Side
    default: bool
    about: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one filter did to the trajectories that came so far."""

    name: str
    side: Side
    seen: int
    dropped: int

    @property
    def kept(self) -> int:
        """How many go on to the next step."""
        return self.seen - self.dropped


# The last step compares trajectories with each other, so it is no function of one.
REPEATED = "repeated"


def long_answer(trajectory: Trajectory) -> bool:
    """The final answer has more than 20 characters."""
    return trajectory.prediction is not None and len(trajectory.prediction) > _LONG_ANSWER


def without_a_call(trajectory: Trajectory) -> bool:
    """No program was run."""
    return trajectory.calls == 0


def unseen_output(trajectory: Trajectory) -> bool:
    """It ended before it saw the output of its last program."""
    return trajectory.turns[-1].code is not None


def answer_after_an_error(trajectory: Trajectory) -> bool:
    """It answers, and the output before that says "error"."""
    return "boxed" in trajectory.turns[-1].action.lower() and "error" in _last_output(trajectory).lower()


def turn_without_python(trajectory: Trajectory) -> bool:
    """An action before the last one does not say "python"."""
    return any("python" not in turn.action for turn in trajectory.turns[:-1])


def void_turn(trajectory: Trajectory) -> bool:
    """A turn has neither a whole program nor the answer (SimpleTIR)."""
    *earlier, last = trajectory.turns
    void = [turn for turn in earlier if turn.code is None]
    return bool(void) or (trajectory.prediction is None and last_program(last.action) is None)


def sandbox_fault(trajectory: Trajectory) -> bool:
    """A message says "ipython" and "error": the interpreter failed, not the program."""
    return any("ipython" in text and "error" in text for text in _messages(trajectory))


def library_fault(trajectory: Trajectory) -> bool:
    """A message shows a failure inside a library that the authors' `filter_data.py` lists."""
    return any(fault in text and beside in text for text in _messages(trajectory) for fault, beside in _FAULTS)


def empty_error(trajectory: Trajectory) -> bool:
    """An output is an error without a message."""
    return any(output == "Execution error:" for output in _outputs(trajectory))


def empty_list(trajectory: Trajectory) -> bool:
    """An output begins with an empty list."""
    return any(output.startswith("[]") for output in _outputs(trajectory))


def at_a_limit(trajectory: Trajectory) -> bool:
    """It stopped at the horizon or at the largest number of programs."""
    return trajectory.stop_reason in ("horizon", "call_limit")


def right_after_a_failed_call(trajectory: Trajectory) -> bool:
    """Right in spite of a failed last program: the answer did not come from it."""
    observed = [turn for turn in trajectory.turns if turn.observation is not None]
    return bool(observed) and observed[-1].status != "ok"


def right_after_error_or_none(trajectory: Trajectory) -> bool:
    """Right, and the last output says "error" or "none"."""
    output = _last_output(trajectory).lower()
    return "error" in output or "none" in output


def longer_than(max_length: int | None) -> Drops:
    """Whether a trajectory has more tokens than this, the prompt included; `None` drops nothing."""

    def too_long(trajectory: Trajectory) -> bool:
        """More tokens than `train.max_length`, the prompt included."""
        return max_length is not None and len(trajectory.prompt_ids) + len(trajectory.completion_mask) > max_length

    return too_long


def filter_table(max_length: int | None = None) -> dict[str, Filter]:
    """All filters by name, in the order in which they are applied: the authors' script's order.

    Args:
        max_length: Of `too_long`, in tokens.
    """
    rows: tuple[tuple[Drops, Side, bool], ...] = (
        (longer_than(max_length), "both", True),
        (without_a_call, "both", True),
        (right_after_a_failed_call, "right", True),
        (void_turn, "both", False),
        (long_answer, "both", False),
        (unseen_output, "both", False),
        (answer_after_an_error, "both", False),
        (turn_without_python, "both", False),
        (sandbox_fault, "both", False),
        (library_fault, "both", False),
        (empty_error, "both", False),
        (empty_list, "both", False),
        (at_a_limit, "both", False),
        (right_after_error_or_none, "right", False),
    )
    made = (Filter(drops.__name__, drops, side, on, _first_line(drops)) for drops, side, on in rows)
    return {one.name: one for one in made}


def switches(chosen: Mapping[str, bool] | Iterable[str] | None = None) -> dict[str, bool]:
    """Which filters are on, by name and in order, `repeated` last.

    Args:
        chosen: Names with on or off change the defaults; names alone are on and all others off.

    Raises:
        ValueError: There is no filter of a name; it names the nearest one.
    """
    known = {name: one.default for name, one in filter_table().items()} | {REPEATED: True}
    if chosen is None:
        return known
    if not isinstance(chosen, Mapping):
        names = list(chosen)
        chosen = {name: name in names for name in (*known, *names)}
    for name in chosen:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"there is no filter `{name}`; {hint}")
    return {**known, **chosen}


def _first_line(function: Drops) -> str:
    return (function.__doc__ or "").partition("\n")[0]


def _output(turn: Turn) -> str:
    """What a program printed, without the fence around it."""
    return (turn.observation or "").removeprefix(OUTPUT_FENCE).removesuffix("```").strip()


def _outputs(trajectory: Trajectory) -> list[str]:
    return [_output(turn) for turn in trajectory.turns if turn.observation is not None]


def _last_output(trajectory: Trajectory) -> str:
    return next(reversed(_outputs(trajectory)), "")


def _messages(trajectory: Trajectory) -> list[str]:
    """Everything that was said after the question, in lower case."""
    return [text.lower() for turn in trajectory.turns for text in (turn.action, turn.observation or "")]
