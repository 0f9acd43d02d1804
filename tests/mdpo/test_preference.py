from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdpo.errors import DataError
from mdpo.preference import make_pairs, read_pairs, write_pairs
from mdpo.trajectory import Trajectory, Turn


def attempt(problem: str, sample: int, reward: float, action: str | None = None, status: str = "ok") -> Trajectory:
    """One call and an answer."""
    name = action or f"action {sample}"
    call = Turn(name, [10 + sample, 2], [-1.0, -1.0], "print(1)", "1", [20, 21], status)
    answer = Turn("answer", [30, 2], [-1.0, -1.0])
    return Trajectory(problem, sample, "q", "1", "test", [1, 5], [call, answer], "answered", "1", reward, "p", {})


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
    assert (pairs, count.dropped) == ([], {"right after a failed call": 1})


def test_trajectories_without_a_call_and_too_long_ones_are_dropped() -> None:
    silent = replace(attempt("p", 0, 1.0), turns=[Turn("answer", [30, 2], [-1.0, -1.0])])
    assert make_pairs([silent, attempt("p", 1, 0.0)])[1].dropped == {"without a call": 1}
    assert len(make_pairs([silent, attempt("p", 1, 0.0)], require_call=False)[0]) == 1
    assert make_pairs([attempt("p", 0, 1.0)], max_length=7)[1].dropped == {"too long": 1}


def test_the_same_first_action_counts_once_on_each_side() -> None:
    attempts = [attempt("p", sample, reward, action="same") for sample, reward in enumerate([1.0, 1.0, 0.0, 0.0])]
    pairs, count = make_pairs(attempts, pairs_per_problem=5)
    assert (len(pairs), count.dropped) == (1, {"repeated": 2})


@given(rewards=st.lists(st.booleans(), max_size=8), count=st.integers(1, 4), seed=st.integers(0, 5), data=st.data())
def test_pairs_are_valid_distinct_and_independent_of_the_order(
    rewards: list[bool], count: int, seed: int, data: st.DataObject
) -> None:
    attempts = [attempt("p", sample, float(right)) for sample, right in enumerate(rewards)]
    pairs, _ = make_pairs(attempts, pairs_per_problem=count, seed=seed)
    assert len(pairs) == min(count, sum(rewards), len(rewards) - sum(rewards))
    assert all(rewards[pair.chosen] and not rewards[pair.rejected] for pair in pairs)
    assert len({pair.chosen for pair in pairs} | {pair.rejected for pair in pairs}) == 2 * len(pairs)
    assert make_pairs(data.draw(st.permutations(attempts)), pairs_per_problem=count, seed=seed)[0] == pairs


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
