"""The figures of a rollout in progress."""

import json
from pathlib import Path

import pytest

from mdpo.errors import DataError
from mdpo.progress import Meter, MeterLog, Tally
from mdpo.trajectory import Trajectory, Turn

CALL = Turn("a", [1, 2, 3], [-1.0] * 3, code="1/0", observation="o", observation_ids=[4, 5], status="error")
ANSWER = Turn("b", [6], [-1.0])
RIGHT = Trajectory("p", 0, "q", "1", "s", [7, 8], [CALL, ANSWER], "answered", "1", 1.0, "m", {})


def test_a_tally_sums_tokens_calls_and_outcomes() -> None:
    tally = Tally()
    tally.add(RIGHT)
    tally.add(Trajectory("p", 1, "q", "1", "s", [7, 8], [ANSWER], "no_code", None, 0.0, "m", {}))
    assert tally.row() == {
        "trajectories": 2, "right": 1, "reward": 0.5, "sampled_tokens": 5, "tokens": 11, "calls": 1,
        "failed_calls": {"error": 1}, "stop_reasons": {"answered": 1, "no_code": 1},
    }  # fmt: skip


def test_nothing_is_divided_by_nothing() -> None:
    assert Tally().reward is None
    assert Meter(3).row()["seconds_left"] is None
    assert Meter(3).line() == "none finished yet"


def test_the_line_has_rates_reward_calls_errors_and_the_time_left() -> None:
    meter = Meter(2)
    meter.tally.add(RIGHT)
    line = meter.line()
    for part in (" a second", " tokens/s", "100.0 % right", "1 calls, 1 failed", " left"):
        assert part in line


def test_the_log_has_the_same_figures_as_json_lines(tmp_path: Path) -> None:
    meter = Meter(2)
    log = MeterLog(tmp_path / "new" / "log.jsonl", meter)
    log.write()
    meter.tally.add(RIGHT)
    log.write()
    rows = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text().splitlines()]
    assert [row["trajectories"] for row in rows] == [0, 1]
    assert rows[1]["sampled_tokens_per_second"] > 0
    assert rows[1]["owed"] == 2


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(DataError, match=r"cannot write the log .*log\.jsonl"):
        MeterLog(tmp_path / "log.jsonl", Meter(1)).write()
