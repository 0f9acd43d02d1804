"""Do the engine that sampled trajectories and the model that trains on them agree about every sampled token?

A trajectory keeps log π_engine(token) as the sampler saw it, before temperature and top-p. Here log π_trainer(token) is
computed anew, with the model class and the type of weights that training uses. Their difference over the n sampled
tokens (and no others: prompts and observations are written by others) says whether the data are on-policy:

    d = log π_engine − log π_trainer        mean of d over tokens sampled from π_engine ≈ KL(π_engine ‖ π_trainer)
    w = exp(−d) = π_trainer / π_engine      importance weight; effective share = (Σ w)² / (n Σ w²), 1 where all agree
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mdpo.adapter import load_policy
from mdpo.errors import DataError
from mdpo.trajectory import Trajectory

# A token whose log-probabilities differ by more than this counts as off.
OFF = 0.1
# What the mean of |d| comes to, as a share of the surprise, when the same weights sampled and are trained: below EXACT
# in float32 on both sides, below ROUNDING where one of them is in bfloat16. Measured: docs/agreement.md.
EXACT, ROUNDING = 1e-3, 0.05
# Nats; keeps the share finite for a policy that is certain of everything.
_LEAST_SURPRISE = 1e-3
_CONTEXT = 24  # tokens shown before the worst one


@dataclass(frozen=True, slots=True)
class WorstToken:
    """The sampled token with the largest difference, and where it stands.

    Attributes:
        problem_id, sample, turn: The trajectory, and the number of the turn in it, from 0.
        position: Of the token in the action, from 0.
        token_id: The token.
        before: The ids before it, the last ones.
        engine, trainer: Its log-probabilities (nats).
    """

    problem_id: str
    sample: int
    turn: int
    position: int
    token_id: int
    before: list[int]
    engine: float
    trainer: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the differences d = log π_engine − log π_trainer of sampled tokens come to.

    Attributes:
        trajectories, tokens: How many; only sampled tokens are counted.
        mean_absolute: Mean of |d|.
        largest: Largest |d|.
        share_off: Share of tokens with |d| above `OFF`.
        mean: Mean of d: an estimate of KL(π_engine ‖ π_trainer) a token, in nats, if `as_is`.
        mean_weight: Mean of w = exp(−d); 1 in expectation if `as_is`.
        effective_share: (Σ w)² / (n Σ w²), the share of the tokens that count when they are weighted.
        as_is: Whether all was sampled at temperature 1 and top-p 1, from π_engine itself.
        surprise: Mean of −log π_trainer, in nats a token: how far from certain the policy is.
        worst: The token with the largest |d|.
    """

    trajectories: int
    tokens: int
    mean_absolute: float
    largest: float
    share_off: float
    mean: float
    mean_weight: float
    effective_share: float
    as_is: bool
    surprise: float
    worst: WorstToken

    @property
    def relative(self) -> float:
        """Mean of |d| as a share of the surprise: a policy that is certain of its tokens differs little about them."""
        return self.mean_absolute / max(self.surprise, _LEAST_SURPRISE)

    @property
    def on_policy(self) -> bool:
        """Whether the differences are no larger than those of rounding; not so where one is no number."""
        return self.relative <= ROUNDING


def choose(trajectories: Iterable[Trajectory], count: int, seed: int) -> list[Trajectory]:
    """A random sample without replacement; the same one for a seed, whatever the order, and little memory."""
    return heapq.nsmallest(
        count, trajectories, key=lambda t: (random.Random(f"{seed} {t.problem_id} {t.sample}").random(), t.key)
    )


def measure(
    trajectories: Sequence[Trajectory],
    policy: str | Path,
    dtype: torch.dtype,
    *,
    device: str | None = None,
    max_tokens: int = 4096,
    on_trajectories: Callable[[int], None] = lambda _: None,
) -> Agreement:
    """Compare the stored log-probabilities of trajectories with those of a policy as it is trained.

    Args:
        trajectories: At least one with a sampled token; those without play no part.
        policy: A folder (an adapter's, too) or a hub id.
        dtype: The type of the weights in training.
        device: A torch device; default: CUDA where there is one, else the CPU.
        max_tokens: Largest padded batch, in tokens. A longer trajectory is a batch of its own.
        on_trajectories: Told how many more are done.

    Raises:
        CheckpointError: The policy cannot be loaded.
        DataError: There is no sampled token, or an id that the policy's vocabulary does not have.
    """
    model = load_policy(policy, dtype).to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    # A prompt that left no room for an action made a trajectory without a turn.
    trajectories = [trajectory for trajectory in trajectories if 1 in trajectory.completion_mask]
    check_ids(trajectories, int(model.get_input_embeddings().num_embeddings), str(policy))
    by_length = sorted(trajectories, key=token_count)
    trainer: list[torch.Tensor] = []
    for batch in batches(by_length, max_tokens):
        trainer += logprobs(model, batch)
        on_trajectories(len(batch))
    engine = [logprob for trajectory in by_length for turn in trajectory.turns for logprob in turn.action_logprobs]
    # float64: sums over a million tokens.
    return _summary(by_length, torch.tensor(engine, dtype=torch.float64), torch.cat(trainer).double())


