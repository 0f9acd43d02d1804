"""What every engine keeps. Each check takes an engine and the same model in float32, which is the truth.

The checks are coroutines: an engine belongs to one event loop, so the test module runs them in its own.
"""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from mdpo.engines.base import Completion, Engine, SamplingParams

Models = dict[Path, PreTrainedModel]

VOCABULARY = 64
# `tiny_llama` is built for a few more, so that the engine's own limit is the one that is tested.
CONTEXT_LENGTH = 192
PROMPT = [5, 17, 42, 8]
# vLLM's prefix cache keeps whole blocks, of 128 tokens on a CPU.
LONG_PROMPT = [(7 * i) % VOCABULARY for i in range(140)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


def tiny_llama(folder: Path, seed: int) -> LlamaForCausalLM:
    """Save a random Llama with a clear favourite at each step, and return it.

    Its end-of-sequence id is one that greedy decoding soon reaches, and its generation settings would change every
    sample: an engine that uses either by itself is found out.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # vLLM's CPU attention has no heads smaller than 32.
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    model.config.eos_token_id = greedy(model, PROMPT, 3)[-1]
    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id, do_sample=True, temperature=0.1, top_k=2, repetition_penalty=2.0
    )
    model.save_pretrained(folder)
    tokenizer_of(model).save_pretrained(folder)
    return model


def tokenizer_of(model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """Every token is two letters of its own; but two that greedy decoding samples in a row share the bytes of "→"."""
    vocabulary = [chr(ord("a") + token // 8) + chr(ord("A") + token % 8) for token in range(VOCABULARY)]
    _, first, second = arrow(model)
    # E2 86 92 is "→"; the byte-level alphabet of GPT-2 writes these three bytes as â, Ĩ and Ĵ.
    vocabulary[first], vocabulary[second] = "xâ", "ĨĴy"
    tokenizer = Tokenizer(BPE({text: token for token, text in enumerate(vocabulary)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def arrow(model: PreTrainedModel) -> tuple[int, int, int]:
    """Where greedy decoding samples the two tokens that share "→", and which they are; neither is sampled again."""
    whole = greedy(model, PROMPT, GREEDY.max_tokens)
    at = next(i for i in range(4, 20) if whole.count(whole[i]) == whole.count(whole[i + 1]) == 1)
    return at, whole[at], whole[at + 1]


@torch.inference_mode()
def all_logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """The logits after each of `ids`: (len(ids), vocabulary)."""
    return model(torch.tensor([ids])).logits[0].float()


def greedy(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """`count` tokens, each the argmax of one full forward pass."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(all_logits(model, ids)[-1].argmax()))
    return ids[len(prompt) :]


def step_logits(model: PreTrainedModel, prompt: list[int], completion: Completion) -> torch.Tensor:
    """The logits that each token of the completion was sampled from: (tokens, vocabulary)."""
    return all_logits(model, prompt + completion.token_ids)[len(prompt) - 1 : -1]


def assert_argmax(model: PreTrainedModel, prompt: list[int], completion: Completion) -> None:
    """Each token is the most likely one; of two that are equally likely, either will do."""
    logits = step_logits(model, prompt, completion)
    chosen = logits.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(chosen, logits.max(dim=1).values, atol=1e-3, rtol=0)


async def greedy_decoding_is_the_argmax(engine: Engine, model: PreTrainedModel) -> None:
    for prompt in (PROMPT, LONG_PROMPT, [3]):
        assert_argmax(model, prompt, await engine.generate(prompt, GREEDY))


async def logprobs_are_the_models_own(engine: Engine, model: PreTrainedModel) -> None:
    """They are those before temperature and top-p, whatever these are."""
    for params in (GREEDY, SamplingParams(temperature=0.7, top_p=0.8, max_tokens=40), SamplingParams(max_tokens=40)):
        completion = await engine.generate(PROMPT, params)
        expected = step_logits(model, PROMPT, completion).log_softmax(dim=1)
        expected = expected.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-3, rtol=0)


