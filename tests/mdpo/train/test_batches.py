from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mdpo.train.batches import PADDING, StepLoader, Steps, length_groups, plan_step

PAIRS = st.lists(st.tuples(st.integers(2, 200), st.integers(2, 200)), min_size=1, max_size=40)


@given(lengths=PAIRS, processes=st.integers(1, 4), budget=st.integers(1, 2000))
def test_every_example_is_computed_once_and_all_processes_make_the_same_calls(
    lengths: list[tuple[int, int]], processes: int, budget: int
) -> None:
    plans = plan_step(range(len(lengths)), lengths, processes, budget)
    rows = Counter(row for plan in plans for micro in plan for row in micro.examples)
    assert rows == Counter(range(len(lengths)))
    assert len({len(plan) for plan in plans}) == 1
    for parts in zip(*plans, strict=True):
        assert len({len(part.calls) for part in parts}) == 1
        for part in parts:
            assert sorted(n for call in part.calls for n in call) == list(range(2 * len(part.examples)))
            assert sum(sum(lengths[row]) for row in part.examples) <= budget or len(part.examples) == 1


@given(lengths=st.lists(st.integers(1, 500), min_size=1, max_size=80))
def test_sequences_are_grouped_with_little_padding(lengths: list[int]) -> None:
    groups = length_groups(lengths)
    assert sorted(number for group in groups for number in group) == list(range(len(lengths)))
    padded = sum(max(lengths[number] for number in group) * len(group) for group in groups)
    assert padded * (1 - PADDING) <= sum(lengths)


def test_equal_lengths_are_one_call() -> None:
    assert len(length_groups([50] * 16)) == 1


def test_a_step_has_the_same_examples_on_any_number_of_processes() -> None:
    lengths = [(n % 7 + 2,) for n in range(23)]
    whole = Steps(lengths, 8, 10**6, seed=3)
    for number in range(6):
        shares = [Steps(lengths, 8, 10**6, 3, process, 3)[number] for process in range(3)]
        assert all(rows == whole[number][1] for _, rows in shares)
        taken = [row for micro_batches, _ in shares for micro in micro_batches for row in micro.examples]
        assert sorted(taken) == sorted(whole[number][1])


def test_each_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    loader = StepLoader(Steps([(3,)] * 20, 8, 100, seed=0))
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([row for step in loader for row in step["rows"]])
    assert [sorted(rows) for rows in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]


def test_the_last_step_of_an_epoch_is_smaller_or_left_out() -> None:
    assert [len(Steps([(3,)] * 20, 8, 100, 0)[n][1]) for n in range(3)] == [8, 8, 4]
    assert len(Steps([(3,)] * 20, 8, 100, 0, drop_last=True)) == 2
    assert len(Steps([(3,)] * 5, 8, 100, 0, drop_last=True)) == 1
