"""What the server engine does when its servers fail, lack something, or come back."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from mdpo.engines import pool, server
from mdpo.engines.base import SamplingParams
from mdpo.engines.server import ServerEngine
from mdpo.errors import EngineError
from tests.mdpo import engine_contract as contract
from tests.mdpo.engine_contract import GREEDY, PROMPT
from tests.mdpo.stand_in_server import Trouble, cut, drop, hang, served, stand_ins, status, until

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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(pool, "_LONGEST_PAUSE", 0.1)


@pytest.mark.parametrize("trouble", [status(500), status(503), status(429), status(404), drop, cut])
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
