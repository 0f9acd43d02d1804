"""What trajectories come to: every number that mdpo reports about a policy is computed here, from data alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from eval import PairedComparison, Problem, check_many, compare_paired, maj_at_k, pass_at_k, wilson_interval
from eval.metrics import bootstrap_paired
from mdpo.errors import DataError
from mdpo.trajectory import Trajectory

CONFIDENCE = 0.95
GROUPS: tuple[Literal["source", "subject", "level"], ...] = ("source", "subject", "level")
_UNKNOWN = "unknown"

SameAnswers = Callable[[Iterable[tuple[str | None, str]]], list[bool]]


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over problems, in [0, 1], with its 95 % interval.

    The interval is Wilson's with one observation for each problem: exact in its usual sense for one attempt a problem,
    conservative for the mean of several (`eval.wilson_interval`).
    """

    problems: int
    accuracy: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How programs were used; shares are None where there is nothing to take a share of.

    Attributes:
        calls: Programs that were run, for each trajectory.
        used: Share of trajectories that ran at least one.
        errors: Share of the programs that ended in a Python error.
        timeouts: Share of the programs that ran out of time.
        other_failures: Share of the programs that failed otherwise: memory, a crash, a refusal.
        answers_after_error: Share of the given answers before which at least one program had failed in any way.
        right_after_error: Share of those answers that are right.
        seconds: Mean run time of a program.
    """

    calls: float
    used: float
    errors: float | None
    timeouts: float | None
    other_failures: float | None
    answers_after_error: float | None
    right_after_error: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """The distribution of a length over trajectories; `p95` is the smallest that 95 % do not exceed."""

    mean: float
    median: float
    p95: int
    max: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the trajectories of a set of problems came to.

    Attributes:
        problems: How many.
        samples: Attempts at each of them.
        trajectories: `problems · samples`.
        right: Trajectories with a right answer.
        accuracy: Mean reward, which for several samples is pass@1.
        ci95: Its interval, as in `Score`.
        pass_at: For k = 1, 2, 4, … and `samples`: the unbiased estimate of pass@k.
        maj_at: For the same k: the reward of the majority answer of the first k samples. Empty if not asked for.
        by: For `source`, `subject` and `level`, where known: the score of each value.
        calls: As in `tool`.
        tool: How programs were used.
        action_tokens: Sampled tokens, all trajectories together.
        turns: Actions of a trajectory.
        sampled: Sampled tokens of a trajectory.
        tokens: All tokens of a trajectory: prompt, actions, observations.
        stop_reasons: How many trajectories stopped why.
    """

    problems: int
    samples: int
    trajectories: int
    right: int
    accuracy: float
    ci95: tuple[float, float]
    pass_at: dict[int, Score]
    maj_at: dict[int, Score]
    by: dict[str, dict[str, Score]]
    calls: float
    tool: ToolUse
    action_tokens: int
    turns: Lengths
    sampled: Lengths
    tokens: Lengths
    stop_reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two policies on the same problems.

    Attributes:
        first, second: Their scores.
        difference: The second minus the first, with its 95 % interval and p-value.
        method: McNemar's exact test where every mean reward is 0 or 1, else the paired bootstrap.
    """

    first: Score
    second: Score
    difference: PairedComparison
    method: Literal["McNemar, exact", "paired bootstrap"]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What a trajectory contributes; its ids and texts, which are many times larger, are not kept."""

    sample: int
    reward: float
    prediction: str | None
    stop_reason: str
    statuses: tuple[str | None, ...]
    seconds: float
    turns: int
    sampled: int
    tokens: int

    @classmethod
    def of(cls, trajectory: Trajectory) -> "_Attempt":
        calls = [turn for turn in trajectory.turns if turn.code is not None]
        sampled = sum(len(turn.action_ids) for turn in trajectory.turns)
        observed = sum(len(turn.observation_ids) for turn in trajectory.turns)
        return cls(
            sample=trajectory.sample,
            reward=trajectory.reward,
            prediction=trajectory.prediction,
            stop_reason=trajectory.stop_reason,
            statuses=tuple(turn.status for turn in calls),
            seconds=sum(turn.seconds for turn in calls),
            turns=len(trajectory.turns),
            sampled=sampled,
            tokens=len(trajectory.prompt_ids) + sampled + observed,
        )


