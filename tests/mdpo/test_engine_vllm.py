"""The vLLM engine keeps the contract of every engine, and leaves nothing behind."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import PreTrainedModel

from mdpo.engines.base import SamplingParams
from mdpo.engines.vllm import VLLMEngine
from mdpo.errors import CheckpointError, EngineError, MissingExtraError
from tests.mdpo import engine_contract as contract
from tests.mdpo.adapters import random_adapter
from tests.mdpo.engine_contract import CONTEXT_LENGTH, GREEDY, PROMPT

HAVE_VLLM = importlib.util.find_spec("vllm") is not None

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Models = dict[Path, PreTrainedModel]

# A program that starts an engine, says so, and waits.
OWNER = """
import sys, time, torch
from mdpo.engines.vllm import VLLMEngine
if __name__ == "__main__":
    engine = VLLMEngine(sys.argv[1], dtype=torch.float32)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("checkpoints")
    return {root / str(seed): contract.tiny_llama(root / str(seed), seed) for seed in range(2)}


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
def engine(folder: Path, run: Run) -> Iterator[VLLMEngine]:
    engine = start(folder)
    yield engine
    run(engine.close())


def start(folder: Path) -> VLLMEngine:
    return VLLMEngine(folder, dtype=torch.float32, context_length=CONTEXT_LENGTH)


def engine_processes(owner: int) -> list[psutil.Process]:
    """vLLM's processes below `owner`; the resource tracker of Python belongs to `owner` itself."""
    return [process for process in psutil.Process(owner).children(recursive=True) if "VLLM" in process.name()]


@pytest.mark.vllm
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
    ids=lambda check: check.__name__,
)
def test_contract(check: Callable[..., Any], engine: VLLMEngine, model: PreTrainedModel, run: Run) -> None:
    run(check(engine, model))


@pytest.mark.vllm
@pytest.mark.parametrize(
    "check",
    [
        contract.the_context_length_ends_an_action,
        contract.a_prompt_without_room_is_refused,
        contract.a_seed_makes_a_request_repeatable,
    ],
    ids=lambda check: check.__name__,
)
def test_contract_that_needs_no_model(check: Callable[..., Any], engine: VLLMEngine, run: Run) -> None:
    run(check(engine))


@pytest.mark.vllm
def test_load_changes_the_model(engine: VLLMEngine, models: Models, run: Run) -> None:
    run(contract.load_changes_the_model(engine, models))


@pytest.mark.vllm
def test_a_cancelled_request_is_aborted(engine: VLLMEngine, run: Run) -> None:
    async def cancel() -> int:
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=CONTEXT_LENGTH)))
        await asyncio.sleep(0.02)
        in_flight = engine._running().get_num_unfinished_requests()
        task.cancel()
        await asyncio.wait({task})
        return in_flight

    assert run(cancel()) == 1
    assert engine._running().get_num_unfinished_requests() == 0


@pytest.mark.vllm
@pytest.mark.parametrize(
    ("prompt", "params"),
    [
        (PROMPT, SamplingParams(temperature=0.001)),
        (PROMPT, SamplingParams(max_tokens=0)),
        (PROMPT, SamplingParams(top_p=0.0)),
        ([contract.VOCABULARY], GREEDY),
        ([], GREEDY),
    ],
)
def test_a_wrong_request_is_a_value_error(
    engine: VLLMEngine, run: Run, prompt: list[int], params: SamplingParams
) -> None:
    with pytest.raises(ValueError):
        run(engine.generate(prompt, params))


@pytest.mark.vllm
def test_another_architecture_is_refused(engine: VLLMEngine, models: Models, run: Run, tmp_path: Path) -> None:
    folder, model = next(iter(models.items()))
    other = shutil.copytree(folder, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace("10000.0", "5000.0"))
    with pytest.raises(CheckpointError, match="rope"):
        run(engine.load(other))
    run(contract.greedy_decoding_is_the_argmax(engine, model))


@pytest.mark.vllm
def test_stop_strings_need_a_tokenizer(
    engine: VLLMEngine, models: Models, model: PreTrainedModel, run: Run, tmp_path: Path
) -> None:
    """The one of the checkpoint that was loaded last; without stop strings none is needed."""
    folder = next(iter(models))
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    run(engine.load(bare))
    run(contract.greedy_decoding_is_the_argmax(engine, model))
    with pytest.raises(CheckpointError, match=f"stop strings.*tokenizer of {bare}"):
        run(contract.a_stop_string_at_max_tokens_is_a_stop(engine, model))
    run(engine.load(folder))
    run(contract.a_stop_string_at_max_tokens_is_a_stop(engine, model))


@pytest.mark.vllm
def test_an_adapter_needs_an_engine_that_takes_them(engine: VLLMEngine, folder: Path, run: Run, tmp_path: Path) -> None:
    random_adapter(folder, tmp_path, seed=1)
    with pytest.raises(CheckpointError, match="max_lora_rank"):
        run(engine.load(tmp_path))


@pytest.mark.vllm
def test_a_missing_checkpoint_is_named(engine: VLLMEngine, run: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        run(engine.load(tmp_path / "nowhere"))


@pytest.mark.vllm
def test_nothing_is_loaded_while_requests_are_in_flight(engine: VLLMEngine, folder: Path, run: Run) -> None:
    async def load_too_early() -> None:
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=100)))
        await asyncio.sleep(0.02)
        with pytest.raises(EngineError, match="1 requests are in flight"):
            await engine.load(folder)
        await task

    run(load_too_early())


@pytest.mark.vllm
@pytest.mark.slow
def test_an_engine_goes_without_a_trace(folder: Path, run: Run) -> None:
    """The environment is as before, the requests in flight have ended, and so have the processes."""
    before, environment = engine_processes(os.getpid()), dict(os.environ)
    engine = start(folder)
    assert dict(os.environ) == environment
    assert len(engine_processes(os.getpid())) > len(before)

    async def close() -> None:
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=CONTEXT_LENGTH)))
        await asyncio.sleep(0.02)
        await engine.close()
        with pytest.raises(EngineError, match="closed"):
            await asyncio.wait_for(task, 10)
        await engine.close()

    run(close())
    assert engine_processes(os.getpid()) == before
    with pytest.raises(EngineError, match="closed"):
        run(engine.generate(PROMPT, GREEDY))


@pytest.mark.vllm
@pytest.mark.slow
def test_a_dead_engine_is_an_error(folder: Path, run: Run) -> None:
    before = engine_processes(os.getpid())
    engine = start(folder)

    async def die() -> None:
        task = asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=100)))
        await asyncio.sleep(0.02)
        for process in set(engine_processes(os.getpid())) - set(before):
            process.kill()
        with pytest.raises(EngineError, match="died"):
            await asyncio.wait_for(task, 20)

    run(die())
    with pytest.raises(EngineError, match="died"):
        run(engine.generate(PROMPT, GREEDY))
    run(engine.close())


@pytest.mark.vllm
@pytest.mark.slow
def test_a_killed_owner_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        processes = engine_processes(owner.pid)
        owner.send_signal(signal.SIGKILL)
    assert processes
    _gone, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


@pytest.mark.vllm
def test_a_checkpoint_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=str(tmp_path)):
        VLLMEngine(tmp_path)


@pytest.mark.skipif(HAVE_VLLM, reason="vLLM is installed")
def test_a_missing_vllm_is_named_with_its_command(folder: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'mdpo\[vllm\]'"):
        VLLMEngine(folder)
