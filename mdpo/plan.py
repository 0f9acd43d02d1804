"""Which attempts a rollout makes: so many at each problem, by one policy or several, and more where they are needed.

A sample's number says which share of the plan it belongs to: those of the first share come first, the extra ones last.
So a file of trajectories shows what is still to be done, and an attempt has the same seed whenever it is made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from eval import Problem
from mdpo.errors import DataError
from mdpo.progress import Tally
from mdpo.rollout import Sampling
from mdpo.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Share:
    """Attempts at each problem that are sampled alike.

    Attributes:
        sampling: How.
        samples: How many.
        policy: Another policy's checkpoint, of the same architecture and with the same tokenizer; `None` is the policy
            that the rollout is for.
    """

    sampling: Sampling
    samples: int = 1
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """More attempts at the problems that have no right or no wrong one yet: only a problem with both gives a pair.

    Attributes:
        most: Largest number of extra attempts at one problem.
        step: How many are added at a time.
        budget: Largest number of extra attempts in all; problems are served as they come, so that which of them still
            get some at the end of the budget may differ from run to run. `None`: no bound but `most`.
    """

    most: int
    step: int = 4
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The attempts at every problem.

    Attributes:
        shares: At least one with `policy=None`; the extra attempts are sampled like the first of these.
        extra: Where more are needed.
    """

    shares: tuple[Share, ...]
    extra: Extra | None = None

    def __post_init__(self) -> None:
        if not any(share.policy is None and share.samples for share in self.shares):
            raise ValueError("a plan needs a share of the policy itself; give one Share without a policy")

    @property
    def samples(self) -> int:
        """Planned attempts at each problem, the extra ones not counted."""
        return sum(share.samples for share in self.shares)

    @property
    def others(self) -> list[str]:
        """The other policies, each once."""
        return list(dict.fromkeys(share.policy for share in self.shares if share.policy is not None))

    def share(self, sample: int) -> Share | None:
        """The share that a sample's number belongs to; `None` if the plan has no such number."""
        first = 0
        for share in self.shares:
            if first <= sample < first + share.samples:
                return share
            first += share.samples
        if self.extra is None or sample >= first + self.extra.most:
            return None
        return next(share for share in self.shares if share.policy is None)

    def numbers(self, policy: str | None) -> list[int]:
        """The planned sample numbers of a policy."""
        return [number for number in range(self.samples) if (share := self.share(number)) and share.policy == policy]


@dataclass(slots=True)
class _State:
    """What is known of one problem."""

    problem: Problem
    done: set[int] = field(default_factory=set)
    right: int = 0
    asked: int = 0  # extra attempts that were granted

    @property
    def mixed(self) -> bool:
        return 0 < self.right < len(self.done)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that is to be made."""

    problem: Problem
    sample: int
    sampling: Sampling


class Ledger:
    """What a plan asks for, what is done of it, and so what is still owed.

    Args:
        problems: With distinct ids.
        plan: The attempts at every one.

    Attributes:
        tally: Sums over what is done.

    Raises:
        DataError: Two problems have the same id.
    """

    def __init__(self, problems: Iterable[Problem], plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self._granted = 0
        self._states: dict[str, _State] = {}
        for problem in problems:
            if problem.id in self._states:
                raise DataError(f"two problems have the id {problem.id}; give each its own")
            self._states[problem.id] = _State(problem)

    def share(self, trajectory: Trajectory) -> Share | None:
        """The share that a trajectory belongs to; `None` if the plan does not ask for it."""
        return self.plan.share(trajectory.sample) if trajectory.problem_id in self._states else None

    def problem(self, trajectory: Trajectory) -> Problem:
        """The problem of a trajectory that the plan asks for."""
        return self._states[trajectory.problem_id].problem

    def add(self, trajectory: Trajectory) -> None:
        """Record a trajectory that the plan asks for."""
        state = self._states[trajectory.problem_id]
        if trajectory.sample in state.done:
            return
        state.done.add(trajectory.sample)
        state.right += trajectory.reward > 0.5
        self.tally.add(trajectory)
        # In a file that a kill cut short, an extra attempt shows that those before it were granted too.
        beyond = trajectory.sample + 1 - self.plan.samples
        if beyond > state.asked:
            self._granted += beyond - state.asked
            state.asked = beyond

    @property
    def complete(self) -> bool:
        """Whether nothing is owed any more."""
        return not any(self.missing(policy) for policy in (*self.plan.others, None))

    def missing(self, policy: str | None) -> int:
        """How many attempts a policy owes by now."""
        numbers = self.plan.numbers(policy)
        return sum(len(self._owed(state, numbers, policy)) for state in self._states.values())

    def owed(self, policy: str | None) -> Iterator[Attempt]:
        """The attempts that a policy owes by now, problem by problem, so that attempts in flight share their prompt."""
        numbers = self.plan.numbers(policy)
        for state in self._states.values():
            for sample in self._owed(state, numbers, policy):
                yield self._attempt(state, sample)

    def more(self, problem_id: str) -> list[Attempt]:
        """The extra attempts that a problem gets now: none before the ones it has are done, or once it is mixed."""
        state = self._states[problem_id]
        first = self.plan.samples + state.asked
        if len(state.done) < first or state.mixed:
            return []
        count = self._grant(state)
        return [self._attempt(state, first + number) for number in range(count)]

    @property
    def mixed(self) -> int:
        """Problems with both a right and a wrong attempt."""
        return sum(state.mixed for state in self._states.values())

    def problems(self) -> Iterator[str]:
        """The ids of the problems, in order."""
        return iter(self._states)

    def _owed(self, state: _State, planned: list[int], policy: str | None) -> list[int]:
        extra = range(self.plan.samples, self.plan.samples + state.asked) if policy is None else ()
        return [number for number in (*planned, *extra) if number not in state.done]

    def _grant(self, state: _State) -> int:
        extra = self.plan.extra
        if extra is None:
            return 0
        count = min(extra.step, extra.most - state.asked)
        if extra.budget is not None:
            count = min(count, extra.budget - self._granted)
        count = max(count, 0)
        state.asked += count
        self._granted += count
        return count

    def _attempt(self, state: _State, sample: int) -> Attempt:
        share = self.plan.share(sample)
        if share is None:
            raise ValueError(f"the plan has no sample {sample}")
        return Attempt(state.problem, sample, share.sampling)
