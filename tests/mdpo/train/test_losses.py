import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdpo.train.losses import kl_baseline, log_ratio, m_dpo, m_kto, turn_weights

FINITE = st.floats(-50, 50)


def test_the_sign_of_a_log_ratio_is_right_over_2000_tokens_where_the_difference_of_sums_has_it_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    naive_flips = 0
    for _ in range(200):
        # A policy early in training: float32 log-probabilities of 2,000 tokens that sum to −5,000 and differ by little.
        reference = -5 * torch.rand(2000, generator=generator, dtype=torch.float64)
        policy = (reference + 1e-5 * torch.randn(2000, generator=generator, dtype=torch.float64)).float()
        reference = reference.float()
        truth = math.fsum(policy.double().tolist()) - math.fsum(reference.double().tolist())
        assert log_ratio(policy, reference).item() == pytest.approx(truth, rel=1e-9)
        # One running sum in float32, as on a GPU that adds up in order, and the difference of the two sums.
        naive = np.cumsum(policy.numpy(), dtype=np.float32)[-1] - np.cumsum(reference.numpy(), dtype=np.float32)[-1]
        naive_flips += naive * truth <= 0
    assert naive_flips > 10


def test_log_ratios_add_up_the_tokens_of_actions_with_their_weights() -> None:
    policy, reference = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([-1.5, -1.0, -4.0])
    assert log_ratio(policy, reference).item() == -0.5
    assert log_ratio(policy, reference, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)).item() == 0.0


@given(chosen=FINITE, rejected=FINITE, beta=st.floats(0.01, 1), smoothing=st.floats(0, 0.5), margin=st.floats(-2, 2))
def test_m_dpo_is_its_formula(chosen: float, rejected: float, beta: float, smoothing: float, margin: float) -> None:
    u = beta * (chosen - rejected) + margin
    expected = (1 - smoothing) * math.log1p(math.exp(-u)) + smoothing * math.log1p(math.exp(u))
    sides = (torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected))
    assert m_dpo(*sides, beta, smoothing, margin).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(ratio=FINITE, right=st.booleans(), z0=st.floats(0, 10), beta=st.floats(0.01, 1))
def test_m_kto_is_its_formula(ratio: float, right: bool, z0: float, beta: float) -> None:
    above = beta * (ratio - z0)
    expected = 1.3 * (1 - 1 / (1 + math.exp(-above))) if right else 0.9 * (1 - 1 / (1 + math.exp(above)))
    found = m_kto(torch.tensor([ratio], dtype=torch.float64), torch.tensor([right]), torch.tensor(z0), beta, 1.3, 0.9)
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_baseline_of_kto_is_a_mean_not_below_0_and_without_gradient() -> None:
    total = torch.tensor(3.0, requires_grad=True)
    assert kl_baseline(total, 2).item() == 1.5
    assert not kl_baseline(total, 2).requires_grad
    assert kl_baseline(-total, 2).item() == 0.0


def test_weights_of_turns_are_those_that_dmpo_prints_and_those_that_it_computes() -> None:
    # Three turns of 2, 1 and 1 action tokens; γ = ½: (1 − 1/8, 1 − 1/4, 1 − 1/2) / (1 − 1/8).
    assert turn_weights([0, 0, 1, 2], 0.5, "dmpo") == pytest.approx([1, 1, 6 / 7, 4 / 7])
    assert turn_weights([0, 0, 1, 2], 0.5, "dmpo_discounted") == pytest.approx([1, 1, 3 / 7, 1 / 7])
    assert turn_weights([0, 0, 1, 2], 0.0, "dmpo_discounted") == [1, 1, 0, 0]
    assert turn_weights([0, 1], 1.0, "dmpo") == [1, 0.5]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_utility_is_the_log_ratio_plus_the_value_plus_the_surprise_of_observations(
    deterministic: bool, seed: int
) -> None:
    """The paper's equation 13 on a random MDP of two turns, whose optimal policy is computed by its equations 8 and 9.

    u(s₂, a₂) = η Σ_h log π_h/π_ref,h  +  V₁(s₁)  +  V₂(s₂) − E_o V₂(s₂)
    """
    rng = np.random.default_rng(seed)
    actions, observations, eta = 4, 3, 0.1
    first_ref = rng.dirichlet(np.ones(actions))
    chance = rng.dirichlet(np.ones(observations), size=actions)  # P(o | a₁)
    if deterministic:
        chance = np.eye(observations)[rng.integers(observations, size=actions)]
    second_ref = rng.dirichlet(np.ones(actions), size=(actions, observations))
    utility = rng.random((actions, observations, actions))

    second_value = eta * np.log((second_ref * np.exp(utility / eta)).sum(-1))
    second = second_ref * np.exp((utility - second_value[..., None]) / eta)
    first_q = (chance * second_value).sum(-1)
    first_value = eta * np.log((first_ref * np.exp(first_q / eta)).sum())
    first = first_ref * np.exp((first_q - first_value) / eta)

    log_ratios = eta * (np.log(first / first_ref)[:, None, None] + np.log(second / second_ref))
    surprise = second_value - first_q[:, None]
    assert np.abs(log_ratios + first_value + surprise[..., None] - utility)[chance > 0].max() < 1e-12
    if deterministic:
        # Then the loss of a pair needs no margin: what is left besides the log-ratio is the same on both sides.
        assert np.abs(surprise[chance > 0]).max() < 1e-12