def evaluate(
    trajectories: Iterable[Trajectory], problems: Sequence[Problem], same: SameAnswers | None = check_many
) -> Evaluation:
    """Summarise the trajectories of a set of problems.

    Args:
        trajectories: The same number for each problem; those of other problems are an error.
        problems: With distinct ids.
        same: Which pairs of a problem's answers are equal, for majority votes; None leaves these out.

    Raises:
        DataError: A problem has no trajectory or fewer than another; a trajectory belongs to no problem, or was judged
            by another gold answer.
    """
    attempts = _by_problem(trajectories, problems)
    flat = [t for each in attempts for t in each]
    samples = len(attempts[0])
    means = [fmean(t.reward for t in each) for each in attempts]
    overall = score(means)
    ks = [*(2**i for i in range(samples.bit_length()) if 2**i < samples), samples]
    tool = _tool_use(flat)
    return Evaluation(
        problems=len(problems),
        samples=samples,
        trajectories=len(flat),
        right=sum(t.reward > 0.5 for t in flat),
        accuracy=overall.accuracy,
        ci95=overall.ci95,
        pass_at={k: score([pass_at_k(samples, _right(each), k) for each in attempts]) for k in ks},
        maj_at={} if same is None else _majority(attempts, ks, same),
        by=_groups(problems, means),
        calls=tool.calls,
        tool=tool,
        action_tokens=sum(t.sampled for t in flat),
        turns=lengths([t.turns for t in flat]),
        sampled=lengths([t.sampled for t in flat]),
        tokens=lengths([t.tokens for t in flat]),
        stop_reasons=dict(Counter(t.stop_reason for t in flat).most_common()),
    )


def score(rewards: Sequence[float]) -> Score:
    """The mean of one value in [0, 1] for each problem. Raises ValueError if there is none."""
    if not rewards:
        raise ValueError("a score needs at least one problem")
    total = math.fsum(rewards)
    return Score(len(rewards), total / len(rewards), wilson_interval(total, len(rewards), CONFIDENCE))


def compare(first: Iterable[Trajectory], second: Iterable[Trajectory]) -> Comparison:
    """Compare two policies that attempted the same problems, by their mean reward on each.

    Raises:
        DataError: They did not attempt the same problems.
    """
    a, b = _rewards(first), _rewards(second)
    only_a, only_b = len(a.keys() - b.keys()), len(b.keys() - a.keys())
    if only_a or only_b or not a:
        raise DataError(
            f"the two evaluations have not the same problems ({only_a} are only in the first, {only_b} only in the "
            f"second, of {len(a)} and {len(b)}); evaluate both with the same --benchmark, --limit and --seed"
        )
    x, y = [fmean(a[key]) for key in a], [fmean(b[key]) for key in a]
    if all(reward in (0, 1) for reward in (*x, *y)):
        return Comparison(score(x), score(y), compare_paired(x, y, CONFIDENCE), "McNemar, exact")
    return Comparison(score(x), score(y), bootstrap_paired(x, y, CONFIDENCE), "paired bootstrap")


def tool_use(trajectories: Iterable[Trajectory]) -> ToolUse:
    """How programs were used in some trajectories, at least one."""
    return _tool_use([_Attempt.of(trajectory) for trajectory in trajectories])


