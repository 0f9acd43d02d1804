"""The losses of the paper and of its neighbours, as functions of log-probabilities.

Symbols: π_θ the policy, π_ref the reference, a_h the action of turn h, s_h what the policy saw before it, β the KL
coefficient (η in the paper). Log-probabilities are in nats, one for each action token; the tokens that the environment
wrote are not among them, so no function here needs a mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mdpo.train.stage import TurnWeights


def log_ratio(policy: Tensor, reference: Tensor, weights: Tensor | None = None) -> Tensor:
    """ρ = Σ_h w_h log[π_θ(a_h|s_h) / π_ref(a_h|s_h)], the sum of a trajectory's token-wise differences.

    The two sums are thousands of nats and their difference may be a tenth of one: in float32 the difference of sums can
    have the wrong sign. So the difference is taken token by token, and the sum is in float64.

    Args:
        policy, reference: (tokens,) log-probabilities of the same action tokens.
        weights: (tokens,) w of the turn that each token belongs to; 1 everywhere where it is left out.

    Returns:
        A float64 scalar.
    """
    difference = policy.double() - reference.double()
    return (difference if weights is None else difference * weights).sum()


def m_dpo(
    chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0, margin: Tensor | float = 0.0
) -> Tensor:
    """−(1−ε) log σ(u) − ε log σ(−u) with u = β(ρ^w − ρ^l) + C^w − C^l (Xiong et al. 2025, equation 14).

    Args:
        chosen, rejected: (pairs,) ρ of both sides.
        beta: β.
        label_smoothing: ε, the share of pairs whose preference is taken to be wrong (conservative DPO).
        margin: (pairs,) C^w − C^l of the paper's equation 13; 0 where observations are a function of the history.

    Returns:
        (pairs,) losses.
    """
    u = beta * (chosen - rejected) + margin
    return -(1 - label_smoothing) * logsigmoid(u) - label_smoothing * logsigmoid(-u)


def m_kto(
    ratio: Tensor,
    desirable: Tensor,
    z0: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """λ₊(1 − σ(β(ρ − z₀))) if desirable, λ₋(1 − σ(β(z₀ − ρ))) if not (Xiong et al. 2025, equation 15).

    The paper prints η twice, inside u_θ and outside the parenthesis; its code and KTO itself (Ethayarajh et al. 2024)
    have it once, as here.

    Args:
        ratio: (examples,) ρ.
        desirable: (examples,) whether the trajectory is a right one.
        z0: The baseline of `kl_baseline`.
        beta: β.
        desirable_weight, undesirable_weight: λ₊ and λ₋.

    Returns:
        (examples,) losses.
    """
    sign = torch.where(desirable, 1.0, -1.0)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * (1 - torch.sigmoid(beta * sign * (ratio - z0)))


def kl_baseline(total: Tensor, count: int) -> Tensor:
    """z₀ = max(0, mean ρ') over trajectories set behind the prompts of other problems; it has no gradient.

    The paper's z₀ is an expectation over π_θ; its code, like KTO's, estimates it with mismatched completions, which
    cost no sampling.

    Args:
        total: Σ ρ' over the mismatched trajectories of the whole optimizer step.
        count: How many they are.
    """
    return (total.detach() / count).clamp(min=0)


def turn_weights(turns: Sequence[int], gamma: float, form: TurnWeights) -> list[float]:
    """DMPO's weight of each action token (Shi et al. 2024): early turns count more.

        dmpo             φ(t, T) = (1 − γ^(T−t)) / (1 − γ^T)        as their paper prints it
        dmpo_discounted  γ^t φ(t, T)                                as their code computes it

    Args:
        turns: The number t, from 0, of the turn that each action token belongs to; T is the number of turns.
        gamma: γ in [0, 1]; 0 leaves only the first turn, 1 gives φ = (T − t) / T, the limit.
        form: Which of the two.
    """
    count = turns[-1] + 1
    phi = [(1 - gamma ** (count - t)) / (1 - gamma**count) if gamma < 1 else (count - t) / count for t in range(count)]
    if form == "dmpo_discounted":
        phi = [gamma**t * value for t, value in enumerate(phi)]
    return [phi[t] for t in turns]
