"""φ(τ): the policy's last hidden state, averaged over the tokens that the policy sampled."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdpo.checkpoint import load_model
from mdpo.errors import DataError
from mdpo.features import embed, mean_hidden, projection
from mdpo.trajectory import Trajectory
from tests.mdpo.attempts import attempt

HIDDEN = 128  # of the quickstart's policy
ATTEMPTS = [attempt(name, n, float(n % 2), words=3 * n) for name in ("p", "qq") for n in range(4)]


def one_by_one(checkpoint: Path, trajectory: Trajectory) -> torch.Tensor:
    """The definition: an unpadded pass, and the mean over the positions that the mask marks."""
    model = load_model(checkpoint, torch.float32)
    ids = torch.tensor([trajectory.prompt_ids + trajectory.completion_ids])
    with torch.inference_mode():
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    mask = [0] * len(trajectory.prompt_ids) + trajectory.completion_mask
    return torch.stack([vector for vector, sampled in zip(hidden, mask, strict=True) if sampled]).mean(dim=0)


@pytest.mark.parametrize("max_tokens", [1, 40, 8192])
def test_features_are_the_mean_over_the_sampled_tokens_whatever_the_batches(checkpoint: Path, max_tokens: int) -> None:
    found = embed(ATTEMPTS, checkpoint, torch.float32, max_tokens=max_tokens)
    for trajectory in ATTEMPTS:
        expected = one_by_one(checkpoint, trajectory)
        assert found[trajectory.key].shape == (HIDDEN,)
        torch.testing.assert_close(torch.from_numpy(found[trajectory.key]), expected, rtol=1e-4, atol=1e-5)


def test_the_order_does_not_change_a_bit(checkpoint: Path) -> None:
    one = embed(ATTEMPTS, checkpoint, torch.float32, max_tokens=60)
    other = embed(ATTEMPTS[::-1], checkpoint, torch.float32, max_tokens=60)
    assert list(one) == list(other)  # the same batches
    assert all((one[key] == other[key]).all() for key in one)


def test_an_observation_counts_only_through_what_the_policy_said_after_it(checkpoint: Path) -> None:
    call, answer = ATTEMPTS[0].turns
    model = load_model(checkpoint, torch.float32)
    alone = replace(ATTEMPTS[0], turns=[call])
    longer = replace(ATTEMPTS[0], turns=[replace(call, observation_ids=[20, 21, 22, 23])])
    answered = [replace(t, turns=[*t.turns, answer]) for t in (alone, longer)]
    one, other = mean_hidden(model, [alone, longer])
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    one, other = mean_hidden(model, answered)
    assert (one - other).abs().max() > 1e-3


def test_a_large_hidden_state_is_projected_always_the_same_way(checkpoint: Path) -> None:
    whole = embed(ATTEMPTS, checkpoint, torch.float32)
    small = embed(ATTEMPTS, checkpoint, torch.float32, dimension=16)
    key = ATTEMPTS[0].key
    expected = torch.from_numpy(whole[key]) @ projection(HIDDEN, 16)
    torch.testing.assert_close(torch.from_numpy(small[key]), expected, rtol=1e-4, atol=1e-4)
    assert embed(ATTEMPTS, checkpoint, torch.float32, dimension=HIDDEN)[key].shape == (HIDDEN,)


def test_a_projection_keeps_distances_roughly() -> None:
    vectors = torch.randn(200, 1024, generator=torch.Generator().manual_seed(5))
    factors = (vectors @ projection(1024, 256)).norm(dim=1) / vectors.norm(dim=1)
    assert 0.8 < factors.min() < factors.max() < 1.2


def test_a_hidden_state_in_half_precision_is_averaged_in_float32(checkpoint: Path) -> None:
    found = embed(ATTEMPTS, checkpoint, torch.bfloat16)
    assert found[ATTEMPTS[0].key].dtype == "float32"
    exact = embed(ATTEMPTS, checkpoint, torch.float32)[ATTEMPTS[0].key]
    assert abs(found[ATTEMPTS[0].key] - exact).max() < 0.1 * abs(exact).max()


def test_progress_counts_every_trajectory(checkpoint: Path) -> None:
    done: list[int] = []
    embed(ATTEMPTS, checkpoint, torch.float32, max_tokens=40, on_trajectories=done.append)
    assert len(done) > 1
    assert sum(done) == len(ATTEMPTS)


def test_ids_of_another_tokenizer_are_refused(checkpoint: Path) -> None:
    with pytest.raises(DataError, match="it was sampled by a model with another tokenizer"):
        embed([replace(ATTEMPTS[0], prompt_ids=[10**6])], checkpoint, torch.float32)