def _tool_use(attempts: Sequence[_Attempt]) -> ToolUse:
    calls = sum(len(each.statuses) for each in attempts)
    answers = [each for each in attempts if each.stop_reason == "answered"]
    after = [each for each in answers if any(status != "ok" for status in each.statuses)]
    status = Counter(status for each in attempts for status in each.statuses)
    return ToolUse(
        calls=calls / len(attempts),
        used=sum(bool(each.statuses) for each in attempts) / len(attempts),
        errors=_share(status["error"], calls),
        timeouts=_share(status["timeout"], calls),
        other_failures=_share(calls - status["ok"] - status["error"] - status["timeout"], calls),
        answers_after_error=_share(len(after), len(answers)),
        right_after_error=_share(sum(each.reward > 0.5 for each in after), len(after)),
        seconds=sum(each.seconds for each in attempts) / calls if calls else None,
    )


def lengths(values: Sequence[int]) -> Lengths:
    """The distribution of some lengths, at least one."""
    ordered = sorted(values)
    return Lengths(fmean(ordered), median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1], ordered[-1])


def _by_problem(trajectories: Iterable[Trajectory], problems: Sequence[Problem]) -> list[list[_Attempt]]:
    """The attempts at each problem, in the order of the problems and of the samples."""
    attempts: dict[str, list[_Attempt]] = {problem.id: [] for problem in problems}
    golds = {problem.id: problem.answer for problem in problems}
    for trajectory in trajectories:
        if trajectory.problem_id not in attempts:
            raise DataError(f"a trajectory belongs to problem {trajectory.problem_id}, which is not evaluated")
        if trajectory.answer != golds[trajectory.problem_id]:
            raise DataError(
                f"a trajectory of problem {trajectory.problem_id} was judged by another gold answer "
                f"({trajectory.answer}, now {golds[trajectory.problem_id]}); use another --out to judge anew"
            )
        attempts[trajectory.problem_id].append(_Attempt.of(trajectory))
    counts = Counter(len(each) for each in attempts.values())
    if len(counts) != 1 or 0 in counts:
        raise DataError(
            f"the problems were not all attempted equally often ({min(counts, default=0)} to {max(counts, default=0)} "
            "times); run the same command again to complete the file"
        )
    return [sorted(each, key=lambda t: t.sample) for each in attempts.values()]


def _majority(attempts: Sequence[Sequence[_Attempt]], ks: Sequence[int], same: SameAnswers) -> dict[int, Score]:
    """maj@k for each k; every pair of a problem's different texts is compared once."""
    answers = [[t.prediction for t in each] for each in attempts]
    pairs = {
        (later, earlier)
        for each in answers
        for place, later in enumerate(each)
        for earlier in each[:place]
        if later is not None and earlier is not None and later != earlier
    }
    ordered = sorted(pairs)
    equal = dict(zip(ordered, same(ordered), strict=True)) if ordered else {}

    def agree(later: str, earlier: str) -> bool:
        return later == earlier or equal[later, earlier]

    rewards = [[t.reward for t in each] for each in attempts]
    return {k: score([maj_at_k(a, r, k, agree) for a, r in zip(answers, rewards, strict=True)]) for k in ks}


def _groups(problems: Sequence[Problem], means: Sequence[float]) -> dict[str, dict[str, Score]]:
    """The scores by source, subject and level; a field that no problem has is left out."""
    found: dict[str, dict[str, Score]] = {}
    for field in GROUPS:
        values = [getattr(problem, field) for problem in problems]
        if all(value is None for value in values):
            continue
        grouped: Mapping[str, list[float]] = defaultdict(list)
        for value, mean in zip(values, means, strict=True):
            grouped[value or _UNKNOWN].append(mean)
        found[field] = {value: score(grouped[value]) for value in sorted(grouped)}
    return found


def _rewards(trajectories: Iterable[Trajectory]) -> dict[tuple[str, str, str], list[float]]:
    """The rewards of each problem, which is known by its id, its question and its gold answer."""
    rewards: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for t in trajectories:
        rewards[t.problem_id, t.question, t.answer].append(t.reward)
    return rewards


def _right(attempts: Sequence[_Attempt]) -> int:
    return sum(t.reward > 0.5 for t in attempts)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
