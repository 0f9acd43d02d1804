"""An adapter's folder is a policy: its base model with the adapter merged in."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mdpo.adapter import base_of, is_adapter, load_policy
from mdpo.errors import CheckpointError
from tests.mdpo.adapters import random_adapter
from tests.mdpo.engine_contract import PROMPT, all_logits, tiny_llama


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny_llama(folder, 0)
    return folder


def test_an_adapter_is_merged_into_its_base(base: Path, tmp_path: Path) -> None:
    expected = random_adapter(base, tmp_path / "adapter", seed=1)
    merged, plain = (load_policy(folder, torch.float32).eval() for folder in (tmp_path / "adapter", base))
    torch.testing.assert_close(all_logits(merged, PROMPT), all_logits(expected, PROMPT))
    assert (all_logits(plain, PROMPT) - all_logits(expected, PROMPT)).abs().max() > 1
    assert list(merged.state_dict()) == list(plain.state_dict())


def test_only_a_folder_with_an_adapters_configuration_is_one(base: Path, tmp_path: Path) -> None:
    random_adapter(base, tmp_path, seed=1)
    assert (is_adapter(tmp_path), is_adapter(base), is_adapter("some/model")) == (True, False, False)
    assert base_of(tmp_path) == str(base)


def test_a_missing_base_is_named(base: Path, tmp_path: Path) -> None:
    random_adapter(base, tmp_path, seed=1)
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "/nowhere/at/all"}))
    with pytest.raises(CheckpointError, match="/nowhere/at/all"):
        load_policy(tmp_path, torch.float32)
    config.write_text("{}")
    with pytest.raises(CheckpointError, match="base_model_name_or_path"):
        base_of(tmp_path)


def test_no_weight_is_made_up(base: Path, tmp_path: Path) -> None:
    random_adapter(base, tmp_path, seed=1)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    del weights[min(weights)]
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="missing adapter keys"):
        load_policy(tmp_path, torch.float32)


def test_a_torn_adapter_is_an_error(base: Path, tmp_path: Path) -> None:
    random_adapter(base, tmp_path, seed=1)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_policy(tmp_path, torch.float32)
