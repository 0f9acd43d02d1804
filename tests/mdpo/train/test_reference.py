from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mdpo.data import pair_dataset
from mdpo.train.adapters import load_for_training
from mdpo.train.dpo import SIDES
from mdpo.train.reference import ReferenceLogps, reference_logps
from mdpo.train.sequences import Sequences
from tests.mdpo.conftest import tiny_llama
from tests.mdpo.train.exact import random_pairs, save, token_logps, two_policies

CPU = torch.device("cpu")


def compute(reference: Path, pairs: list[Any], file: Path, **changes: Any) -> tuple[ReferenceLogps, int]:
    """The log-probabilities, and how often the model was loaded for them."""
    loads = []

    def load() -> LlamaForCausalLM:
        loads.append(reference)
        return load_for_training(reference, torch.float32, None)

    sequences = Sequences(pair_dataset(pairs, 128)[0], SIDES)
    how = {"how": "", "pad": 0, "budget": 60, "bf16": False, **changes}
    return reference_logps(sequences, reference, load, file, **how), len(loads)


def test_they_are_those_of_every_action_token(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    _, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs(6)
    found, _ = compute(reference, pairs, tmp_path / "file")
    model = LlamaForCausalLM.from_pretrained(reference, dtype=torch.float64)
    for row, pair in enumerate(pairs):
        for side, (ids, mask) in enumerate(
            ((pair.chosen_ids, pair.chosen_mask), (pair.rejected_ids, pair.rejected_mask))
        ):
            expected = token_logps(model, pair.prompt_ids, ids, mask).float()
            torch.testing.assert_close(found.of(row, side, CPU), expected, rtol=1e-5, atol=1e-5)


def test_they_are_computed_once(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    _, reference = two_policies(tokenizer, tmp_path)
    first, loads = compute(reference, random_pairs(), tmp_path / "file")
    again, more = compute(reference, random_pairs(), tmp_path / "file", budget=10**6)
    assert (loads, more) == (1, 0)
    assert torch.equal(first.values, again.values)
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize("what", ["data", "mask", "weights", "precision"])
def test_other_data_masks_weights_or_precision_are_computed_again(
    what: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    _, reference = two_policies(tokenizer, tmp_path)
    pairs = random_pairs()
    compute(reference, pairs, tmp_path / "file")
    changes: dict[str, Any] = {}
    if what == "data":
        pairs[2].rejected_ids[1] += 1
    elif what == "mask":
        pairs[2].rejected_mask[1] = 1 - pairs[2].rejected_mask[1]
    elif what == "weights":
        save(tiny_llama(9, len(tokenizer)), tokenizer, reference)
    else:
        changes["bf16"] = True
    assert compute(reference, pairs, tmp_path / "file", **changes)[1] == 1
