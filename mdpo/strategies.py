"""Which right and which wrong trajectory of a problem become a pair: one function a strategy.

A strategy is given both sides of every problem and returns the matches; no trajectory is in two of them. Right and
wrong is always the reward's word; a strategy only says which ones. The paper's is `random_pairs`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal

from mdpo.trajectory import Trajectory

Ties = Literal["length", "logprob"]


@dataclass(frozen=True, slots=True)
class Sides:
    """What is left of one problem's trajectories after the filters, in the order of their samples."""

    right: list[Trajectory] = field(default_factory=list)
    wrong: list[Trajectory] = field(default_factory=list)

    @property
    def mixed(self) -> bool:
        """Whether there is something on both sides."""
        return bool(self.right and self.wrong)

    def most(self, count: int) -> int:
        """How many pairs can be made, `count` at most."""
        return min(count, len(self.right), len(self.wrong))


@dataclass(frozen=True, slots=True)
class Match:
    """A right and a wrong trajectory of one problem; its Γ when it was chosen, where that counts."""

    chosen: Trajectory
    rejected: Trajectory
    uncertainty: float | None = None


Chooser = Callable[[Sides, int, Random], list[Match]]
"""Matches of one problem, at most so many, with a generator of its own."""
Strategy = Callable[[Mapping[str, Sides], int, int], dict[str, list[Match]]]
"""Matches of all problems: from both sides of each, the largest number of matches of a problem, and the seed."""


def one_by_one(choose: Chooser) -> Strategy:
    """A strategy that looks at each problem alone, with a generator that only the seed and the problem decide."""

    def strategy(problems: Mapping[str, Sides], count: int, seed: int) -> dict[str, list[Match]]:
        return {
            problem_id: choose(sides, sides.most(count), Random(f"{seed} {problem_id}"))
            for problem_id, sides in problems.items()
        }

    return strategy


def random_pairs(sides: Sides, count: int, rng: Random) -> list[Match]:
    """Any right one with any wrong one (the paper)."""
    return _match(rng.sample(sides.right, count), rng.sample(sides.wrong, count))


def shortest_correct(sides: Sides, count: int, rng: Random) -> list[Match]:
    """The right ones of the fewest sampled tokens, each with any wrong one."""
    right = sorted(_shuffled(sides.right, rng), key=sampled_tokens)
    return _match(right[:count], rng.sample(sides.wrong, count))


def best_worst(
    sides: Sides, count: int, rng: Random, *, ties: Ties = "length", length_penalty: float = 0.0
) -> list[Match]:
    """The best right one with the worst wrong one, the second best with the second worst, and so on.

    Best and worst by r − λ · (sampled tokens); RLHF Workflow (§3.2) takes λ in characters. A binary reward ties all of
    a side, and then `ties` decides: by `length`, shorter is better; by `logprob`, what the policy found likelier a
    token. What is still equal is drawn by lot.
    """

    def quality(trajectory: Trajectory) -> tuple[float, float]:
        length = sampled_tokens(trajectory)
        tie = -length if ties == "length" else logprob(trajectory) / max(length, 1)
        return trajectory.reward - length_penalty * length, tie

    right = sorted(_shuffled(sides.right, rng), key=quality, reverse=True)
    wrong = sorted(_shuffled(sides.wrong, rng), key=quality)
    return _match(right[:count], wrong[:count])


def named_strategy(name: str, ties: Ties = "length", length_penalty: float = 0.0) -> Strategy:
    """The strategy of a name, for all but `uncertain`, which needs a policy (`mdpo.uncertain`).

    Raises:
        ValueError: There is none of this name.
    """
    choosers: dict[str, Chooser] = {
        "random": random_pairs,
        "best_worst": partial(best_worst, ties=ties, length_penalty=length_penalty),
        "shortest_correct": shortest_correct,
    }
    if name not in choosers:
        raise ValueError(f"there is no strategy {name!r} that works without a policy; there are {', '.join(choosers)}")
    return one_by_one(choosers[name])


def sampled_tokens(trajectory: Trajectory) -> int:
    """How many tokens the policy sampled; observations are not its words."""
    return sum(len(turn.action_ids) for turn in trajectory.turns)


def logprob(trajectory: Trajectory) -> float:
    """Σ_h log π(a_h | s_h) of the policy that sampled it, before temperature (nats)."""
    return sum(sum(turn.action_logprobs) for turn in trajectory.turns)


def _match(right: list[Trajectory], wrong: list[Trajectory]) -> list[Match]:
    return [Match(chosen, rejected) for chosen, rejected in zip(right, wrong, strict=True)]


def _shuffled(trajectories: list[Trajectory], rng: Random) -> list[Trajectory]:
    return rng.sample(trajectories, len(trajectories))
