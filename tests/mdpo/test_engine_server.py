"""The server engine keeps the contract of every engine, whatever happens to its servers."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from mdpo.engines import pool, server
from mdpo.engines.base import SamplingParams
from mdpo.engines.server import ServerEngine
from mdpo.errors import CheckpointError, EngineError
from tests.mdpo import engine_contract as contract
from tests.mdpo.engine_contract import CONTEXT_LENGTH, GREEDY, LONG_PROMPT, PROMPT
from tests.mdpo.stand_in_server import StandIn, Trouble, drop, hang, slow, stand_ins, status

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
    stand_in = StandIn(folder)
    run(stand_in.start())
    engine = run(ServerEngine.connect([stand_in.url]))
    yield engine
    run(engine.close())
    run(stand_in.close())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(pool, "_LONGEST_PAUSE", 0.1)


@asynccontextmanager
async def served(folder: Path, count: int = 1, **options: Any) -> AsyncIterator[tuple[ServerEngine, list[StandIn]]]:
    """An engine and its servers."""
    async with stand_ins(folder, count) as servers:
        engine = await ServerEngine.connect([server.url for server in servers], **options)
        for server in servers:
            server.requests.clear()
        try:
            yield engine, servers
        finally:
            await engine.close()


@pytest.mark.parametrize(
    "check",
    [
        contract.greedy_decoding_is_the_argmax,
        contract.logprobs_are_the_models_own,
        contract.a_stop_id_ends_the_action_and_belongs_to_it,
        contract.nothing_else_ends_it_before_max_tokens,
        contract.a_stop_id_at_max_tokens_is_a_stop,
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


@pytest.mark.parametrize("trouble", [status(500), status(503), drop, status(429), status(404)])
@pytest.mark.parametrize("times", [1, 3])
def test_a_failed_attempt_is_made_again(trouble: Trouble, times: int, folder: Path, run: Run) -> None:
    async def work() -> list[int]:
        async with served(folder) as (engine, (stand_in,)):
            stand_in.troubles.extend([trouble] * times)
            return (await engine.generate(PROMPT, GREEDY)).token_ids

    assert len(run(work())) == GREEDY.max_tokens


def test_a_server_that_hangs_is_given_up_and_the_request_goes_elsewhere(folder: Path, run: Run) -> None:
    async def work() -> tuple[int, int]:
        async with served(folder, count=2, timeout=0.3) as (engine, servers):
            for stand_in in servers:
                stand_in.troubles.append(hang)
            await asyncio.gather(*(engine.generate([i, 1, 2], ONE) for i in range(12)))
            return servers[0].cancelled, servers[1].cancelled

    # Giving up closes the connection, so the server does not sample for nobody.
    assert run(work()) == (1, 1)


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(folder: Path, run: Run) -> None:
    async def work() -> float:
        async with served(folder) as (engine, (stand_in,)):
            stand_in.troubles.append(status(429, **{"Retry-After": "0.4"}))
            await engine.generate(PROMPT, ONE)
            (first, _), (second, _) = stand_in.requests
            return second - first

    assert run(work()) >= 0.4


def test_a_server_that_stays_busy_is_an_error(folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, patience=0.2) as (engine, (stand_in,)):
            stand_in.troubles.extend([status(429)] * 1000)
            with pytest.raises(EngineError, match=r"too busy for 0\.2 s.*429"):
                await engine.generate(PROMPT, ONE)

    run(work())


def test_a_request_that_fails_wherever_it_is_sent_is_an_error(folder: Path, run: Run) -> None:
    """Although the server answers every probe between."""

    async def work() -> int:
        async with served(folder) as (engine, (stand_in,)):

            async def poison(request: Any) -> Any:
                stand_in.troubles.append(poison)
                body = stand_in.requests[-1][1]
                return await status(500)(request) if body["prompt"] == PROMPT else None

            stand_in.troubles.append(poison)
            with pytest.raises(EngineError, match=r"failed 8 times.*status 500"):
                await engine.generate(PROMPT, ONE)
            return sum(body["prompt"] == PROMPT for _, body in stand_in.requests)

    assert run(work()) == 8


def test_one_of_two_servers_dies_and_comes_back(folder: Path, model: PreTrainedModel, run: Run) -> None:
    async def work() -> None:
        async with served(folder, count=2) as (engine, (first, second)):
            prompts = [[i, i + 1, i + 2] for i in range(40)]
            tasks = [asyncio.create_task(engine.generate(prompt, GREEDY)) for prompt in prompts]
            await asyncio.sleep(0.01)
            await first.die()
            for prompt, completion in zip(prompts, await asyncio.gather(*tasks), strict=True):
                contract.assert_argmax(model, prompt, completion)
            before = len(first.requests)
            await first.restart()
            await until(lambda: not engine._pool.failures())
            await asyncio.gather(*(engine.generate(prompt, ONE) for prompt in prompts))
            # One probe, and its share of the prompts.
            assert len(first.requests) > before + 5
            assert len(second.requests) > 5

    run(work())


def test_all_servers_dead_is_an_error_that_names_each(folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, count=2, patience=0.3) as (engine, servers):
            for stand_in in servers:
                await stand_in.die()
            started = time.monotonic()
            with pytest.raises(EngineError, match="same command") as caught:
                await engine.generate(PROMPT, ONE)
            assert 0.25 < time.monotonic() - started < 2
            for stand_in in servers:
                assert f"{stand_in.url}: " in str(caught.value)
                await stand_in.start()

    run(work())


def test_requests_wait_for_a_server_that_comes_back_in_time(folder: Path, run: Run) -> None:
    async def work() -> list[int]:
        async with served(folder) as (engine, (stand_in,)):
            await stand_in.die()
            task = asyncio.create_task(engine.generate(PROMPT, ONE))
            await asyncio.sleep(0.2)
            await stand_in.restart()
            return (await task).token_ids

    assert len(run(work())) == 1


def test_a_server_that_comes_back_with_another_model_is_not_taken_back(models: Models, folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, patience=0.3) as (engine, (stand_in,)):
            await stand_in.die()
            stand_in.name = "another"
            await stand_in.restart()
            with pytest.raises(EngineError, match="its models: another"):
                await engine.generate(PROMPT, ONE)

    run(work())


@pytest.mark.parametrize("noticed", [True, False])
def test_a_restarted_server_gets_the_loaded_weights_again(
    noticed: bool, models: Models, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no request was there to notice that it was away."""
    monkeypatch.setattr(server, "_SILENT_SECONDS", 0.0)

    async def work() -> None:
        async with served(folder) as (engine, (stand_in,)):
            other, theirs = [*models.items()][1]
            await engine.load(other)
            await stand_in.die()
            task = asyncio.create_task(engine.generate(PROMPT, GREEDY)) if noticed else None
            await asyncio.sleep(0.1)
            await stand_in.restart()
            contract.assert_argmax(theirs, PROMPT, await (task or engine.generate(PROMPT, GREEDY)))
            assert stand_in.loads == [str(other), str(other)]

    run(work())