@torch.inference_mode()
def logprobs(model: PreTrainedModel, trajectories: Sequence[Trajectory]) -> list[torch.Tensor]:
    """The log-probabilities of the sampled tokens of each trajectory, (tokens,) each, from one forward pass.

    They are before temperature and top-p, in float32, and in the order of the actions.
    """
    device = model.get_input_embeddings().weight.device
    sequences = [torch.tensor(t.prompt_ids + t.completion_ids, device=device) for t in trajectories]
    # The logits at a position are those of the token after it.
    positions = [sampled_positions(t).to(device) - 1 for t in trajectories]
    needed = torch.unique(torch.cat(positions))
    logits = model(
        input_ids=pad_sequence(sequences, batch_first=True),
        attention_mask=pad_sequence([torch.ones_like(ids) for ids in sequences], batch_first=True),
        logits_to_keep=needed,
        use_cache=False,
    ).logits  # (trajectories, needed, vocabulary)
    found = []
    for row, ids, own in zip(logits, sequences, positions, strict=True):
        distribution = row[torch.searchsorted(needed, own)].float().log_softmax(dim=-1)  # (tokens, vocabulary)
        found.append(distribution.gather(1, ids[own + 1][:, None])[:, 0].cpu())
    return found


def sampled_positions(trajectory: Trajectory) -> torch.Tensor:
    """Where the sampled tokens stand in prompt and completion."""
    return len(trajectory.prompt_ids) + torch.tensor(trajectory.completion_mask).nonzero()[:, 0]


def token_count(trajectory: Trajectory) -> int:
    """Its length, the prompt included."""
    return len(trajectory.prompt_ids) + len(trajectory.completion_mask)


def batches(by_length: Sequence[Trajectory], max_tokens: int) -> Iterator[list[Trajectory]]:
    """Neighbours in length together, as many as fit when they are padded."""
    batch: list[Trajectory] = []
    for trajectory in by_length:
        if batch and token_count(trajectory) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(trajectory)
    yield batch


def check_ids(trajectories: Sequence[Trajectory], vocabulary: int, policy: str) -> None:
    """Refuse what a model with so many rows in its embedding would fail on without saying why.

    Raises:
        DataError: There is no trajectory, or one has no prompt or an id that the model does not have.
    """
    if not trajectories:
        raise DataError("there is no sampled token to look at; sample trajectories first, with `mdpo rollout`")
    for trajectory in trajectories:
        name = f"problem {trajectory.problem_id}, sample {trajectory.sample}"
        if not trajectory.prompt_ids:
            raise DataError(f"{name} has no prompt; it cannot have come from a rollout, so check its file")
        highest = max(trajectory.prompt_ids + trajectory.completion_ids)
        if highest >= vocabulary:
            raise DataError(
                f"{name} has the token id {highest}, and {policy} knows only {vocabulary} tokens: it was sampled by a "
                "model with another tokenizer; name that model, or sample anew with this one"
            )


def _summary(trajectories: Sequence[Trajectory], engine: torch.Tensor, trainer: torch.Tensor) -> Agreement:
    difference = engine - trainer
    weight = (-difference).exp()
    worst = int(difference.abs().argmax())
    return Agreement(
        trajectories=len(trajectories),
        tokens=len(difference),
        mean_absolute=float(difference.abs().mean()),
        largest=float(difference.abs().max()),
        share_off=float((difference.abs() > OFF).double().mean()),
        mean=float(difference.mean()),
        mean_weight=float(weight.mean()),
        effective_share=float(weight.sum() ** 2 / (len(weight) * (weight**2).sum())),
        as_is=all((t.sampling.get("temperature"), t.sampling.get("top_p")) == (1.0, 1.0) for t in trajectories),
        surprise=-float(trainer.mean()),
        worst=_locate(trajectories, worst, float(engine[worst]), float(trainer[worst])),
    )


def _locate(trajectories: Sequence[Trajectory], index: int, engine: float, trainer: float) -> WorstToken:
    """The sampled token with this number, counted over all trajectories."""
    places = ((t, turn, i) for t in trajectories for turn in range(len(t.turns)) for i in range(_sampled(t, turn)))
    trajectory, turn, position = next(islice(places, index, None))
    before = trajectory.prompt_ids + [i for t in trajectory.turns[:turn] for i in (*t.action_ids, *t.observation_ids)]
    action = trajectory.turns[turn].action_ids
    return WorstToken(
        problem_id=trajectory.problem_id,
        sample=trajectory.sample,
        turn=turn,
        position=position,
        token_id=action[position],
        before=(before + action[:position])[-_CONTEXT:],
        engine=engine,
        trainer=trainer,
    )


def _sampled(trajectory: Trajectory, turn: int) -> int:
    return len(trajectory.turns[turn].action_ids)
