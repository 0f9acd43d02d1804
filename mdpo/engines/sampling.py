"""Sampling one token a row from logits, repeatable whatever else is in the batch."""

from collections.abc import Sequence

import torch

from mdpo.engines.base import SamplingParams


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Sample by inverting the cumulative distribution, one uniform number a row.

    A row's token depends on its own logits and its own number only, so a seeded request gives the same tokens in any
    batch (up to floating-point differences of the forward pass).

    Args:
        logits: (rows, vocabulary).
        params: One for each row.
        uniforms: One number in [0, 1) for each row.

    Returns:
        The sampled ids, and their log-probabilities before temperature and top-p.
    """
    logits = logits.float()
    logprobs = logits.log_softmax(dim=-1)
    tokens = logits.argmax(dim=-1)
    sampled = [i for i, row in enumerate(params) if row.temperature > 0]
    if sampled:
        rows = torch.tensor(sampled, device=logits.device)
        temperature = torch.tensor([params[i].temperature for i in sampled], device=logits.device)
        top_p = torch.tensor([params[i].top_p for i in sampled], device=logits.device)
        numbers = torch.tensor([uniforms[i] for i in sampled], device=logits.device, dtype=torch.float64)
        tokens[rows] = _invert(logits[rows] / temperature[:, None], top_p, numbers)
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    return tokens.tolist(), chosen.tolist()


def _invert(logits: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The token at which the cumulative distribution of each row passes its number. All (rows, …) → (rows,)."""
    # float64: a float32 sum over a large vocabulary loses the rare tokens.
    probabilities = logits.double().softmax(dim=-1)
    if bool((top_p < 1).any()):
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(dim=-1)
    total = cumulative[:, -1]
    # Rounding may lift the product to the total, past the last token.
    target = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    # right=True skips tokens of probability zero.
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keep the smallest set of most likely tokens whose mass reaches `top_p` (Holtzman et al. 2020), unnormalised."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = torch.where(before < top_p[:, None], ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(1, index, ordered)