async def a_stop_id_ends_the_action_and_belongs_to_it(engine: Engine, model: PreTrainedModel) -> None:
    whole = greedy(model, PROMPT, 24)
    stop = whole[10]
    params = SamplingParams(temperature=0.0, max_tokens=24, stop_token_ids=(stop, VOCABULARY - 1))
    completion = await engine.generate(PROMPT, params)
    assert completion.token_ids == whole[: whole.index(stop) + 1]
    assert completion.finish_reason == "stop"
    assert len(completion.logprobs) == len(completion.token_ids)


async def nothing_else_ends_it_before_max_tokens(engine: Engine, model: PreTrainedModel) -> None:
    """Not even the end-of-sequence id of the checkpoint, where the request does not name it."""
    completion = await engine.generate(PROMPT, GREEDY)
    assert model.config.eos_token_id in completion.token_ids[:-1]
    assert len(completion.token_ids) == len(completion.logprobs) == GREEDY.max_tokens
    assert completion.finish_reason == "length"


async def a_stop_id_at_max_tokens_is_a_stop(engine: Engine, model: PreTrainedModel) -> None:
    first = greedy(model, PROMPT, 1)[0]
    completion = await engine.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=1, stop_token_ids=(first,)))
    assert (completion.token_ids, completion.finish_reason) == ([first], "stop")


async def a_stop_string_ends_the_action_with_the_token_that_completes_it(
    engine: Engine, model: PreTrainedModel
) -> None:
    """One that begins and ends inside of tokens, and a character that two tokens share; others in flight go on."""
    whole, tokenizer, (at, _, _) = greedy(model, PROMPT, 24), tokenizer_of(model), arrow(model)
    around = tokenizer.decode(whole[: at + 4])[1:-1]
    cases = [(("never", "→"), at + 2), (("never", around), at + 4), (("never",), 24), ((), 24)]
    requests = [replace(GREEDY, stop_strings=strings) for strings, _ in cases]
    completions = await asyncio.gather(*(engine.generate(PROMPT, request) for request in requests))
    for completion, (strings, length) in zip(completions, cases, strict=True):
        assert (strings, completion.token_ids) == (strings, whole[:length])
        assert completion.finish_reason == ("length" if length == 24 else "stop")
        expected = step_logits(model, PROMPT, completion).log_softmax(dim=1)
        expected = expected.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-3, rtol=0)


async def a_stop_string_at_max_tokens_is_a_stop(engine: Engine, model: PreTrainedModel) -> None:
    at, _, _ = arrow(model)
    completion = await engine.generate(PROMPT, replace(GREEDY, max_tokens=at + 2, stop_strings=("→",)))
    assert (len(completion.token_ids), completion.finish_reason) == (at + 2, "stop")


async def a_stop_string_counts_in_what_is_sampled_only(engine: Engine, model: PreTrainedModel) -> None:
    """Not in the prompt, and not from its last tokens on."""
    whole = greedy(model, PROMPT, 24)
    letters = tokenizer_of(model).decode(whole[:3])[1:-1]
    for length in (2, 3):
        request = replace(GREEDY, max_tokens=24 - length, stop_strings=(letters,))
        completion = await engine.generate(PROMPT + whole[:length], request)
        assert (completion.token_ids, completion.finish_reason) == (whole[length:], "length")


async def the_context_length_ends_an_action(engine: Engine) -> None:
    prompt = (LONG_PROMPT * 2)[: engine.context_length - 5]
    completion = await engine.generate(prompt, SamplingParams(max_tokens=50))
    assert (len(completion.token_ids), completion.finish_reason) == (5, "length")


async def a_prompt_without_room_is_refused(engine: Engine) -> None:
    prompt = (LONG_PROMPT * 2)[: engine.context_length]
    with pytest.raises(ValueError, match=rf"{len(prompt)}.*{engine.context_length}"):
        await engine.generate(prompt, GREEDY)


