"""vLLM with several copies of the model and with adapters: one engine with both, because each start takes long."""

import asyncio
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

from mdpo.engines.base import SamplingParams
from mdpo.engines.vllm import VLLMEngine
from mdpo.errors import CheckpointError
from tests.mdpo import engine_contract as contract
from tests.mdpo.adapters import random_adapter
from tests.mdpo.engine_contract import CONTEXT_LENGTH, GREEDY, PROMPT, assert_argmax

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

# vLLM rounds the largest rank up, to 8.
COPIES, RANK = 2, 4

Run = Callable[[Coroutine[Any, Any, Any]], Any]

# A program that starts an engine of two copies, says so, and waits.
OWNER = """
import sys, time, torch
from mdpo.engines.vllm import VLLMEngine
if __name__ == "__main__":
    engine = VLLMEngine(sys.argv[1], dtype=torch.float32, data_parallel_size=2)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> contract.Models:
    root = tmp_path_factory.mktemp("bases")
    return {root / str(seed): contract.tiny_llama(root / str(seed), seed) for seed in range(2)}


@pytest.fixture(scope="module")
def base(bases: contract.Models) -> Path:
    return next(iter(bases))


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> contract.Models:
    root = tmp_path_factory.mktemp("adapters")
    return {root / str(seed): random_adapter(base, root / str(seed), seed, RANK) for seed in range(2)}


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def engine(base: Path, run: Run) -> Iterator[VLLMEngine]:
    before = descendants(os.getpid())
    engine = VLLMEngine(
        base,
        dtype=torch.float32,
        context_length=CONTEXT_LENGTH,
        data_parallel_size=COPIES,
        max_lora_rank=RANK,
        cpu_cache_gib=0.25,
    )
    yield engine
    run(engine.close())
    assert descendants(os.getpid()) <= before


def descendants(owner: int) -> set[psutil.Process]:
    """vLLM's processes below `owner`; the resource tracker of Python belongs to `owner` itself."""
    return {process for process in psutil.Process(owner).children(recursive=True) if "VLLM" in process.name()}


def test_every_copy_samples(engine: VLLMEngine, bases: contract.Models, base: Path, run: Run) -> None:
    run(engine.load(base))
    cores = [process for process in descendants(os.getpid()) if "EngineCore" in process.name()]
    assert len(cores) == COPIES
    before = [process.cpu_times().user for process in cores]
    run(contract.requests_do_not_disturb_each_other(engine, bases[base]))
    assert all(process.cpu_times().user > spent for process, spent in zip(cores, before, strict=True))


def test_copies_do_not_sample_the_same(engine: VLLMEngine, run: Run) -> None:
    async def sample() -> set[tuple[int, ...]]:
        request = SamplingParams(temperature=2.0, max_tokens=12)
        return {tuple(c.token_ids) for c in await asyncio.gather(*(engine.generate(PROMPT, request) for _ in range(8)))}

    assert len(run(sample())) == 8


def test_load_reaches_every_copy_and_its_cache(engine: VLLMEngine, bases: contract.Models, run: Run) -> None:
    run(contract.load_changes_the_model(engine, bases, times=3 * COPIES))


def test_an_adapter_is_a_model_of_its_own_and_the_base_comes_back(
    engine: VLLMEngine, bases: contract.Models, base: Path, adapters: contract.Models, run: Run
) -> None:
    """Each in turn, the base last; the long prompt fills the prefix cache of each."""
    run(engine.load(base))
    models = {base: bases[base], **adapters}
    run(contract.load_changes_the_model(engine, models, times=3 * COPIES))
    run(contract.logprobs_are_the_models_own(engine, bases[base]))


def test_an_adapter_that_was_written_anew_is_read_anew(
    engine: VLLMEngine, bases: contract.Models, base: Path, run: Run, tmp_path: Path
) -> None:
    run(engine.load(base))
    for seed in (5, 6):
        merged = random_adapter(base, tmp_path, seed, RANK)
        run(engine.load(tmp_path))
        run(contract.greedy_decoding_is_the_argmax(engine, merged))


def test_an_adapter_of_other_weights_is_refused(
    engine: VLLMEngine, bases: contract.Models, base: Path, adapters: contract.Models, run: Run
) -> None:
    other = next(folder for folder in bases if folder != base)
    run(engine.load(other))
    with pytest.raises(CheckpointError, match=f"belongs to {base}.*runs {other}"):
        run(engine.load(next(iter(adapters))))
    run(contract.greedy_decoding_is_the_argmax(engine, bases[other]))


def test_an_adapter_of_too_large_a_rank_is_refused_and_nothing_changes(
    engine: VLLMEngine, bases: contract.Models, base: Path, run: Run, tmp_path: Path
) -> None:
    run(engine.load(base))
    random_adapter(base, tmp_path, seed=1, rank=4 * RANK)
    with pytest.raises(CheckpointError, match=rf"(?s){tmp_path}.*rank"):
        run(engine.load(tmp_path))
    run(contract.greedy_decoding_is_the_argmax(engine, bases[base]))


def test_a_broken_adapter_is_refused_and_nothing_changes(
    engine: VLLMEngine, bases: contract.Models, base: Path, adapters: contract.Models, run: Run, tmp_path: Path
) -> None:
    run(engine.load(base))
    folder = shutil.copytree(next(iter(adapters)), tmp_path / "broken")
    (folder / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=str(folder)):
        run(engine.load(folder))
    assert_argmax(bases[base], PROMPT, run(engine.generate(PROMPT, GREEDY)))


def test_a_killed_owner_leaves_no_copy(base: Path, tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen([sys.executable, script, base], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        processes = descendants(owner.pid)
        owner.send_signal(signal.SIGKILL)
    assert len(processes) > COPIES
    _gone, alive = psutil.wait_procs(processes, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
