"""φ(τ): one vector a trajectory, from a policy's last hidden state; what `mdpo.exploration` compares.

The mean over the sampled tokens of the last layer's output at that token, in float32. Observations and prompt are read,
as the policy read them, but have no part in the mean: they are not what the policy did.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mdpo.adapter import load_policy
from mdpo.agreement import batches, check_ids, sampled_positions, token_count
from mdpo.trajectory import Trajectory


def embed(
    trajectories: Sequence[Trajectory],
    policy: str | Path,
    dtype: torch.dtype,
    *,
    dimension: int | None = None,
    max_tokens: int = 8192,
    device: str | None = None,
    on_trajectories: Callable[[int], None] = lambda _: None,
) -> dict[tuple[str, int], NDArray[np.float32]]:
    """The features of trajectories, by their keys; a batch's hidden states are gone before the next one's are made.

    Args:
        trajectories: At least one, each with a sampled token; their order does not matter.
        policy: A folder (an adapter's, too) or a hub id.
        dtype: The type of the weights.
        dimension: Where the hidden state is larger, a fixed random projection brings it down to so many numbers.
        max_tokens: Largest padded batch, in tokens. A longer trajectory is a batch of its own.
        device: A torch device; default: CUDA where there is one, else the CPU.
        on_trajectories: Told how many more are done.

    Raises:
        CheckpointError: The policy cannot be loaded.
        DataError: There is no sampled token, or an id that the policy's vocabulary does not have.
    """
    model = load_policy(policy, dtype).to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    check_ids(trajectories, int(model.get_input_embeddings().num_embeddings), str(policy))
    # By key where lengths are equal: the same batches, and so the same rounding, whatever the order.
    ordered = sorted(trajectories, key=lambda t: (token_count(t), t.key))
    found: dict[tuple[str, int], NDArray[np.float32]] = {}
    matrix: torch.Tensor | None = None
    for batch in batches(ordered, max_tokens):
        vectors = mean_hidden(model, batch)
        if dimension is not None and vectors.shape[1] > dimension:
            matrix = projection(vectors.shape[1], dimension) if matrix is None else matrix
            vectors = vectors @ matrix
        found.update(zip((t.key for t in batch), vectors.numpy(), strict=True))
        on_trajectories(len(batch))
    return found


@torch.inference_mode()
def mean_hidden(model: PreTrainedModel, trajectories: Sequence[Trajectory]) -> torch.Tensor:
    """Mean last hidden state over the sampled tokens, (trajectories, hidden), float32, on the CPU; one forward pass."""
    device = model.get_input_embeddings().weight.device
    sequences = [torch.tensor(t.prompt_ids + t.completion_ids, device=device) for t in trajectories]
    hidden = model.base_model(
        input_ids=pad_sequence(sequences, batch_first=True),
        attention_mask=pad_sequence([torch.ones_like(ids) for ids in sequences], batch_first=True),
        use_cache=False,
    ).last_hidden_state  # (trajectories, longest, hidden)
    own = (sampled_positions(trajectory).to(device) for trajectory in trajectories)
    return torch.stack([row[at].float().mean(dim=0) for row, at in zip(hidden, own, strict=True)]).cpu()


def projection(hidden: int, dimension: int) -> torch.Tensor:
    """A Gaussian matrix, (hidden, dimension), always the same: it keeps distances up to a factor near 1.

    The lemma of Johnson and Lindenstrauss: |1 − factor| is about √(8 · log(trajectories) / dimension) at most.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randn(hidden, dimension, generator=generator).div(dimension**0.5)
