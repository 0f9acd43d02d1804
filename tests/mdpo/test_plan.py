"""What a plan asks for and what is owed of it, whatever is done already."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdpo.plan import Extra, Ledger, Plan, Share
from mdpo.rollout import Sampling
from mdpo.trajectory import Trajectory
from tests.mdpo.scripted import PROBLEM

PAPER = Plan((Share(Sampling(), 20), Share(Sampling(), 10, policy="previous")))


def done(sample: int, reward: float = 0.0) -> Trajectory:
    return Trajectory(PROBLEM.id, sample, "", "", "", [], [], "no_code", None, reward, "", {})


def test_sample_numbers_say_which_share_they_belong_to() -> None:
    assert (PAPER.samples, PAPER.others) == (30, ["previous"])
    assert PAPER.numbers(None) == list(range(20))
    assert PAPER.numbers("previous") == list(range(20, 30))
    assert PAPER.share(30) is None


def test_extra_attempts_are_sampled_like_the_policys_first_share() -> None:
    hot = Share(Sampling(temperature=1.2), 1)
    plan = Plan((Share(Sampling(), 1, policy="previous"), hot, Share(Sampling(), 1)), Extra(most=2))
    assert [plan.share(number) for number in (3, 4, 5)] == [hot, hot, None]


def test_a_plan_needs_a_share_of_the_policy_itself() -> None:
    with pytest.raises(ValueError, match="a share of the policy itself"):
        Plan((Share(Sampling(), 1, policy="previous"),))


def test_a_trajectory_twice_in_a_file_counts_once() -> None:
    ledger = Ledger([PROBLEM], PAPER)
    ledger.add(done(3))
    ledger.add(done(3))
    assert (ledger.missing(None), ledger.tally.trajectories) == (19, 1)


@given(
    st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=4).filter(lambda p: None in p),
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
    st.sets(st.integers(0, 15)),
)
def test_what_is_owed_and_what_is_done_make_the_plan(
    policies: list[str | None], counts: list[int], finished: set[int]
) -> None:
    plan = Plan(tuple(Share(Sampling(), n, policy) for policy, n in zip(policies, counts, strict=False)))
    ledger = Ledger([PROBLEM], plan)
    finished = {number for number in finished if number < plan.samples}
    for number in finished:
        ledger.add(done(number))
    owed = [attempt.sample for policy in (*plan.others, None) for attempt in ledger.owed(policy)]
    assert sorted([*owed, *finished]) == list(range(plan.samples))
    assert all(ledger.missing(policy) == len(list(ledger.owed(policy))) for policy in (*plan.others, None))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5))
def test_extra_attempts_stop_as_soon_as_both_outcomes_are_there(
    outcomes: list[bool], samples: int, most: int, step: int
) -> None:
    """Outcomes come in order; the ledger never asks for more than `most` extra ones, nor for one after it is mixed."""
    ledger = Ledger([PROBLEM], Plan((Share(Sampling(), samples),), Extra(most, step)))
    waiting = [attempt.sample for attempt in ledger.owed(None)]
    seen: list[bool] = []
    for outcome in outcomes:
        if not waiting:
            break
        ledger.add(done(waiting.pop(0), float(outcome)))
        seen.append(outcome)
        more = ledger.more(PROBLEM.id)
        assert not (more and (waiting or len(set(seen)) == 2))
        waiting += [attempt.sample for attempt in more]
    assert len(seen) + len(waiting) <= samples + most
    if not waiting:
        assert len(set(seen)) == 2 or len(seen) == samples + most


def test_the_seed_of_an_attempt_does_not_depend_on_the_plan() -> None:
    more = replace(PAPER, extra=Extra(most=5))
    assert next(Ledger([PROBLEM], PAPER).owed(None)) == next(Ledger([PROBLEM], more).owed(None))
