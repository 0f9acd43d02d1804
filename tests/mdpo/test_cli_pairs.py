"""`mdpo pairs` as a user types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mdpo.cli import app
from mdpo.errors import CheckpointError, ConfigError, DataError, MdpoError
from mdpo.exploration import Exploration
from mdpo.preference import read_pairs
from tests.mdpo.test_pairing import trajectory_file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    trajectory_file(tmp_path / "t.jsonl", 20)
    trajectory_file(tmp_path / "old.jsonl", 20)
    return tmp_path / "pairs.jsonl"


def mdpo(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["pairs", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_says_what_each_step_kept(file: Path) -> None:
    output = mdpo("t.jsonl", "--out", file, "--filter", "void_turn", "--no-filter", "repeated", "--per-problem", 2)
    rows = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    found = {name.strip(): [cell.strip() for cell in cells] for name, *cells in rows}
    assert found["void_turn"] == ["all", "120", "0", "120"]
    assert found["in a pair (random)"] == ["problems", "120", "40", "80"]
    assert "repeated" not in found
    assert "40 pairs from 120 trajectories of 20 problems" in output
    assert len(list(read_pairs(file))) == 40


def test_earlier_files_give_their_share(file: Path) -> None:
    output = mdpo("t.jsonl", "--out", file, "--pool", "old.jsonl", "--pool-share", 0.2, "--strategy", "best_worst")
    assert "5 earlier pairs: 5 of old.jsonl" in output
    assert {pair.origin for pair in read_pairs(file)} == {"t.jsonl", "old.jsonl"}


def test_uncertain_pairs_go_on_from_a_covariance_file(file: Path, checkpoint: Path) -> None:
    uncertain = ["--strategy", "uncertain", "--model", checkpoint, "--dtype", "float32", "--dimension", 8]
    assert "nats of information from 20 pairs" in mdpo("old.jsonl", "--out", "old-pairs.jsonl", *uncertain)
    mdpo("t.jsonl", "--out", file, *uncertain, "--covariance", "old-pairs.covariance.npz")
    after = Exploration.load(file.with_suffix(".covariance.npz")).covariance
    assert (after.pairs, after.dimension) == (40, 8)
    with pytest.raises(DataError, match="described by 8 features, and this policy gives 128"):
        mdpo("t.jsonl", "--out", file, *uncertain[:-2], "--covariance", "old-pairs.covariance.npz")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--filter", "repeted"], ConfigError, "no filter `repeted`; did you mean `repeated`?"),
        (["--pool", "old.jsonl"], ConfigError, "--pool and --pool-share go together"),
        (["--pool-share", "0.2"], ConfigError, "--pool and --pool-share go together"),
        (["--pool", "old.jsonl", "--pool-share", "1"], ConfigError, "share: Input should be less than 1"),
        (["--length-penalty", "0.1"], ConfigError, "the strategy is random"),
        (["--strategy", "uncertain"], ConfigError, "--strategy uncertain and --model go together"),
        (["--model", "m"], ConfigError, "--strategy uncertain and --model go together"),
        (["--strategy", "uncertain", "--model", "no/such/one"], CheckpointError, "no such folder"),
        (["--strategy", "uncertain", "--model", "m", "--ridge", "0"], ConfigError, "must be positive"),
        (["--pool", "gone.jsonl", "--pool-share", "0.1"], DataError, "there is no trajectory file gone.jsonl"),
    ],
)
def test_an_error_says_what_to_do(file: Path, arguments: list[str], error: type[MdpoError], says: str) -> None:
    with pytest.raises(error) as raised:
        mdpo("t.jsonl", "--out", file, *arguments)
    assert says in str(raised.value)
    assert not file.exists()
