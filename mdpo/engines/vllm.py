"""vLLM as an engine: token ids in, token ids out, from a process of its own that this one owns.

vLLM starts its engine in child processes with the `spawn` method, so a script that makes a `VLLMEngine` must do so
under `if __name__ == "__main__":` (the `mdpo` commands do).
"""

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from mdpo.adapter import base_of, is_adapter
from mdpo.checkpoint import architecture, difference, resolve_checkpoint
from mdpo.engines.base import Completion, SamplingParams
from mdpo.engines.stopping import tokenizer_for_stop_strings
from mdpo.engines.vllm_start import adapter_arguments, environment, import_vllm, start
from mdpo.errors import CheckpointError, EngineError

_Answer = TypeVar("_Answer")

# The smallest temperature that vLLM samples with; it would raise a lower one to this without an error.
_LOWEST_TEMPERATURE = 0.01
# How long vLLM's processes may take to end by themselves before they are killed.
_CLOSE_SECONDS = 30.0


class VLLMEngine:
    """Samples from a Hugging Face checkpoint with vLLM's `AsyncLLM`, in bfloat16 or another type.

    Starting takes seconds to minutes and blocks. All calls must come from one event loop.

    Args:
        checkpoint: A local folder or a hub id.
        dtype: The type of the weights and of the computation. The log-probabilities agree with those of a float32
            forward pass to about 1e-5 in float32, and to about 0.1 in bfloat16.
        context_length: Largest prompt plus completion, in tokens; default: what the model was built for.
        tensor_parallel_size: Number of GPUs that share one copy of the model.
        data_parallel_size: Number of copies of the model, each with its own GPUs and its own cache; vLLM sends each
            request to the least busy one.
        max_lora_rank: Largest rank of the adapters that `load` takes; default: none can be loaded. It costs memory and
            speed even while none is.
        gpu_memory_utilization: Share of each GPU's memory that the engine takes. Not used on a CPU.
        cpu_cache_gib: Memory for keys and values on a CPU, in GiB; the environment variable VLLM_CPU_KVCACHE_SPACE
            wins over it. Not used on a GPU.
        max_concurrency: Largest number of requests that are sampled together; more of them wait.
        seed: Seed of the requests that have none of their own; their samples depend on what else is in flight.
        enforce_eager: Run the model without compiling it first; default: on a CPU only, where a small model starts two
            to three times as fast and samples as fast.

    Raises:
        MissingExtraError: vLLM is not installed, or cannot be imported.
        EngineError: vLLM is installed and does not start with this checkpoint.
    """

    context_length: int

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        context_length: int | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int = 1,
        max_lora_rank: int | None = None,
        gpu_memory_utilization: float = 0.9,
        cpu_cache_gib: float = 1.0,
        max_concurrency: int = 256,
        seed: int = 0,
        enforce_eager: bool | None = None,
    ) -> None:
        self._checkpoint = str(checkpoint)
        self._request_ids = itertools.count()
        self._in_flight: set[str] = set()
        self._takes_adapters = max_lora_rank is not None
        self._adapter_ids = itertools.count(1)
        self._adapter: Any | None = None
        with environment():
            vllm = import_vllm()
            on_cpu = bool(vllm.platforms.current_platform.is_cpu())
            self._llm: Any | None = start(
                vllm,
                self._checkpoint,
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=context_length,
                tensor_parallel_size=tensor_parallel_size,
                data_parallel_size=data_parallel_size,
                **adapter_arguments(vllm, max_lora_rank),
                gpu_memory_utilization=gpu_memory_utilization,
                kv_cache_memory_bytes=int(cpu_cache_gib * 2**30) if on_cpu else None,
                max_num_seqs=max_concurrency,
                seed=seed,
                enforce_eager=on_cpu if enforce_eager is None else enforce_eager,
                # vLLM 0.32 dies on a CPU when the prompt of a request with a seed is computed in several steps.
                enable_chunked_prefill=False if on_cpu else None,
            )
        self._vllm = vllm
        self.context_length = int(self._running().model_config.max_model_len)
        self._vocabulary = int(self._running().model_config.get_vocab_size())
        self._architecture = architecture(self._checkpoint)

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        """Sample a continuation of `prompt_ids`; see `mdpo.engines.base.Engine`. Cancelling it frees its place.

        Raises:
            ValueError: The prompt leaves no room for a token, or vLLM refuses the prompt or the parameters.
            CheckpointError: The request names stop strings, and the checkpoint has no tokenizer.
            EngineError: The engine was closed or died.
        """
        self._check_prompt(prompt_ids)
        llm, sampling = self._running(), self._sampling(params)
        if params.stop_strings and llm.output_processor.tokenizer is None:
            # vLLM looks for stop strings in this process, with this tokenizer and for the requests that name them only.
            # Started with a tokenizer it would load one in each of its processes for nothing.
            llm.output_processor.tokenizer = tokenizer_for_stop_strings(self._checkpoint)
        prompt = self._vllm.inputs.tokens_input(prompt_ids)
        request_id = str(next(self._request_ids))
        self._in_flight.add(request_id)
        try:
            with self._own_errors():
                # vLLM asks its engine this before the first request, and waits forever if that is dead.
                await self._answer(llm.get_supported_tasks())
                async for output in llm.generate(prompt, sampling, request_id, lora_request=self._adapter):
                    result = output.outputs[0]
        finally:
            self._in_flight.discard(request_id)
        self._running()
        if result.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended a request with {result.finish_reason!r}; its own messages above say why")
        return Completion(list(result.token_ids), list(result.logprobs.logprobs), result.finish_reason)

    async def load(self, checkpoint: Path) -> None:
        """Replace the weights by those of another checkpoint of the same architecture. No request may be in flight.

        The folder of a PEFT adapter is put on top of the running weights, which must be those of its base model; the
        next checkpoint takes it off again.

        Raises:
            CheckpointError: The folder is no whole checkpoint, has another architecture, or is an adapter that cannot
                be used here; the engine is unchanged.
            EngineError: Requests are in flight (the engine is unchanged), or the weights could not be read: then the
                engine is closed, because it holds neither the old nor the new ones.
        """
        if self._in_flight:
            raise EngineError(f"cannot load {checkpoint} while {len(self._in_flight)} requests are in flight")
        if is_adapter(checkpoint):
            await self._load_adapter(checkpoint)
        else:
            await self._load_weights(checkpoint)

    async def _load_weights(self, checkpoint: Path) -> None:
        llm = self._running()
        self._require_same_architecture(checkpoint)
        try:
            with self._own_errors():
                # Both reach every copy of the model.
                await self._answer(llm.collective_rpc("load_checkpoint", args=(str(checkpoint),)))
                # Keys and values of the old weights must not answer for the new ones.
                if not await self._answer(llm.reset_prefix_cache()):
                    raise EngineError(f"vLLM kept the cache of the old weights after it loaded {checkpoint}")
        except EngineError:
            await self.close()
            raise
        self._checkpoint, self._adapter = str(checkpoint), None
        llm.output_processor.tokenizer = None

    async def _load_adapter(self, folder: Path) -> None:
        self._require_base(folder)
        number = next(self._adapter_ids)
        # vLLM knows an adapter, and what it has in its prefix cache, by name and path; a folder may be written anew.
        adapter = self._vllm.lora.request.LoRARequest(f"{folder.name}-{number}", number, str(folder.absolute()))
        try:
            with self._own_errors():
                await self._answer(self._running().add_lora(adapter))
        except EngineError as error:
            if self._running().errored:
                raise
            raise CheckpointError(f"vLLM cannot use the adapter {folder}: {error.__cause__ or error}") from error
        self._adapter = adapter

    async def close(self) -> None:
        """Stop vLLM's processes and free the model. Requests in flight fail with an `EngineError`."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        if not llm.errored:
            await llm.abort(list(self._in_flight))
        # In this thread: from another one, vLLM reports its own end as an error.
        llm.shutdown(timeout=_CLOSE_SECONDS)

    def _running(self) -> Any:
        """vLLM's engine, unless it was closed."""
        if self._llm is None:
            raise EngineError("the engine was closed; make a new VLLMEngine")
        return self._llm

    def _require_same_architecture(self, checkpoint: Path) -> None:
        """Refuse a checkpoint that the running engine would load wrongly or in part."""
        if not checkpoint.is_dir():
            raise CheckpointError(f"there is no folder {checkpoint} to load; check the path of the checkpoint")
        resolve_checkpoint(str(checkpoint), checkpoint.parent)
        if different := difference(self._architecture, architecture(checkpoint)):
            raise CheckpointError(
                f"{checkpoint} cannot replace {self._checkpoint}: {different}; start a new engine for it"
            )

    def _require_base(self, adapter: Path) -> None:
        """Refuse an adapter if adapters are off, or if it belongs to other weights than the running ones."""
        if not self._takes_adapters:
            raise CheckpointError(
                f"{adapter} is an adapter, and this engine was started without them; start it with max_lora_rank, or "
                "merge the adapter into its base model"
            )
        base = base_of(adapter)
        folders = [Path(path).is_dir() for path in (base, self._checkpoint)]
        # A hub id and a folder may be the same model; two folders or two hub ids are not.
        if all(folders) and Path(base).samefile(self._checkpoint):
            return
        if base != self._checkpoint and (all(folders) or not any(folders)):
            raise CheckpointError(
                f"the adapter {adapter} belongs to {base}, and the engine runs {self._checkpoint}; load {base} first"
            )

    def _check_prompt(self, prompt_ids: list[int]) -> None:
        """Refuse what would fail inside vLLM's engine, and take every other request with it."""
        if len(prompt_ids) >= self.context_length:
            raise ValueError(f"the prompt has {len(prompt_ids)} tokens, the context length is {self.context_length}")
        if not prompt_ids or not 0 <= min(prompt_ids) <= max(prompt_ids) < self._vocabulary:
            raise ValueError(f"a prompt needs at least one id, and ids from 0 to {self._vocabulary - 1}: {prompt_ids}")

    def _sampling(self, params: SamplingParams) -> Any:
        """The same parameters in vLLM's terms, with the stop ids of the request and no others."""
        if 0 < params.temperature < _LOWEST_TEMPERATURE:
            raise ValueError(
                f"the temperature {params.temperature} is below {_LOWEST_TEMPERATURE}, the lowest that vLLM samples "
                "with; use 0 for greedy decoding"
            )
        with self._own_errors():
            return self._vllm.SamplingParams(
                temperature=params.temperature,
                top_p=params.top_p,
                max_tokens=params.max_tokens,
                stop_token_ids=list(params.stop_token_ids),
                stop=list(params.stop_strings),
                include_stop_str_in_output=True,
                skip_special_tokens=False,
                ignore_eos=True,
                seed=params.seed,
                logprobs=0,
                flat_logprobs=True,
                detokenize=bool(params.stop_strings),
                output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
            )

    async def _answer(self, call: Awaitable[_Answer]) -> _Answer:
        """Await a call that vLLM leaves unanswered when its engine dies."""
        task = asyncio.ensure_future(call)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=1.0)
                if not task.done() and self._running().errored:
                    raise self._running().dead_error
            error = task.exception()
            # What failed inside the engine's process arrives as a bare Exception with its text.
            if type(error) is Exception:
                raise EngineError(f"vLLM's engine refused: {error}; its own messages above say why") from error
            return task.result()
        finally:
            task.cancel()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Say what vLLM's exceptions mean for the caller."""
        exceptions = self._vllm.exceptions
        try:
            yield
        except exceptions.VLLMClientError as error:
            raise ValueError(f"vLLM refuses the request: {error}") from error
        except exceptions.VLLMServerError as error:
            raise EngineError(
                f"vLLM's engine for {self._checkpoint} {'died' if self._running().errored else 'failed'} "
                f"({error.__cause__ or error}); its own messages above say why; start the run again to go on where it "
                "stopped"
            ) from error
