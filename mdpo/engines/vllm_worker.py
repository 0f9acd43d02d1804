"""What mdpo adds to vLLM's own processes. vLLM imports this module in each of its workers, for `WorkerExtension`."""

import os
import select
import threading
from contextlib import suppress
from typing import Any

import psutil

# The environment variable that tells vLLM's processes which process started them.
OWNER = "MDPO_VLLM_OWNER"


class WorkerExtension:
    """The methods that vLLM adds to its worker class; `AsyncLLM.collective_rpc` calls them by name.

    A server has them when it is started with `--worker-extension-cls mdpo.engines.vllm_worker.WorkerExtension`.
    """

    def compare_checkpoint(self: Any, checkpoint: str) -> str | None:
        """Why the weights of a checkpoint cannot replace those of the running model; `None` if they can."""
        from mdpo.checkpoint import architecture, difference

        if not os.access(checkpoint, os.R_OK):
            return f"the server sees no folder {checkpoint} that it may read"
        return difference(architecture(self.model_config.model), architecture(checkpoint))

    def load_checkpoint(self: Any, checkpoint: str) -> None:
        """Replace the weights of the running model; called in every worker."""
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

        self.reload_weights(weights_path=checkpoint)
        # On a CPU the output layer computes from a packed copy of its weights. vLLM 0.32 does not renew the copy when
        # the layer shares its weights with the embedding, and would go on with the logits of the old ones.
        for layer in self.get_model().modules():
            if isinstance(layer, ParallelLMHead) and isinstance(layer.quant_method, UnquantizedEmbeddingMethod):
                layer.quant_method.process_weights_after_loading(layer)


def exit_with(owner: int) -> None:
    """End this process, and vLLM's engine process above it, as soon as the process `owner` is gone.

    vLLM's engine process waits forever when the process that started it is killed, and holds the GPU's memory.
    """
    ended = select.poll()
    try:
        ended.register(os.pidfd_open(owner), select.POLLIN)
        parent = psutil.Process(os.getppid())
        above = [parent] if parent.ppid() == owner else []
    except (ProcessLookupError, psutil.NoSuchProcess):
        os._exit(1)

    def wait() -> None:
        ended.poll()
        for process in above:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(1)

    threading.Thread(target=wait, name="mdpo-exit-with-owner", daemon=True).start()


# At import, because loading a large model takes minutes in which the owner may be killed as well. The owner itself
# imports this module too, but before it sets the variable.
if OWNER in os.environ:
    exit_with(int(os.environ[OWNER]))