def test_a_cancelled_request_closes_its_connection(folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder) as (engine, (stand_in,)):
            stand_in.troubles.append(hang)
            task = asyncio.create_task(engine.generate(PROMPT, ONE))
            await until(lambda: bool(stand_in.requests))
            task.cancel()
            await until(lambda: stand_in.cancelled == 1)
            assert len(stand_in.requests) == 1

    run(work())


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


def lose(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda choice: choice.update({key: None})


def processed(choice: dict[str, Any]) -> None:
    choice["logprobs"]["top_logprobs"][0]["token_id:1"] = -9999.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose("token_ids"), "no token ids"),
        (lose("logprobs"), "no log-probabilities for 1 tokens"),
        (lambda choice: choice["logprobs"]["token_logprobs"].append(-1.0), "2 log-probabilities for 1 tokens"),
        (lambda choice: choice["logprobs"].update(token_logprobs=[9.5]), "9.500 is no log-probability"),
        (processed, "after top-p"),
        (dict.clear, "no 'finish_reason'"),
    ],
)
def test_a_server_that_lacks_something_is_refused_at_the_start(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path, run: Run
) -> None:
    async def work() -> None:
        async with stand_ins(folder) as (stand_in,):
            stand_in.change = change
            with pytest.raises(EngineError, match=f"{stand_in.url}.*{message}.*vllm serve"):
                await ServerEngine.connect([stand_in.url])

    run(work())


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        (GREEDY, {"finish_reason": "stop"}, "ignore_eos"),
        (SamplingParams(max_tokens=3), {"token_ids": [1], "logprobs": {"token_logprobs": [-1.0]}}, "1 of 3 tokens"),
        (
            SamplingParams(max_tokens=2, stop_token_ids=(1,)),
            {"token_ids": [1, 2], "logprobs": {"token_logprobs": [-1.0, -1.0]}, "finish_reason": "length"},
            "after a stop id",
        ),
    ],
)
def test_an_answer_that_ends_elsewhere_is_an_error(
    params: SamplingParams, change: dict[str, Any], message: str, folder: Path, run: Run
) -> None:
    async def work() -> None:
        async with served(folder) as (engine, (stand_in,)):
            stand_in.change = lambda choice: choice.update(change)
            with pytest.raises(EngineError, match=message):
                await engine.generate(PROMPT, params)

    run(work())


def test_an_address_where_nothing_listens_is_named(run: Run) -> None:
    with pytest.raises(EngineError, match=r"http://127.0.0.1:9/v1 does not answer.*vllm serve"):
        run(ServerEngine.connect(["http://127.0.0.1:9"]))


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


def test_a_load_that_fails_half_way_closes_the_engine(models: Models, folder: Path, run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with served(folder, count=2) as (engine, servers):

            async def fail(checkpoint: Path) -> None:
                raise OSError("the disk is gone")

            servers[1]._engine.load = fail  # type: ignore[method-assign]
            with pytest.raises(EngineError, match=r"cannot load.*the disk is gone"):
                await engine.load([*models][1])
            with pytest.raises(EngineError, match="closed"):
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


def test_closing_ends_what_is_in_flight_and_what_waits(folder: Path, run: Run) -> None:
    async def work() -> None:
        async with served(folder, count=2, max_concurrency=1) as (engine, servers):
            servers[0].troubles.append(hang)
            servers[1].troubles.append(hang)
            tasks = [asyncio.create_task(engine.generate([i, 1], ONE)) for i in range(6)]
            await until(lambda: all(stand_in.requests for stand_in in servers))
            await engine.close()
            await engine.close()
            for result in await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2):
                assert isinstance(result, EngineError)
                assert "closed" in str(result)
            with pytest.raises(EngineError, match="closed"):
                await engine.generate(PROMPT, ONE)

    run(work())


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds; fail after five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
