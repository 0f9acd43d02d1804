"""`mdpo rollout check` without the command line around it: are the trajectories of a file on-policy for a model?"""

from collections.abc import Callable
from pathlib import Path

from rich.markup import escape

from mdpo.adapter import base_of, is_adapter
from mdpo.agreement import EXACT, OFF, Agreement, choose, measure
from mdpo.checkpoint import load_tokenizer, resolve_checkpoint
from mdpo.display import Display
from mdpo.dtypes import torch_dtype
from mdpo.errors import CheckpointError, DataError
from mdpo.trajectory import read_trajectories

# Nats; rounding alone rarely moves a token so far.
_FAR = 1.0


def check(
    path: Path, model: str | None, dtype: str, count: int, seed: int, display: Display, converted: Path
) -> dict[str, Agreement]:
    """Compare a trajectory file with the policies that it names, or with one model, and print what it came to.

    Args:
        path: The trajectory file.
        model: What all trajectories are compared with, as `mdpo.checkpoint.resolve_checkpoint` takes it, or an adapter;
            default: each with the policy that sampled it.
        dtype: The type of the weights in training, by name.
        count: How many trajectories are compared, chosen by `seed`.
        converted: Where converted GGUF files are kept.

    Returns:
        The agreement with each policy, by its name.

    Raises:
        DataError: There is no trajectory, or it has ids that the policy does not know.
        CheckpointError: A policy cannot be loaded.
    """
    chosen = choose(read_trajectories(path), count, seed)
    if not chosen:
        raise DataError(f"{path} holds no trajectory; sample some with `mdpo rollout`")
    result: dict[str, Agreement] = {}
    for policy in [model] if model is not None else sorted({t.policy for t in chosen}):
        own = [t for t in chosen if model is not None or t.policy == policy]
        checkpoint = _checkpoint(policy, converted, path if model is None else None)
        with display.task(f"Computing log-probabilities with {policy}", total=len(own)) as task:
            result[policy] = measure(own, checkpoint, torch_dtype(dtype), on_trajectories=task.advance)
        display.say(f"[bold]{escape(policy)}[/] in {dtype}")
        for line in lines(result[policy], _decoder(checkpoint)):
            display.say("  " + escape(line))
        colour = "green" if result[policy].on_policy else "red"
        display.say(f"  [{colour}]{verdict(result[policy])}[/]")
    return result


def lines(agreement: Agreement, decode: Callable[[list[int]], str] | None = None) -> list[str]:
    """What it came to, for the terminal; the worst token as text where there is a tokenizer to `decode` it."""
    worst = agreement.worst
    context = "" if decode is None else f": {decode(worst.before)!r}, then {decode([worst.token_id])!r}"
    meaning = "an estimate of KL(engine ‖ trainer)" if agreement.as_is else "not sampled at temperature 1 and top-p 1"
    return [
        f"{agreement.tokens:,} sampled tokens of {agreement.trajectories:,} trajectories; "
        f"engine − trainer, in log-probability (nats):",
        f"|difference|  mean {agreement.mean_absolute:.2g}, {100 * agreement.relative:.2g} % of the mean surprise "
        f"({agreement.surprise:.2g}); largest {agreement.largest:.2g}; "
        f"{100 * agreement.share_off:.2g} % of the tokens off by more than {OFF}",
        f"difference    mean {agreement.mean:+.1e} a token, {meaning}",
        f"weights       trainer / engine: mean {agreement.mean_weight:.4f}, "
        f"effective share {100 * agreement.effective_share:.1f} %",
        f"worst token   problem {worst.problem_id}, sample {worst.sample}, turn {worst.turn}, position "
        f"{worst.position}, id {worst.token_id}: {worst.engine:.4g} stored, {worst.trainer:.4g} here{context}",
    ]


def verdict(agreement: Agreement) -> str:
    """One sentence: are these data on-policy for this model?"""
    if not agreement.on_policy:
        return (
            "off: this model gives other log-probabilities than the sampler. Likely causes: another checkpoint, "
            "another dtype, another kernel, or log-probabilities that were taken after temperature or top-p"
        )
    how = "to the last digits" if agreement.relative <= EXACT else "up to rounding"
    said = f"these data are on-policy for this model, {how}"
    return said if agreement.largest <= _FAR else f"{said}; but not the worst token: look at its trajectory"


def _checkpoint(policy: str, converted: Path, named_by: Path | None) -> str | Path:
    """The policy as something that can be loaded; a file may name one that is no longer there."""
    if is_adapter(policy):
        return policy
    try:
        return resolve_checkpoint(policy, converted)
    except CheckpointError as error:
        if named_by is None:
            raise
        raise CheckpointError(
            f"the policy that sampled {named_by} is not here ({error}); say with --model where it is now"
        ) from error


def _decoder(checkpoint: str | Path) -> Callable[[list[int]], str] | None:
    """The text of ids, where the policy has a tokenizer; the figures do without it."""
    try:
        tokenizer = load_tokenizer(base_of(checkpoint) if is_adapter(checkpoint) else checkpoint)
    except CheckpointError:
        return None
    return lambda ids: str(tokenizer.decode(ids))
