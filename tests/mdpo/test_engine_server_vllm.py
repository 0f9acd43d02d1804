"""The server engine against vLLM's own server, on a CPU."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from mdpo.engines.base import SamplingParams
from mdpo.engines.server import ServerEngine
from mdpo.engines.vllm_worker import OWNER
from mdpo.errors import CheckpointError, EngineError
from tests.mdpo import engine_contract as contract
from tests.mdpo.engine_contract import CONTEXT_LENGTH, GREEDY, PROMPT

pytestmark = pytest.mark.vllm

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Models = dict[Path, PreTrainedModel]

COMMAND = [
    *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"),
    *("--dtype", "float32", "--max-model-len", str(CONTEXT_LENGTH), "--enforce-eager", "--no-enable-chunked-prefill"),
    *("--worker-extension-cls", "mdpo.engines.vllm_worker.WorkerExtension", "--enable-lora", "--max-lora-rank", "8"),
]
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "PYTHONPATH": str(Path.cwd()),
    # Where this process is killed, the server goes with it.
    OWNER: str(os.getpid()),
}


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
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server, killed with all its processes at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "--model", str(folder), "--port", str(port)],
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait()


@pytest.fixture(scope="module")
def engine(address: str, run: Run) -> Iterator[ServerEngine]:
    engine = run(ServerEngine.connect([address]))
    yield engine
    run(engine.close())


def wait_until_ready(health: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(health)
        except OSError:
            assert process.poll() is None, log.read_text()[-5000:]
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text()[-5000:])


def running(address: str) -> float:
    """How many requests the server is sampling, by its own account."""
    with urllib.request.urlopen(address.removesuffix("/v1") + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))


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
def test_contract(check: Callable[..., Any], engine: ServerEngine, model: PreTrainedModel, run: Run) -> None:
    run(check(engine, model))


@pytest.mark.parametrize(
    "check",
    [
        contract.the_context_length_ends_an_action,
        contract.a_prompt_without_room_is_refused,
        contract.a_seed_makes_a_request_repeatable,
    ],
    ids=lambda check: check.__name__,
)
def test_contract_that_needs_no_model(check: Callable[..., Any], engine: ServerEngine, run: Run) -> None:
    run(check(engine))


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
    engine: ServerEngine, run: Run, prompt: list[int], params: SamplingParams
) -> None:
    with pytest.raises(ValueError):
        run(engine.generate(prompt, params))
    assert not engine._pool.failures()


def test_a_cancelled_request_is_aborted(engine: ServerEngine, address: str, run: Run) -> None:
    async def cancel() -> None:
        tasks = [asyncio.create_task(engine.generate(PROMPT, SamplingParams(max_tokens=180))) for _ in range(20)]
        while await asyncio.to_thread(running, address) == 0:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        async with asyncio.timeout(5):
            while await asyncio.to_thread(running, address):
                await asyncio.sleep(0.05)
        assert all(task.cancelled() for task in tasks)

    run(cancel())


def test_load_changes_the_model(engine: ServerEngine, models: Models, run: Run) -> None:
    run(contract.load_changes_the_model(engine, models))


def test_what_cannot_be_loaded_leaves_the_engine_as_it_was(
    engine: ServerEngine, models: Models, folder: Path, model: PreTrainedModel, run: Run, tmp_path: Path
) -> None:
    run(engine.serve(folder))
    other = shutil.copytree(folder, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace("10000.0", "5000.0"))
    with pytest.raises(CheckpointError, match="rope"):
        run(engine.load(other))
    run(contract.greedy_decoding_is_the_argmax(engine, model))


def test_an_adapter_is_loaded_beside_the_model(
    engine: ServerEngine, models: Models, folder: Path, model: PreTrainedModel, run: Run, tmp_path: Path
) -> None:
    run(engine.serve(folder))
    for seed in range(2):
        torch.manual_seed(seed)
        config = LoraConfig(r=8, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
        adapted.save_pretrained(tmp_path / str(seed))
        run(engine.load(tmp_path / str(seed)))
        run(contract.greedy_decoding_is_the_argmax(engine, adapted))
    run(engine.serve(folder))
    run(contract.greedy_decoding_is_the_argmax(engine, model))
    with pytest.raises(CheckpointError, match="adapter"):
        run(engine.load([*models][1]))
        run(engine.load(tmp_path / "0"))
    run(engine.serve(folder))


def test_an_adapter_that_is_too_large_is_an_error_with_the_command(
    engine: ServerEngine, folder: Path, run: Run, tmp_path: Path
) -> None:
    run(engine.serve(folder))
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=32, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="max-lora-rank 32"):
        run(engine.load(tmp_path))
    run(engine.generate(PROMPT, GREEDY))