async def requests_do_not_disturb_each_other(engine: Engine, model: PreTrainedModel) -> None:
    """Together and of different lengths they give what each gives alone."""
    prompts = [LONG_PROMPT[start : start + length] for start, length in enumerate((1, 2, 3, 5, 8, 13, 21, 34, 55, 89))]
    params = [SamplingParams(temperature=0.0, max_tokens=4 + 3 * i) for i in range(len(prompts))]
    together = await asyncio.gather(*map(engine.generate, prompts, params))
    for prompt, request, completion in zip(prompts, params, together, strict=True):
        assert len(completion.token_ids) == request.max_tokens
        assert_argmax(model, prompt, completion)


async def a_seed_makes_a_request_repeatable(engine: Engine) -> None:
    """Alone as among others, even where the prompts are together too long for one step of the engine."""
    prompts = [LONG_PROMPT[i:] + LONG_PROMPT[:i] for i in range(24)]
    params = [SamplingParams(seed=i, max_tokens=8) for i in range(24)]
    together = await asyncio.gather(*map(engine.generate, prompts, params))
    alone = [await engine.generate(prompt, request) for prompt, request in zip(prompts[:4], params[:4], strict=True)]
    assert [c.token_ids for c in alone] == [c.token_ids for c in together[:4]]
    assert len({tuple(c.token_ids) for c in together}) == len(together)


async def first_tokens(engine: Engine, params: SamplingParams, count: int) -> Counter[int]:
    completions = await asyncio.gather(*(engine.generate(PROMPT, params) for _ in range(count)))
    return Counter(completion.token_ids[0] for completion in completions)


async def samples_follow_the_distribution(engine: Engine, model: PreTrainedModel) -> None:
    """Pearson's χ² between the first tokens of many samples and softmax(logits / temperature)."""
    count, temperature = 2000, 1.5
    seen = await first_tokens(engine, SamplingParams(temperature=temperature, max_tokens=1), count)
    expected = (count * (all_logits(model, PROMPT)[-1] / temperature).softmax(dim=0)).tolist()
    common = [token for token in range(VOCABULARY) if expected[token] >= 5]
    cells = [(seen[token], expected[token]) for token in common]
    cells.append((count - sum(n for n, _ in cells), count - sum(e for _, e in cells)))
    assert len(cells) > 10
    assert chi_square_z(cells) < 4


def chi_square_z(cells: list[tuple[int, float]]) -> float:
    """How many standard deviations χ² lies above its mean, by the cube-root approximation (Wilson & Hilferty 1931)."""
    freedom = len(cells) - 1
    chi_square = sum((seen - expected) ** 2 / expected for seen, expected in cells)
    spread = 2 / (9 * freedom)
    return ((chi_square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


async def top_p_keeps_the_nucleus(engine: Engine, model: PreTrainedModel) -> None:
    """All samples lie in the smallest set of likely tokens whose mass reaches top_p, and all of the set is sampled."""
    probability, order = all_logits(model, PROMPT)[-1].softmax(dim=0).sort(descending=True)
    nucleus = order[: int((probability.cumsum(dim=0) < 0.5).sum()) + 1].tolist()
    seen = await first_tokens(engine, SamplingParams(top_p=0.5, max_tokens=1), 300)
    assert set(seen) == set(nucleus)


async def a_cancelled_request_leaves_the_engine_free(engine: Engine, model: PreTrainedModel) -> None:
    task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=CONTEXT_LENGTH)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_argmax(model, PROMPT, await engine.generate(PROMPT, GREEDY))


async def load_changes_the_model(engine: Engine, models: Models, times: int = 1) -> None:
    """Each of several checkpoints in turn, the first one last; nothing of the one before remains in a cache.

    An engine with several copies of the model is asked several `times`, so that every copy answers.
    """
    for folder, model in [*reversed(models.items())]:
        await engine.load(folder)
        for prompt in (PROMPT, LONG_PROMPT):
            for completion in await asyncio.gather(*(engine.generate(prompt, GREEDY) for _ in range(times))):
                assert_argmax(model, prompt, completion)
