"""The server engine keeps the contract of every engine."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from mdpo.engines.base import SamplingParams
from mdpo.engines.server import ServerEngine
from mdpo.errors import CheckpointError, EngineError
from tests.mdpo import engine_contract as contract
from tests.mdpo.engine_contract import CONTEXT_LENGTH, GREEDY, LONG_PROMPT, PROMPT
from tests.mdpo.stand_in_server import StandIn, served, slow, stand_ins, until

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Models = dict[Path, PreTrainedModel]
ONE = SamplingParams(temperature=0.0, max_tokens=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folders = [tmp_path_factory.mktemp("checkpoint") for _ in range(2)]
    return {folder: contract.tiny_llama(folder, seed) for seed, folder in enumerate(folders)}


@pytest.fixture(scope="module")
def folder(models: Models) -> Path:
    return next(iter(models))


@pytest.fixture(scope="module")
def model(models: Models) -> PreTrainedModel:
    return next(iter(models.values()))


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def engine(folder: Path, run: Run) -> Iterator[ServerEngine]:
    stand_in = StandIn(folder, asyncio.Lock())
    run(stand_in.start())
    engine = run(ServerEngine.connect([stand_in.url]))
    yield engine
    run(engine.close())
    run(stand_in.close())


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
    check: Callable[..., Coroutine[Any, Any, None]], engine: ServerEngine, model: PreTrainedModel, run: Run
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
    check: Callable[..., Coroutine[Any, Any, None]], engine: ServerEngine, run: Run
) -> None:
    run(check(engine))


def test_load_changes_the_model_on_every_server(models: Models, folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, count=2) as (engine, servers):
            await contract.load_changes_the_model(engine, models)
            assert servers[0].loads == servers[1].loads == [str(path) for path in [*reversed(models)]]

    run(work())


@pytest.mark.parametrize("params", [SamplingParams(temperature=0.001), SamplingParams(top_p=0.0)])
def test_a_wrong_request_is_a_value_error_at_once(engine: ServerEngine, run: Run, params: SamplingParams) -> None:
    with pytest.raises(ValueError, match=r"0\.001|top_p"):
        run(engine.generate(PROMPT, params))


def test_generation_settings_of_the_checkpoint_are_overruled(folder: Path, run: Run) -> None:
    async def work() -> dict[str, Any]:
        async with served(folder) as (engine, (stand_in,)):
            await engine.generate(PROMPT, SamplingParams(max_tokens=2, stop_strings=("``",), seed=3))
            return stand_in.requests[0][1]

    body = run(work())
    neutral = {"top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    wanted = {"ignore_eos": True, "stop": ["``"], "include_stop_str_in_output": True, "seed": 3, "max_tokens": 2}
    assert body.items() >= (neutral | wanted).items()


def test_no_more_are_in_flight_than_allowed(folder: Path, run: Run) -> None:
    async def work() -> list[int]:
        async with served(folder, count=2, max_concurrency=3) as (engine, servers):
            for stand_in in servers:
                stand_in.troubles.extend([slow(0.02)] * 10)
            await asyncio.gather(*(engine.generate([i, 1], ONE) for i in range(20)))
            return [stand_in.most_in_flight for stand_in in servers]

    assert run(work()) == [3, 3]


def test_a_trajectory_stays_with_its_server(folder: Path, run: Run) -> None:
    """Each grows turn by turn; all begin with the same instructions, which say nothing about where they belong."""

    async def work() -> None:
        async with served(folder, count=3) as (engine, servers):
            questions = [[*LONG_PROMPT[:20], *range(i, i + 40)] for i in range(10)]
            for turn in range(3):
                for question in questions:
                    await engine.generate(question + [7] * 10 * turn, ONE)
            homes = [
                {i for i, s in enumerate(servers) for _, body in s.requests if body["prompt"][:60] == question}
                for question in questions[1:]
            ]
            assert all(len(home) == 1 for home in homes)
            assert len(set.union(*homes)) > 1

    run(work())


def test_many_attempts_at_one_problem_are_spread_over_the_servers(folder: Path, run: Run) -> None:
    async def work() -> list[int]:
        async with served(folder, count=2) as (engine, servers):
            for stand_in in servers:
                stand_in.troubles.extend([slow(0.05)] * 40)
            await asyncio.gather(*(engine.generate(PROMPT, ONE) for _ in range(40)))
            return [len(stand_in.requests) for stand_in in servers]

    assert min(run(work())) >= 15


@pytest.mark.parametrize("urls", [[], ["localhost:8000"], ["http://a/v1", "http://a"]])
def test_addresses_that_cannot_be_meant_are_refused(urls: list[str], run: Run) -> None:
    with pytest.raises(EngineError, match=r"at least one|http://localhost:8000/v1"):
        run(ServerEngine.connect(urls))


def test_servers_of_different_models_are_refused(folder: Path, run: Run) -> None:
    async def work() -> None:
        async with stand_ins(folder, 2) as (first, second):
            second.name = "another"
            with pytest.raises(EngineError, match=f"{first.url} serves {folder} and {second.url} serves another"):
                await ServerEngine.connect([first.url, second.url])

    run(work())


def test_the_context_length_is_the_servers_or_less(folder: Path, run: Run) -> None:
    async def work() -> list[int]:
        async with stand_ins(folder) as (stand_in,):
            engines = [await ServerEngine.connect([stand_in.url], context_length=n) for n in (None, 50, 5000)]
            for engine in engines:
                await engine.close()
            return [engine.context_length for engine in engines]

    assert run(work()) == [CONTEXT_LENGTH, 50, CONTEXT_LENGTH]


def test_the_key_is_taken_from_the_environment(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with stand_ins(folder) as (stand_in,):
            stand_in.key = "secret"
            with pytest.raises(EngineError, match="OPENAI_API_KEY"):
                await ServerEngine.connect([stand_in.url], api_key="wrong")
            monkeypatch.setenv("OPENAI_API_KEY", "secret")
            await (await ServerEngine.connect([stand_in.url])).close()

    run(work())


def test_a_policy_that_the_servers_hold_is_not_loaded_and_another_one_is(
    models: Models, folder: Path, run: Run
) -> None:
    async def work() -> list[str]:
        async with served(folder) as (engine, (stand_in,)):
            other = [*models][1]
            for policy in (folder, other, other, folder):
                await engine.serve(policy)
            with pytest.raises(EngineError, match="served-model-name org/name"):
                await engine.serve("org/name")
            return stand_in.loads

    other = [*models][1]
    assert run(work()) == [str(other), str(folder)]


def test_weights_that_somebody_else_loaded_are_not_taken_for_the_first_ones(
    models: Models, folder: Path, run: Run
) -> None:
    async def work() -> list[str]:
        async with served(folder) as (engine, (stand_in,)):
            await engine.load([*models][1])
            again = await ServerEngine.connect([stand_in.url])
            await again.serve(folder)
            await again.close()
            return stand_in.loads

    assert run(work()) == [str([*models][1]), str(folder)]


def test_a_server_that_cannot_load_says_how_to_start_one_that_can(models: Models, folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, count=2) as (engine, servers):
            servers[1].can_load = False
            with pytest.raises(EngineError, match=r"VLLM_SERVER_DEV_MODE=1 vllm serve .*WorkerExtension"):
                await engine.load([*models][1])
            # All or none: the server that could load it has not.
            assert servers[0].loads == []
            await engine.generate(PROMPT, ONE)

    run(work())


def test_what_cannot_be_loaded_leaves_the_engine_as_it_was(folder: Path, model: Any, run: Run, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace("10000.0", "5000.0"))

    async def work() -> None:
        async with served(folder) as (engine, (stand_in,)):
            with pytest.raises(CheckpointError, match="rope"):
                await engine.load(other)
            with pytest.raises(CheckpointError, match="nowhere"):
                await engine.load(tmp_path / "nowhere")
            stand_in.troubles.append(slow(0.1))
            task = asyncio.create_task(engine.generate(PROMPT, GREEDY))
            await until(lambda: bool(stand_in.requests))
            with pytest.raises(EngineError, match="1 requests are in flight"):
                await engine.load(folder)
            contract.assert_argmax(model, PROMPT, await task)
            assert stand_in.loads == []

    run(work())
