from pathlib import Path

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdpo.errors import DataError
from mdpo.trajectory import STOP_REASONS, Trajectory, TrajectoryWriter, Turn, read_trajectories

ids = st.lists(st.integers(0, 1000), min_size=1, max_size=5)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    action_ids = draw(ids)
    answered = draw(st.booleans())
    return Turn(
        action=draw(st.text()),
        action_ids=action_ids,
        action_logprobs=[-0.5] * len(action_ids),
        code=draw(st.text()) if answered else None,
        observation=draw(st.text()) if answered else None,
        observation_ids=draw(ids) if answered else [],
        status="ok" if answered else None,
    )


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    return Trajectory(
        problem_id=draw(st.text(min_size=1)),
        sample=draw(st.integers(0, 99)),
        question=draw(st.text()),
        answer=draw(st.text()),
        source="test",
        prompt_ids=draw(ids),
        turns=draw(st.lists(turns(), min_size=1, max_size=3)),
        stop_reason=draw(st.sampled_from(STOP_REASONS)),
        prediction=draw(st.none() | st.text()),
        reward=draw(st.sampled_from([0.0, 1.0])),
        policy="p",
        sampling={"temperature": 1.0},
    )


def example(sample: int = 0) -> Trajectory:
    first = Turn("a", [5, 6], [-0.1, -0.2], code="1", observation="1", observation_ids=[7, 8, 9], status="ok")
    last = Turn("b", [10], [-0.3])
    return Trajectory("p", sample, "q", "1", "test", [1, 2], [first, last], "answered", "1", 1.0, "policy", {})


def test_the_mask_is_one_on_actions_and_zero_on_observations() -> None:
    #                                    a₁     o₁       a₂
    assert example().completion_ids == [5, 6, 7, 8, 9, 10]
    assert example().completion_mask == [1, 1, 0, 0, 0, 1]


@given(trajectories())
def test_masked_in_ids_are_exactly_what_was_sampled(trajectory: Trajectory) -> None:
    pairs = zip(trajectory.completion_ids, trajectory.completion_mask, strict=True)
    sampled = [token for turn in trajectory.turns for token in turn.action_ids]
    assert [token for token, kept in pairs if kept] == sampled


@given(trajectories())
def test_a_line_reads_back_as_the_same_trajectory(trajectory: Trajectory) -> None:
    line = trajectory.to_json()
    assert "\n" not in line
    assert Trajectory.from_json(line) == trajectory


def test_a_turn_needs_one_log_probability_for_each_id() -> None:
    with pytest.raises(ValueError, match="2 action ids but 1"):
        Turn("a", [1, 2], [-0.1])


@pytest.mark.parametrize("torn", [b"{", '{"problem_id": "ü'.encode()[:-1], example(2).to_json().encode()])
def test_a_torn_last_line_is_dropped_and_written_again(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.append(example(0))
    with path.open("ab") as file:
        file.write(torn)
    assert [t.sample for t in read_trajectories(path)] == [0]
    with TrajectoryWriter(path) as writer:
        writer.append(example(1))
    assert [t.sample for t in read_trajectories(path)] == [0, 1]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(example(0).to_json() + "\nnonsense\n" + example(1).to_json() + "\n")
    with pytest.raises(DataError, match=r"t\.jsonl, line 2"):
        list(read_trajectories(path))


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(example().to_json().replace('"schema": 1', '"schema": 99') + "\n")
    with pytest.raises(DataError, match="schema 99"):
        list(read_trajectories(path))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mdpo rollout"):
        list(read_trajectories(tmp_path / "none.jsonl"))


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.append(example(0))

        class Full:
            def __init__(self, file: object) -> None:
                self.file = file

            def write(self, line: bytes) -> int:
                self.file.write(line[:10])  # type: ignore[attr-defined]
                raise OSError(28, "No space left on device")

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

        monkeypatch.setattr(writer, "_file", Full(writer._file))
        with pytest.raises(DataError, match="free some space"):
            writer.append(example(1))
    assert [t.sample for t in read_trajectories(path)] == [0]
    assert path.read_bytes().endswith(b"\n")


def test_the_file_loads_with_datasets(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TrajectoryWriter(path) as writer:
        writer.append(example(0))
        writer.append(example(1))
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["sample"][:] == [0, 1]
    assert rows[0]["turns"][0]["observation_ids"] == [7, 8, 9]
