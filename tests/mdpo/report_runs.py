"""Run directories for the tests of the report: small ones, written by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mdpo.config import Config, EvalConfig, PolicyConfig, ProblemsConfig
from mdpo.folder import open_folder
from mdpo.trajectory import Trajectory, TrajectoryWriter, Turn

TRAIN = ProblemsConfig(benchmark="quickstart", split="train")
TEST = ProblemsConfig(benchmark="quickstart", split="test")
CONFIG = Config(policy=PolicyConfig(model="m"), problems=TRAIN, eval=EvalConfig(problems=[TEST]))

# Everything that ends an element, opens one, moves a cursor, hides or turns text.
HOSTILE = "</script><script>hacked=1</script><img src=x onerror=hacked=2><!--</textarea>\u2028\x1b[31m\u202e\x00{{7*7}}"


def row(stage: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "stage": stage, "benchmark": "quickstart", "split": "test", "decoding": "greedy", "problems": 100,
        "accuracy": accuracy, "ci95": [max(0.0, accuracy - 0.05), min(1.0, accuracy + 0.05)], **more,
    }  # fmt: skip


def attempt(problem: str = "p-1", sample: int = 0, right: bool = True, **more: Any) -> Trajectory:
    call = Turn(
        "First\n```python\nprint(6 * 7)  # run\n```", [1, 2], [-0.5, -0.1], "print(6 * 7)", "42", [3], "ok", 0.01
    )
    answer = Turn("So $\\frac{84}{2} = 42$, \\boxed{42}.", [4], [-0.2])
    whole = Trajectory(
        problem, sample, f"What is the question of {problem}?", "42", "t", [0, 0], [call, answer], "answered",
        "42" if right else "41", float(right), "/home/somebody/run/sft/policy", {"temperature": 1.0},
    )  # fmt: skip
    return replace(whole, **more)


def steps(count: int, **logged: float) -> list[dict[str, float]]:
    return [{"step": i, "loss": 1 / i, **logged} for i in range(1, count + 1)]


def write(path: Path, trajectories: Sequence[Trajectory]) -> None:
    with TrajectoryWriter(path) as writer:
        for each in trajectories:
            writer.append(each)


def make_run(path: Path, before: Sequence[bool] = (True, False), after: Sequence[bool] = (True, True)) -> Path:
    """One iteration; each evaluation has one attempt a problem, the rollout one right and one wrong at the first."""
    with open_folder(path, CONFIG) as folder:
        for stage, outcomes in (("sft", before), ("iteration-1", after)):
            found = [attempt(f"p-{i}", right=right) for i, right in enumerate(outcomes, start=1)]
            write(folder.evaluation(stage, "quickstart"), found)
            folder.add_metrics(row(stage, sum(outcomes) / len(outcomes)))
        rollout = [attempt("q-1", 0), attempt("q-1", 1, right=False), attempt("q-2", 0), attempt("q-2", 1)]
        write(folder.iteration(1) / "trajectories.jsonl", rollout)
        log = steps(4, **{"rewards/margins": 0.5, "rewards/accuracies": 0.75, "kl": 0.01})
        (folder.iteration(1) / "training.json").write_text(json.dumps(log))
    return path
