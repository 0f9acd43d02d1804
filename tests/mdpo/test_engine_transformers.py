"""The transformers engine keeps the contract of every engine."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from mdpo.engines.base import SamplingParams
from mdpo.engines.sampling import sample
from mdpo.engines.transformers import TransformersEngine
from mdpo.errors import CheckpointError, EngineError
from tests.mdpo import engine_contract as contract
from tests.mdpo.adapters import random_adapter

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Models = dict[Path, PreTrainedModel]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folders = [tmp_path_factory.mktemp("checkpoint") for _ in range(2)]
    return {folder: contract.tiny_llama(folder, seed) for seed, folder in enumerate(folders)}


@pytest.fixture(scope="module")
def model(models: Models) -> PreTrainedModel:
    return next(iter(models.values()))


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def engine(models: Models, run: Run) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(next(iter(models)), context_length=contract.CONTEXT_LENGTH, max_prefill_tokens=600)
    yield engine
    run(engine.close())


@pytest.mark.parametrize(
    "check",
    [
        contract.greedy_decoding_is_the_argmax,
        contract.logprobs_are_the_models_own,
        contract.a_stop_id_ends_the_action_and_belongs_to_it,
        contract.nothing_else_ends_it_before_max_tokens,
        contract.a_stop_id_at_max_tokens_is_a_stop,
        contract.a_stop_string_ends_the_action_with_the_token_that_completes_it,
        contract.a_stop_string_at_max_tokens_is_a_stop,
        contract.a_stop_string_counts_in_what_is_sampled_only,
        contract.requests_do_not_disturb_each_other,
        contract.samples_follow_the_distribution,
        contract.top_p_keeps_the_nucleus,
        contract.a_cancelled_request_leaves_the_engine_free,
    ],
)
def test_it_keeps_the_contract(
    check: Callable[..., Coroutine[Any, Any, None]], engine: TransformersEngine, model: PreTrainedModel, run: Run
) -> None:
    run(check(engine, model))


@pytest.mark.parametrize(
    "check",
    [
        contract.the_context_length_ends_an_action,
        contract.a_prompt_without_room_is_refused,
        contract.a_seed_makes_a_request_repeatable,
    ],
)
def test_it_keeps_the_contract_without_a_model_to_compare(
    check: Callable[..., Coroutine[Any, Any, None]], engine: TransformersEngine, run: Run
) -> None:
    run(check(engine))


def test_load_changes_the_model(engine: TransformersEngine, models: Models, run: Run) -> None:
    run(contract.load_changes_the_model(engine, models))


def test_load_takes_an_adapter(engine: TransformersEngine, models: Models, run: Run, tmp_path: Path) -> None:
    folder, model = next(iter(models.items()))
    merged = random_adapter(folder, tmp_path, seed=1)
    run(contract.load_changes_the_model(engine, {folder: model, tmp_path: merged}))


def test_stop_strings_need_a_tokenizer(models: Models, model: PreTrainedModel, run: Run, tmp_path: Path) -> None:
    """The one of the checkpoint that was loaded last; without stop strings none is needed."""
    folder = next(iter(models))
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))

    async def work() -> None:
        engine = TransformersEngine(bare)
        await contract.greedy_decoding_is_the_argmax(engine, model)
        with pytest.raises(CheckpointError, match=f"stop strings.*tokenizer of {bare}"):
            await contract.a_stop_string_at_max_tokens_is_a_stop(engine, model)
        await engine.load(folder)
        await contract.a_stop_string_at_max_tokens_is_a_stop(engine, model)
        await engine.close()

    run(work())


def test_more_requests_than_rows_are_all_answered(models: Models, model: PreTrainedModel, run: Run) -> None:
    async def work() -> None:
        engine = TransformersEngine(next(iter(models)), max_rows=3)
        await contract.requests_do_not_disturb_each_other(engine, model)
        await engine.close()

    run(work())


def test_a_closed_engine_says_so_and_closing_twice_is_harmless(models: Models, run: Run) -> None:
    async def work() -> None:
        engine = TransformersEngine(next(iter(models)))
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError, match="it was closed"):
            await engine.generate(contract.PROMPT, contract.GREEDY)

    run(work())


def test_a_failing_forward_pass_reaches_everyone_who_waits(models: Models, run: Run) -> None:
    async def work() -> list[BaseException]:
        engine = TransformersEngine(next(iter(models)))
        outside = [contract.VOCABULARY + 5]  # an id that the model does not have
        results = await asyncio.gather(
            *(engine.generate(outside, contract.GREEDY) for _ in range(5)), return_exceptions=True
        )
        await engine.close()
        return results  # type: ignore[return-value]

    results = run(work())
    assert all(isinstance(result, EngineError) for result in results)


@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.999999999999999999])
def test_a_token_without_probability_is_never_sampled(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 1.0, 1.0, float("-inf")]])
    tokens, _ = sample(logits, [SamplingParams()], [uniform])
    assert tokens[0] in (1, 2)
