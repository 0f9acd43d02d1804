import json
from pathlib import Path

import pytest

from mdpo.config import ProblemsConfig
from mdpo.errors import DataError
from mdpo.sources import load_problems


def test_several_benchmarks_are_mixed_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gsm8k", "math"):
        rows = [{"question": f"{n}?", "answer": "1", "id": f"{name}/{n}", "source": name} for n in range(20)]
        (tmp_path / f"{name}_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("MDPO_DATA", str(tmp_path))
    both = ProblemsConfig(benchmark="gsm8k+math", split="train")
    problems = load_problems(both, seed=0)
    assert len({problem.id for problem in problems}) == 40
    assert {problem.source for problem in problems[:10]} == {"gsm8k", "math"}
    assert problems == load_problems(both, seed=0) != load_problems(both, seed=1)
    with pytest.raises(DataError, match="one file cannot hold gsm8k and math"):
        load_problems(both.model_copy(update={"file": "x.jsonl"}), seed=0)
