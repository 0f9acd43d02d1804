"""A recipe looked through: what it would do, what is missing, what cannot work."""

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mdpo.checkpoint import local_path
from mdpo.config import load_config
from mdpo.display import Display
from mdpo.dry_run import dry_run
from mdpo.recipes import find_recipe, recipes
from tests.mdpo.test_training_data import ASKED, GOOD

QUICK = ["rollout.samples=4", "iterations=2"]


def look(recipe: str, overrides: Sequence[str] = (), folder: Path = Path("runs/x")) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=300)
    status = dry_run(load_config(find_recipe(recipe), overrides), folder, Display(console))
    written: Any = console.file
    return status, written.getvalue()


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MDPO_DATA", raising=False)
    monkeypatch.setattr("mdpo.dry_run.load_config_file", lambda name: None)
    monkeypatch.chdir(tmp_path)


def test_a_recipe_that_can_start_says_its_stages_their_sizes_and_its_memory() -> None:
    status, said = look("quickstart", QUICK)
    assert status == 0
    for line in (
        "package:mdpo/quickstart/checkpoint, a folder that is here",
        "527,360 parameters",
        "its chat template is cut for observations as `user`",
        "128 problems × 4 attempts = 512 trajectories, at most 0.2 million sampled tokens",
        "at most 128 pairs; 16 optimizer steps of 8 examples (8 a device × 1 process × 1 accumulated); one process",
        "the policy that the iteration started from",
        "quickstart test: 512 problems",
        "optimizer: 527,360 × 8 B",
        "256 rows × 448 tokens × 2 KiB",
        "3 policies in runs/x/sft/policy, runs/x/iteration-1/policy, …, about 2.0 MiB each",
        "this run can start",
    ):
        assert line in said
    assert not Path("runs").exists()


def test_what_is_on_the_hub_is_named_and_not_asked_for() -> None:
    status, said = look("gemma-1.1-7b-it")
    assert status == 0
    assert "google/gemma-1.1-7b-it, a hub id; the hub does not answer here" in said
    assert "at most 600,000 conversations of RLHF4MATH/SFT_510K on the hub" in said
    assert "20,000 problems × 30 attempts (20 current, 10 previous) = 600,000 trajectories" in said
    assert "625 optimizer steps of 32 examples (2 a device × 8 processes × 2 accumulated); 8 processes by fsdp2" in said


def test_the_models_own_config_gives_memory_and_bounds(tmp_path: Path) -> None:
    source = local_path("package:mdpo/quickstart/checkpoint")
    folder = shutil.copytree(source, tmp_path / "policy")
    sizes = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(sizes | {"max_position_embeddings": 100}))
    status, said = look("quickstart", [*QUICK, f"sft.ready={folder}", "engine.tensor_parallel_size=3"])
    assert status == 2
    assert "error: `rollout.max_tokens`: the model reads at most 100 tokens and a trajectory may have 448" in said
    assert "error: `engine.tensor_parallel_size`: 4 attention heads cannot be shared out to 3 GPUs" in said


@pytest.mark.parametrize(
    ("overrides", "kind", "key", "says"),
    [
        (["rollout.samples=1"], "error", "rollout.samples", "never both right and wrong"),
        (["rollout.temperature=0.0"], "error", "rollout.temperature", "all the same"),
        (["rollout.max_action_tokens=448"], "warning", "rollout.max_action_tokens", "no other would follow"),
        (["rollout.horizon=40"], "warning", "rollout.max_tokens", "40 actions of 96 tokens are far over 448"),
        (["train.max_length=200"], "warning", "train.max_length", "those over 200 are dropped"),
        (["train.args.warmup_steps=16"], "warning", "train.args.warmup_steps", "16 steps of warm-up, and at most 16"),
        (["train.args.gradient_accumulation_steps=64", "train.args.warmup_steps=0"], "warning",
         "train.args.gradient_accumulation_steps", "512"),
        (["train.args.lerning_rate=1"], "error", "train.args.lerning_rate", "did you mean `learning_rate`?"),
        (["train.args.use_liger_kernel=true"], "error", "train.args", "has no effect here"),
        (["iterations=0", "train.reference=initial"], "warning", "train.reference", "no iteration to train in"),
        (["iterations=1", "rollout.shares=[{samples: 2}, {samples: 2, policy: previous}]"], "warning",
         "rollout.shares", "no previous policy"),
        (["eval.problems=[{benchmark: quickstart, split: test}, {benchmark: quickstart, split: train}]"], "error",
         "eval.problems.1", "quickstart is evaluated already"),
        (["train.launch=fsdp3"], "error", "train.launch", "there is no accelerate file fsdp3"),
        (["sft.ready=./nowhere"], "missing", "sft.ready", "there is no such folder"),
        (["sft.ready=null", "sft.demonstrations=none.jsonl"], "missing", "sft.demonstrations", "no file none.jsonl"),
        (["problems.benchmark=none.jsonl"], "missing", "problems", "there is no file 'none.jsonl'"),
        (["problems.benchmark=gsm9k"], "missing", "problems", "did you mean 'gsm8k'"),
    ],
)  # fmt: skip
def test_what_cannot_work_names_the_key(overrides: list[str], kind: str, key: str, says: str) -> None:
    status, said = look("quickstart", overrides)
    (found,) = [line for line in said.splitlines() if line.startswith(f"{kind}: ")]
    assert found.startswith(f"{kind}: `{key}`: ") and says in found
    assert status == {"error": 2, "missing": 1, "warning": 0}[kind]


def test_conversations_for_sft_are_looked_at(tmp_path: Path) -> None:
    for name, row in {"chats": {"messages": [ASKED, GOOD]}, "pairs": {"chosen": [ASKED], "rejected": [ASKED]}}.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    _, said = look("quickstart", ["sft.ready=null", "sft.demonstrations=chats.jsonl"])
    assert "at most 100,000 of conversations in chats.jsonl" in said
    status, said = look("quickstart", ["sft.ready=null", "sft.demonstrations=pairs.jsonl"])
    assert status == 1 and "which are pairs of conversations, for mdpo" in said


def test_adapters_and_the_size_of_a_micro_batch_are_counted() -> None:
    _, said = look("quickstart", [*QUICK, "train.adapter={r: 8, quantize: true}", "train.micro_batch_tokens=1000"])
    assert "frozen weights: 527,360 × 0.5 B" in said
    assert "1,000 tokens × (2 layers" in said


@pytest.mark.parametrize(
    ("method", "says"), [("mkto", "at most 256 traj"), ("raft", "at most 128 traj"), ("dpo", "128 pairs")]
)
def test_every_method_says_its_examples(method: str, says: str) -> None:
    # RAFT's loss has no η.
    fewer = ["train.args={warmup_steps: 0}"] if method == "raft" else []
    status, said = look("quickstart", [f"train.method={method}", *fewer])
    assert status == 0 and says in said


@pytest.mark.parametrize("name", [name for name, _, _ in recipes()])
def test_no_recipe_contradicts_itself(name: str) -> None:
    _, said = look(name)
    assert not [line for line in said.splitlines() if line.startswith(("error:", "warning:"))]
