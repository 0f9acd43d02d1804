"""Hold M-DPO's training against stock TRL and a bare PyTorch loop, on the same random trajectories.

    python benchmarks/train.py [--json FILE]

Three trainings, each in a process of its own: mdpo; TRL's `DPOTrainer` with its defaults, which gets the same ids; and
a bare loop: one forward and one backward pass of the policy for each trajectory, unpadded, with the logits at action
positions only, and nothing else, no optimizer and no metrics. They run in turn, for some rounds, and the best
turn of each counts. Time is processor time on one thread, which other programs on a shared machine disturb least; the
clock is shown, too. Memory is the peak resident set of the training, less what the process held after its imports:
weights, gradients and Adam's state are in it. Both trainers take the reference's log-probabilities precomputed, and
that is not in their time.

The policy is a random Llama. Of a trajectory's tokens a quarter is the prompt and a quarter observations; lengths
spread four times.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table

from benchmarks.bars import Bar, at_least, at_most, describe_machine, show_bars

FASTER, MEMORY, BARE, PADDING = 1.5, 0.6, 1.15, 0.05


@dataclass(frozen=True)
class Size:
    """What is trained on what."""

    vocabulary: int
    hidden: int
    layers: int
    pairs: int
    shortest: int
    batch: int
    seed: int = 0


@dataclass(frozen=True)
class Turn:
    """One training: its action tokens, seconds (wall clock and processor), memory, and share of padding."""

    name: str
    action_tokens: int
    seconds: float
    cpu_seconds: float
    mib: float
    padding: float


def random_pairs(size: Size) -> list[Any]:
    """Pairs whose sides have from `shortest` to four times as many tokens, half of them action tokens in two turns."""
    import random

    from mdpo.preference import Pair

    rng = random.Random(size.seed)

    def ids(count: int) -> list[int]:
        return [rng.randrange(4, size.vocabulary) for _ in range(count)]

    def side(length: int, prompt: int) -> tuple[list[int], list[int]]:
        seen = length // 4
        first = (length - prompt - seen) // 2
        last = length - prompt - seen - first
        return ids(first + seen + last), [1] * first + [0] * seen + [1] * last

    pairs = []
    for number in range(size.pairs):
        lengths = [rng.randint(size.shortest, 4 * size.shortest) for _ in range(2)]
        prompt = sum(lengths) // 8
        chosen, rejected = (side(length, prompt) for length in lengths)
        pairs.append(Pair(f"p{number}", 0, 1, ids(prompt), *chosen, *rejected))
    return pairs


def policy(size: Size, folder: Path) -> Path:
    """A random Llama and a tokenizer that nobody asks, as a checkpoint."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target = folder / "policy"
    if not target.exists():
        torch.manual_seed(size.seed)
        heads = max(1, size.hidden // 64)
        config = LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=4 * size.hidden,
            num_hidden_layers=size.layers, num_attention_heads=heads, num_key_value_heads=heads,
            tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(target)
        words = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}, unk_token="<unk>"))
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
        ).save_pretrained(target)
    return target


COMMON = {"learning_rate": 1e-6, "warmup_steps": 0, "save_strategy": "no", "num_train_epochs": 1, "bf16": False}


def ours(size: Size, folder: Path) -> Callable[[], dict[str, float]]:
    """mdpo's M-DPO; the reference's log-probabilities are there already, as TRL's are precomputed below."""
    from transformers.trainer_callback import PrinterCallback

    from mdpo.data import pair_dataset
    from mdpo.train.dpo import mdpo_trainer
    from mdpo.train.stage import TrainStage

    rows, _ = pair_dataset(random_pairs(size), 10**6)
    args = {**COMMON, "per_device_train_batch_size": 1, "gradient_accumulation_steps": size.batch}
    stage = TrainStage(folder / "ours", args, 0, lambda *_: None)
    checkpoint = policy(size, folder)
    trainer, _ = mdpo_trainer(checkpoint, checkpoint, rows, stage)

    def work() -> dict[str, float]:
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return {"padding": max(row.get("padding", 0.0) for row in trainer.state.log_history)}

    return work


