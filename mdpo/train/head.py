"""Log-probabilities of the action tokens, with the vocabulary computed at their positions only.

A model's own forward makes logits for every position: with a vocabulary of 128,000 they outweigh everything else in
memory, and those of prompts, observations and padding are in no loss. Here the hidden states of the action positions
alone meet the output matrix, a chunk at a time. The first chunks are kept for the backward pass, up to a fixed size; it
computes the others once more, so that memory does not grow with the number of tokens times the vocabulary.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from trl.trainer.utils import maybe_gather_lm_head_ctx

from mdpo.errors import TrainingError

# Logits held at once, as a number of values. A GPU wants large matrices, a CPU wants them to stay in its caches.
CHUNK = {"cpu": 2**23, "cuda": 2**26}
# Up to this many logits of a call are kept for its backward pass (128 MiB); the others are computed again.
KEPT = 2**25


@dataclass(frozen=True, slots=True)
class LogitsRule:
    """What a model does to its logits after the output matrix: cap · tanh(scale · logits / cap)."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Apply it in place."""
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits

    def backward(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient before the rule from the one after it, in place; `logits` are those after it."""
        if self.cap is not None:
            gradient.mul_(1 - (logits / self.cap).square_())
        if self.scale != 1.0:
            gradient.mul_(self.scale)
        return gradient


def logits_rule(model: PreTrainedModel) -> LogitsRule:
    """The rule of a model, from the names that transformers' configurations have for it."""
    config = model.config.get_text_config()
    scale = next(
        (
            value
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None)) is not None
        ),
        1.0,
    )
    divisor = getattr(config, "logits_scaling", None) or 1.0
    return LogitsRule(scale / divisor, getattr(config, "final_logit_softcapping", None))


class _LogProbs(torch.autograd.Function):
    """log softmax(rule(hidden · Wᵀ + b))[target] for each row of `hidden`, a chunk of rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rule: LogitsRule
    ) -> Tensor:
        rows = max(1, CHUNK.get(hidden.device.type, 2**26) // weight.shape[0])
        room = KEPT if any(ctx.needs_input_grad) else 0
        # Under autocast the hidden states are in another type than the weights; one copy serves all chunks.
        matrix = weight.to(hidden.dtype)
        offset = None if bias is None else bias.to(hidden.dtype)
        result = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        normalisers = torch.empty_like(result)
        kept = []
        for part in _parts(targets.numel(), rows):
            logits = _logits(hidden[part], matrix, offset, rule)
            normalisers[part] = logits.logsumexp(-1)
            result[part] = logits.gather(-1, targets[part, None]).squeeze(-1) - normalisers[part]
            room -= logits.numel()
            if room >= 0:
                kept.append(logits)
        ctx.save_for_backward(hidden, weight, bias, targets, normalisers, *kept)
        ctx.rule, ctx.rows = rule, rows
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normalisers, *kept = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        with maybe_gather_lm_head_ctx(weight, bias):
            grad_weight = torch.zeros_like(weight) if wants_weight else None
            grad_bias = torch.zeros_like(bias) if wants_bias else None
            matrix = weight.to(hidden.dtype)
            offset = None if bias is None else bias.to(hidden.dtype)
            for number, part in enumerate(_parts(targets.numel(), ctx.rows)):
                logits = kept[number] if number < len(kept) else _logits(hidden[part], matrix, offset, ctx.rule)
                gradient = _logits_gradient(logits, normalisers[part], targets[part], upstream[part], ctx.rule)
                gradient = gradient.to(hidden.dtype)
                if grad_hidden is not None:
                    grad_hidden[part] = gradient @ matrix
                if grad_weight is not None:
                    _add_product(grad_weight, gradient.T, hidden[part])
                if grad_bias is not None:
                    grad_bias += gradient.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None


def action_logps(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rule: LogitsRule) -> Tensor:
    """(tokens,) float32 log-probabilities of `targets` (tokens,) after the hidden states (tokens, width)."""
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    with torch.autocast(hidden.device.type, enabled=False):
        logps: Tensor = _LogProbs.apply(hidden, weight, bias, targets, rule)  # type: ignore[no-untyped-call]
    return logps


def add_action_head(model: PreTrainedModel) -> None:
    """Give a model's forward the argument `action_mask`; with it, it returns log-probabilities instead of logits.

    `model(input_ids=ids, action_mask=mask)`, both (rows, tokens) and padded on the right, returns the log-probabilities
    of the tokens where the mask is 1 as one flat tensor, row after row. It is the forward of the model itself, so that
    whatever wraps the model (data parallelism, sharding, adapters) sees an ordinary call.
    """
    original = model.forward
    rule = logits_rule(model)

    def forward(self: PreTrainedModel, *args: Any, action_mask: Tensor | None = None, **kwargs: Any) -> Any:
        if action_mask is None:
            return original(*args, **kwargs)
        # Rows are padded on the right, where nothing real looks, so causal attention needs no mask for it. The backbone
        # is looked up at each call, since what wraps a model may replace it.
        hidden = self.base_model(input_ids=kwargs["input_ids"], use_cache=False).last_hidden_state
        # The hidden state before a token predicts it.
        predicts = action_mask[:, 1:].bool()
        targets = kwargs["input_ids"][:, 1:][predicts]
        head = self.get_output_embeddings()
        weight, bias = _whole(head.weight), None if head.bias is None else _whole(head.bias)
        with maybe_gather_lm_head_ctx(weight, bias):
            return action_logps(hidden[:, :-1][predicts], weight, bias, targets, rule)

    model.forward = types.MethodType(forward, model)


@torch.no_grad()
def check_action_head(model: torch.nn.Module, input_ids: Tensor) -> None:
    """Compare the action head with the model's own logits on a row of ids (1, tokens).

    Raises:
        TrainingError: They differ: the model treats its logits in a way that is not known here.
    """
    # Without dropout, which would make the two differ, and whose random numbers a training that resumes would miss.
    training = model.training
    model.eval()
    ours = model(input_ids=input_ids, action_mask=torch.ones_like(input_ids))
    logits = model(input_ids=input_ids, use_cache=False).logits[0, :-1].float()
    model.train(training)
    own = logits.log_softmax(-1).gather(-1, input_ids[0, 1:, None]).squeeze(-1)
    worst = float((ours - own).abs().max())
    if worst > 0.05 * (1 + float(own.abs().max())):
        raise TrainingError(
            f"the model's own log-probabilities differ by {worst:.3g} from hidden states times its output matrix: it "
            "changes its logits in a way that mdpo.train.head.logits_rule does not know; please report the model"
        )


def _parts(count: int, rows: int) -> Iterator[slice]:
    return (slice(start, start + rows) for start in range(0, count, rows))


def _logits(hidden: Tensor, matrix: Tensor, offset: Tensor | None, rule: LogitsRule) -> Tensor:
    return rule(torch.nn.functional.linear(hidden, matrix, offset).float())


def _logits_gradient(
    logits: Tensor, normalisers: Tensor, targets: Tensor, upstream: Tensor, rule: LogitsRule
) -> Tensor:
    """∂(Σ upstream · log p)/∂ raw logits = upstream · (one-hot(target) − softmax), through the rule."""
    after = logits.clone() if rule.cap is not None else logits
    gradient = logits.sub_(normalisers[:, None]).exp_().mul_(-upstream[:, None])
    gradient.scatter_add_(-1, targets[:, None], upstream[:, None].float())
    return rule.backward(gradient, after)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _whole(parameter: Tensor) -> Tensor:
    """A parameter that is sharded outside the module that holds it, gathered."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
