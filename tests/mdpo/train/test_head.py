import pytest
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaForCausalLM, PreTrainedModel

from mdpo.errors import TrainingError
from mdpo.train import head
from mdpo.train.head import LogitsRule, action_logps, add_action_head, check_action_head
from mdpo.train.sequences import Tokens, pad_batch
from tests.mdpo.conftest import tiny_llama

ROWS = [Tokens([5, 7, 9, 11, 2, 4], [0, 0, 1, 1, 0, 1]), Tokens([8, 3, 1], [0, 1, 1])]


def tiny_gemma() -> Gemma2ForCausalLM:
    """Its logits are capped at 2, so that the cap matters for a random model."""
    torch.manual_seed(0)
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, final_logit_softcapping=2.0, initializer_range=0.5, sliding_window=4,
        )
    )  # fmt: skip


def plain(model: PreTrainedModel, rows: list[Tokens]) -> Tensor:
    """From the model's own logits, a row at a time."""
    found = []
    for row in rows:
        logps = model(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
        found += [logps[n - 1, row.ids[n]] for n, sampled in enumerate(row.mask) if sampled]
    return torch.stack(found)


@pytest.mark.parametrize(("chunk", "kept"), [(60, 0), (120, 0), (10**6, 0), (120, 120), (120, 10**6)])
@pytest.mark.parametrize("make", [lambda: tiny_llama(0), tiny_gemma], ids=["plain", "soft-capped"])
def test_log_probabilities_and_gradients_are_those_of_the_models_own_logits(
    make: type, chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(head.CHUNK, "cpu", chunk)
    monkeypatch.setattr(head, "KEPT", kept)
    model = make()
    upstream = torch.arange(1.0, 6.0)
    expected = plain(model, ROWS)
    (expected * upstream).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    add_action_head(model)
    found = model(**pad_batch(ROWS, 0, torch.device("cpu")))
    (found * upstream).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)


def test_a_scale_a_cap_and_a_bias_are_differentiated() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4), (5, 4), (5,)))
    inputs = [value.requires_grad_() for value in (hidden, weight, bias)]
    targets = torch.tensor([4, 0, 2])
    rule = LogitsRule(scale=0.7, cap=1.5)
    found = action_logps(*inputs, targets, rule)
    expected = (
        (1.5 * torch.tanh(0.7 * (hidden @ weight.T + bias) / 1.5)).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    one = torch.autograd.grad(found.sum(), inputs)
    other = torch.autograd.grad(expected.sum(), inputs)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_frozen_output_matrices_get_no_gradient() -> None:
    hidden, weight = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4)
    action_logps(hidden, weight, None, torch.tensor([0, 1, 2]), LogitsRule()).sum().backward()
    assert weight.grad is None
    assert hidden.grad is not None


def test_padding_changes_nothing() -> None:
    model = tiny_llama(0)
    add_action_head(model)
    alone = torch.cat([model(**pad_batch([row], 0, torch.device("cpu"))) for row in ROWS])
    wide = [*ROWS, Tokens([9] * 20, [0] * 19 + [1])]
    together = model(**pad_batch(wide, 7, torch.device("cpu")))[:-1]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_the_models_own_forward_is_as_before() -> None:
    model, ids = tiny_llama(0), torch.tensor([[1, 2, 3]])
    before = model(input_ids=ids).logits
    add_action_head(model)
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_model_with_other_logits_is_refused() -> None:
    class Odd(LlamaForCausalLM):
        def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            output = super().forward(*args, **kwargs)
            output.logits = 3 * output.logits
            return output

    model = Odd(tiny_llama(0).config)
    add_action_head(model)
    with pytest.raises(TrainingError, match="changes its logits"):
        check_action_head(model, torch.tensor([[1, 2, 3, 4]]))