def stock(size: Size, folder: Path) -> Callable[[], dict[str, float]]:
    """TRL's `DPOTrainer` with its defaults, on ids instead of text; the reference's log-probabilities precomputed."""
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from mdpo.checkpoint import load_model, load_tokenizer

    class Prepared(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
            return dataset

    rows = [{"prompt_ids": p.prompt_ids, "chosen_ids": p.chosen_ids, "rejected_ids": p.rejected_ids}
            for p in random_pairs(size)]  # fmt: skip
    checkpoint = policy(size, folder)
    batch = DPOConfig(use_cpu=True, bf16=False).per_device_train_batch_size
    args = DPOConfig(
        output_dir=str(folder / "stock"), report_to="none", use_cpu=True, disable_tqdm=True, max_length=None,
        logging_strategy="no",
        precompute_ref_log_probs=True, gradient_accumulation_steps=max(1, size.batch // batch), **COMMON,
    )  # fmt: skip
    trainer = Prepared(
        load_model(checkpoint, torch.float32), args=args, train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(checkpoint),
    )  # fmt: skip

    def work() -> dict[str, float]:
        trainer.train()
        return {}

    return work


def bare(size: Size, folder: Path) -> Callable[[], dict[str, float]]:
    """One forward and one backward pass for each trajectory, nothing else."""
    import torch

    from mdpo.checkpoint import load_model

    model = load_model(policy(size, folder), torch.float32)
    sequences = [
        (torch.tensor([pair.prompt_ids + ids]), torch.tensor([0] * len(pair.prompt_ids) + mask).bool())
        for pair in random_pairs(size)
        for ids, mask in ((pair.chosen_ids, pair.chosen_mask), (pair.rejected_ids, pair.rejected_mask))
    ]

    def work() -> dict[str, float]:
        for ids, mask in sequences:
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, :-1][mask[1:]]
            logits = model.lm_head(hidden)
            torch.nn.functional.cross_entropy(logits, ids[0, 1:][mask[1:]], reduction="sum").backward()
        return {}

    return work


KINDS = {"mdpo": ours, "TRL DPOTrainer": stock, "bare loop": bare}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_turn(name: str, size: Size, folder: Path, results: Connection) -> None:
    """In a fresh process: import, build, train, and say how long the training took and what it held."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import trl  # noqa: F401 - what every kind imports is not counted as its memory

    import mdpo.train.dpo  # noqa: F401

    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    held = peak_mib()
    work = KINDS[name](size, folder)
    started, cpu = time.monotonic(), time.process_time()
    measured = work()
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu
    actions = sum(sum(p.chosen_mask) + sum(p.rejected_mask) for p in random_pairs(size))
    results.send(Turn(name, actions, seconds, cpu_seconds, peak_mib() - held, measured.get("padding", 0.0)))


def turns(size: Size, rounds: int, console: Console) -> list[Turn]:
    """Every kind in turn, so often; each turn in a process of its own."""
    found = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for name in KINDS:
                console.print(f"round {number + 1}: {name} …")
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=one_turn, args=(name, size, Path(temporary), sender))
                process.start()
                sender.close()
                # A process that failed has said why, and closed its end.
                found.append(receiver.recv())
                process.join()
    return found


def bars(found: list[Turn]) -> list[Bar]:
    """The promises, from the best turn of each kind."""
    best = {name: min((t for t in found if t.name == name), key=lambda t: t.cpu_seconds) for name in KINDS}
    mib = {name: min(t.mib for t in found if t.name == name) for name in KINDS}
    mdpo, trl, loop = best["mdpo"], best["TRL DPOTrainer"], best["bare loop"]
    return [
        at_least("action tokens/s of M-DPO, times TRL's", trl.cpu_seconds / mdpo.cpu_seconds, FASTER),
        at_most("peak memory, share of TRL's", mib["mdpo"] / mib["TRL DPOTrainer"], MEMORY),
        at_most("time, times a bare loop's", mdpo.cpu_seconds / loop.cpu_seconds, BARE),
        at_most("share of padding", max(t.padding for t in found), PADDING),
    ]


def show(found: list[Turn], console: Console) -> None:
    table = Table(
        "training", "action tokens/CPU s", "CPU seconds", "seconds", "peak MiB", "padding", title=describe_machine()
    )
    for turn in found:
        rate = turn.action_tokens / turn.cpu_seconds
        table.add_row(turn.name, f"{rate:,.0f}", f"{turn.cpu_seconds:.1f}", f"{turn.seconds:.1f}", f"{turn.mib:,.0f}",
                      f"{100 * turn.padding:.1f} %" if turn.padding else "")  # fmt: skip
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=131072)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--shortest", type=int, default=128, help="tokens of the shortest trajectory")
    parser.add_argument("--batch", type=int, default=8, help="pairs of an optimizer step")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    os.environ["BENCH_THREADS"] = str(args.threads)
    size = Size(args.vocabulary, args.hidden, args.layers, args.pairs, args.shortest, args.batch)
    console = Console()
    found = turns(size, args.rounds, console)
    checked = bars(found)
    show(found, console)
    show_bars(checked, {}, console)
    if args.json:
        values = {"machine": describe_machine(), "size": asdict(size), "bars": [asdict(bar) for bar in checked],
                  "turns": [asdict(turn) for turn in found]}  # fmt: skip
        args.json.write_text(json.dumps(values, indent=1) + "\n")
    sys.exit(0 if all(bar.holds for bar in checked) else 1)


if __name__ == "__main__":
    main()
