"""An evaluation's files: they say with what it was made, and do not let another one in."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval import Problem
from mdpo.config import EngineConfig, PolicyConfig, ProblemsConfig, SandboxConfig
from mdpo.errors import ConfigError
from mdpo.evaluation import evaluate
from mdpo.evaluation_commands import default_file, evaluation_share
from mdpo.evaluation_file import claim, fingerprint, settings, write_record
from mdpo.options import Bounds
from mdpo.plan import Share
from mdpo.rollout import Sampling
from mdpo.trajectory import Trajectory, Turn

TEST = ProblemsConfig(benchmark="GSM8K", split="test")
GREEDY = Share(Sampling(temperature=0.0))
COT = Share(Sampling(temperature=0.0, tool=False))


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDPO_DATA", raising=False)


def made(share: Share = GREEDY, source: ProblemsConfig = TEST, **policy: Any) -> dict[str, Any]:
    talk = PolicyConfig(model="org/name", **policy)
    return settings("org/name", talk, EngineConfig(), SandboxConfig(), share, source, 10, 0)


def test_settings_hold_what_the_numbers_depend_on() -> None:
    found = made()
    assert (found["benchmark"], found["split"], found["problems"]) == ("gsm8k", "test", 10)
    assert found["origin"] == "openai/gsm8k on the hub, test"
    assert found["sampling"]["horizon"] == 6
    assert json.loads(json.dumps(found)) == found


def test_without_the_tool_there_is_no_sandbox_and_one_action() -> None:
    found = made(COT)
    assert (found["tool"], found["sandbox"], found["sampling"]["horizon"]) == (False, None, 1)


def test_the_same_evaluation_goes_on_with_more_samples_or_problems(tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.jsonl"
    claim(path, made(Share(Sampling(), 2)))
    claim(path, made(Share(Sampling(), 4), TEST.model_copy(update={"limit": 5})))


def test_another_evaluation_is_refused_and_named(tmp_path: Path) -> None:
    claim(tmp_path / "t.jsonl", made())
    with pytest.raises(ConfigError, match=r"dtype: 'float32', 'bfloat16'; sampling.horizon: 2, 6 there"):
        claim(tmp_path / "t.jsonl", made(Share(Sampling(temperature=0.0, horizon=2)), dtype="float32"))


def test_trajectories_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="nobody knows how they were sampled"):
        claim(tmp_path / "t.jsonl", made())
    with pytest.raises(ConfigError, match=r"let it end with \.jsonl"):
        claim(tmp_path / "t.json", made())


def test_each_evaluation_has_a_file_of_its_own() -> None:
    limited = TEST.model_copy(update={"limit": 5})
    files = [made(), made(COT), made(Share(Sampling(), 4)), made(source=limited), made(dtype="float32")]
    assert len({default_file(each) for each in files}) == len(files)
    assert default_file(made(COT)).name.startswith("org_name-gsm8k-test-no-tool-")


def test_other_weights_under_the_same_name_are_noticed(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(5_000_000))
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    weights.write_bytes(bytes(4_999_999) + b"1")
    assert fingerprint(tmp_path) != before


def test_the_record_stands_beside_the_trajectories(tmp_path: Path) -> None:
    turns = [Turn("1", [1], [-1.0])]
    trajectory = Trajectory("p", 0, "q", "1", "s", [0], turns, "answered", "1", 1.0, "policy", {})
    path = write_record(tmp_path / "t.jsonl", made(), evaluate([trajectory], [Problem("p", "q", "1", "s")]))
    record = json.loads(path.read_text())
    assert path == tmp_path / "t.json"
    assert record["settings"] == made()
    assert record["result"]["accuracy"] == 1.0
    assert set(record["versions"]) >= {"mdpo", "torch", "transformers", "python"}


def test_greedy_is_the_default_and_several_greedy_attempts_are_refused() -> None:
    assert evaluation_share(Bounds(), 1, None, 1.0, True, 0).sampling.temperature == 0
    assert evaluation_share(Bounds(), 4, None, 1.0, True, 0).sampling.temperature == 0.7
    with pytest.raises(ConfigError, match="4 times the same"):
        evaluation_share(Bounds(), 4, 0.0, 1.0, True, 0)
