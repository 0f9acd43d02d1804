from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdpo.errors import DataError
from mdpo.filters import REPEATED, filter_table, switches
from mdpo.preference import make_pairs, read_pairs, sort_out, write_pairs
from mdpo.strategies import named_strategy
from mdpo.trajectory import Trajectory, Turn
from tests.mdpo.attempts import attempt


def test_a_pair_holds_a_right_and_a_wrong_attempt_with_their_masks() -> None:
    [pair], count = make_pairs([attempt("p", 0, 1.0), attempt("p", 1, 0.0)])
    assert (pair.problem_id, pair.chosen, pair.rejected, pair.prompt_ids) == ("p", 0, 1, [1, 5])
    assert pair.chosen_ids == [10, 2, 20, 21, 30, 2]
    assert pair.chosen_mask == [1, 1, 0, 0, 1, 1] == pair.rejected_mask
    assert pair.rejected_ids == [11, 2, 20, 21, 30, 2]
    assert (count.pairs, count.trajectories, count.problems) == (1, 2, 1)


def test_problems_without_both_sides_give_no_pair_and_are_counted() -> None:
    pairs, count = make_pairs([attempt("a", 0, 1.0), attempt("b", 0, 0.0), attempt("b", 1, 0.0)])
    assert (pairs, count.all_right, count.all_wrong) == ([], 1, 1)


def test_a_right_answer_after_a_failed_last_call_is_not_chosen_but_a_wrong_one_may_be_rejected() -> None:
    pairs, count = make_pairs([attempt("p", 0, 1.0, status="error"), attempt("p", 1, 0.0, status="error")])
    assert (pairs, count.dropped) == ([], {"right_after_a_failed_call": 1})


def test_trajectories_without_a_call_and_too_long_ones_are_dropped() -> None:
    silent = replace(attempt("p", 0, 1.0), turns=[Turn("answer", [30, 2], [-1.0, -1.0])])
    assert make_pairs([silent, attempt("p", 1, 0.0)])[1].dropped == {"without_a_call": 1}
    assert len(make_pairs([silent, attempt("p", 1, 0.0)], filters={"without_a_call": False})[0]) == 1
    assert make_pairs([attempt("p", 0, 1.0)], max_length=7)[1].dropped == {"too_long": 1}


def test_the_same_first_action_counts_once_on_each_side() -> None:
    attempts = [attempt("p", sample, reward, action="same") for sample, reward in enumerate([1.0, 1.0, 0.0, 0.0])]
    pairs, count = make_pairs(attempts, pairs_per_problem=5)
    assert (len(pairs), count.dropped) == (1, {"repeated": 2})


def test_near_copies_may_be_kept() -> None:
    attempts = [attempt("p", sample, reward, action="same") for sample, reward in enumerate([1.0, 1.0, 0.0, 0.0])]
    pairs, count = make_pairs(attempts, pairs_per_problem=5, filters={REPEATED: False})
    assert (len(pairs), count.dropped) == (2, {})
    assert REPEATED not in [step.name for step in count.steps]


def test_a_filter_of_right_ones_leaves_wrong_ones_alone() -> None:
    attempts = [attempt("p", 0, 1.0, output="None"), attempt("p", 1, 0.0, output="None")]
    found = sort_out(attempts, {"right_after_error_or_none": True}).problems["p"]
    assert ([t.sample for t in found.right], [t.sample for t in found.wrong]) == ([], [1])


def test_a_trajectory_without_a_sampled_token_is_never_used() -> None:
    nothing = replace(attempt("p", 0, 1.0), turns=[])
    _, count = make_pairs([nothing, attempt("p", 1, 0.0)], filters=switches([]))
    assert [(step.name, step.dropped) for step in count.steps] == [("empty", 1)]


def test_a_pair_says_how_it_was_chosen() -> None:
    attempts = [attempt("p", 0, 1.0, logprob=-0.5), attempt("p", 1, 0.0, words=1)]
    [pair], _ = make_pairs(attempts, strategy=named_strategy("best_worst"), label="best_worst")
    assert (pair.strategy, pair.origin, pair.uncertainty) == ("best_worst", None, None)
    assert (pair.chosen_reward, pair.chosen_logprob, pair.rejected_reward, pair.rejected_logprob) == (1.0, -2.0, 0, -5)


STATUS = st.sampled_from(["ok", "error"])
ATTEMPTS = st.lists(st.builds(
    attempt, st.sampled_from("ab"), st.integers(0, 9), st.sampled_from([0.0, 1.0]), st.sampled_from("xyz"), STATUS,
    words=st.integers(0, 3), logprob=st.floats(-5, 0),
), max_size=14, unique_by=lambda t: t.key)  # fmt: skip
STRATEGIES = st.sampled_from(["random", "best_worst", "shortest_correct"])
SWITCHES = st.dictionaries(st.sampled_from([*filter_table(), REPEATED]), st.booleans())


@given(ATTEMPTS, STRATEGIES, SWITCHES, st.integers(1, 3), st.integers(0, 5), st.data())
def test_pairs_are_right_and_wrong_ones_of_a_problem_none_twice_whatever_the_order(
    attempts: list[Trajectory], name: str, on: dict[str, bool], most: int, seed: int, data: st.DataObject
) -> None:
    make = partial(
        make_pairs, strategy=named_strategy(name), filters=on, pairs_per_problem=most, seed=seed, max_length=9
    )
    pairs, count = make(attempts)
    reward = {t.key: t.reward for t in attempts}
    assert all(reward[p.problem_id, p.chosen] == 1 and reward[p.problem_id, p.rejected] == 0 for p in pairs)
    assert len({(p.problem_id, n) for p in pairs for n in (p.chosen, p.rejected)}) == 2 * len(pairs)
    problems = sort_out(attempts, on, 9).problems.values()
    assert len(pairs) == sum(min(most, len(sides.right), len(sides.wrong)) for sides in problems)
    assert make(data.draw(st.permutations(attempts))) == (pairs, count)


@given(ATTEMPTS, SWITCHES)
def test_each_step_sees_what_the_one_before_kept_and_the_last_keeps_what_is_left(
    attempts: list[Trajectory], on: dict[str, bool]
) -> None:
    found = sort_out(attempts, on, max_length=9)
    steps = found.steps
    assert steps[0].seen == len(attempts)
    assert all(step.kept + step.dropped == step.seen and step.dropped >= 0 for step in steps)
    assert [step.seen for step in steps[1:]] == [step.kept for step in steps[:-1]]
    assert steps[-1].kept == sum(len(sides.right) + len(sides.wrong) for sides in found.problems.values())
    count = found.count(0)
    assert count.mixed == sum(sides.mixed for sides in found.problems.values())
    assert [step.name for step in steps] == ["empty", *(name for name, is_on in switches(on).items() if is_on)]


def test_attempts_with_different_prompts_are_refused() -> None:
    with pytest.raises(DataError, match="different prompts"):
        make_pairs([attempt("p", 0, 1.0), replace(attempt("p", 1, 0.0), prompt_ids=[9])])


def test_a_preference_file_reads_back(tmp_path: Path) -> None:
    pairs, _ = make_pairs([attempt("p", 0, 1.0), attempt("p", 1, 0.0)])
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert list(read_pairs(tmp_path / "pairs.jsonl")) == pairs


def test_a_missing_or_broken_preference_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mdpo pairs"):
        list(read_pairs(tmp_path / "none.jsonl"))
    (tmp_path / "broken.jsonl").write_text('{"problem_id": 1}\n')
    with pytest.raises(DataError, match="line 1 is no pair"):
        list(read_pairs(tmp_path / "broken.jsonl"))
