"""What a policy's `config.json` says, without its weights."""

import urllib.request
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT as HUB
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoConfig

from mdpo.checkpoint import loading
from mdpo.errors import CheckpointError


def load_config_file(hub_id: str) -> Path | None:
    """The `config.json` of a policy on the hub; `None` if the hub does not answer and none was read before.

    Raises:
        CheckpointError: The hub answers that there is no such policy, or that it is not for everyone.
    """
    cached = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    try:
        # Asked once and shortly, where the download would try for half a minute.
        with urllib.request.urlopen(HUB, timeout=5):
            pass
        return Path(hf_hub_download(hub_id, "config.json"))
    except LocalEntryNotFoundError:
        return None
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the hub has no policy {hub_id} for you ({cause}); check the name, and HF_TOKEN"
        ) from error
    except OSError:
        return None


def vocabulary_size(path: Path | str) -> int:
    """The number of ids of a policy: the rows of its embedding, which may be more than its tokenizer has.

    Args:
        path: What `resolve_checkpoint` returned: a folder or a hub id.

    Raises:
        CheckpointError: There is no `config.json`, it is broken, or the hub does not answer.
    """
    with loading(path):
        return int(AutoConfig.from_pretrained(path).get_text_config().vocab_size)
