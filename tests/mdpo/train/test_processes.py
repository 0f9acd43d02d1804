"""The same step on one process and on two, through what accelerate wraps the model in."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from mdpo.data import kto_dataset, pair_dataset
from mdpo.train.dpo import train_mdpo
from mdpo.train.kto import train_mkto
from tests.mdpo.train.exact import random_pairs, stage, two_policies

ROOT = Path(__file__).parents[3]
PAIRS = random_pairs(5)  # the last step is of one pair, so that a process has none
# As `accelerate launch` sets them.
WRAPPERS = {
    "ddp": {},
    "fsdp2": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    },
}


def train(method: str, folder: Path, processes: int) -> Path:
    args = {"per_device_train_batch_size": 4 // processes, "learning_rate": 1e-3, "optim": "sgd", "max_grad_norm": 1.0}
    where = stage(folder / f"{method}-{processes}", **args)
    if method == "mdpo":
        return train_mdpo(folder / "p", folder / "r", pair_dataset(PAIRS, 128)[0], where)
    return train_mkto(folder / "p", folder / "r", kto_dataset(PAIRS, 128, 0)[0], where)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", list(WRAPPERS))
def test_two_processes_train_the_same_policy_as_one(
    wrapper: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    two_policies(tokenizer, tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, **WRAPPERS[wrapper], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    done = subprocess.run(
        [*launch, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for method in ("mdpo", "mkto"):
        alone = train(method, tmp_path, 1)
        rows: list[list[dict[str, Any]]] = []
        weights = []
        for processes in (1, 2):
            out = tmp_path / f"{method}-{processes}" / "out"
            weights.append(load_file(out / "policy" / "model.safetensors"))
            rows.append(json.loads((out / "training.json").read_text()))
        for name, weight in load_file(alone / "model.safetensors").items():
            torch.testing.assert_close(weights[1][name], weight, rtol=1e-5, atol=1e-6)
        for one, two in zip(*rows, strict=True):
            for name in one.keys() & {"loss", "grad_norm", "rewards/chosen", "rewards/rejected", "kl", "action_tokens"}:
                assert two[name] == pytest.approx(one[name], rel=1e-4), name


if __name__ == "__main__":
    for method in ("mdpo", "mkto"):
        train(method, Path(sys.argv[1]), 2)
