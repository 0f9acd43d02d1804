"""A rollout of simulated trajectories in a process of its own, to see what one costs in memory and time.

The engine and the sandbox answer at once: an action with a program, its output, an action with the answer. The policy's
tokenizer and chat template are real, and every trajectory goes to a file. No torch is imported: the peak is that of
collecting, not of a model.

    python benchmarks/rollout_memory.py TRAJECTORIES FILE
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.collect import collect
from mdpo.engines.base import Completion, SamplingParams
from mdpo.plan import Plan, Share
from mdpo.render import answer_action, call_action
from mdpo.rollout import Agent, Sampling
from sandbox import ExecutionResult

CHECKPOINT = Path(__file__).parents[1] / "mdpo" / "quickstart" / "checkpoint"
SAMPLES = 4


@dataclass(frozen=True)
class Cost:
    """Peak resident memory before and after, the size of the file (MB, 10⁶ bytes), and the seconds of it all."""

    trajectories: int
    before_mb: float
    peak_mb: float
    seconds: float
    file_mb: float


class Scripted:
    """An engine that says the same two actions to everyone."""

    context_length = 512

    def __init__(self, chat: ChatFormat) -> None:
        program = "total = 0\nfor row in range(1, 8):\n    total = total + 12 * row\nprint(total)"
        actions = [call_action("Add the seats of each row.", program), answer_action("336")]
        self._ids = [chat.action_ids(action) for action in actions]
        self._prompt_tokens = len(chat.prompt_ids(next(simulated(1)).question))

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        ids = self._ids[len(prompt_ids) > self._prompt_tokens]
        # Numbers as a sampler gives them: their digits are most of a line of the file.
        return Completion(list(ids), [-0.123456789 / (place + 1) for place in range(len(ids))], "stop")

    async def load(self, checkpoint: Path) -> None: ...

    async def close(self) -> None: ...


class Instant:
    """A sandbox and its session in one, with the same answer to everyone."""

    def session(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, code: str) -> ExecutionResult:
        return ExecutionResult("ok", "336\n", None, 0.001, False)


def simulated(count: int) -> Iterator[Problem]:
    """Problems with one question."""
    for number in range(count):
        question = "A hall has 7 rows of seats. The first row has 12 seats, and each row has 12 more. How many seats?"
        yield Problem(f"simulated-{number}", question, "336", "simulated")


def peak_mb() -> float:
    """Peak resident memory of this process. Not `ru_maxrss`, which starts from that of the process that forked it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def collect_simulated(trajectories: int, path: Path) -> Cost:
    """Collect that many into a file, in this process."""
    from transformers import PreTrainedTokenizerFast

    chat = ChatFormat(PreTrainedTokenizerFast.from_pretrained(CHECKPOINT))
    sandbox: Any = Instant()
    agent = Agent(Scripted(chat), chat, sandbox, "scripted")
    plan = Plan((Share(Sampling(max_tokens=448), SAMPLES),))
    problems = list(simulated(trajectories // SAMPLES))
    before = peak_mb()
    began = time.perf_counter()
    asyncio.run(collect(agent, problems, plan, path))
    seconds = time.perf_counter() - began
    return Cost(trajectories // SAMPLES * SAMPLES, before, peak_mb(), seconds, path.stat().st_size / 1e6)


def measure(trajectories: int, path: Path) -> Cost:
    """The same in a fresh process."""
    command = [sys.executable, __file__, str(trajectories), str(path)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the process of the simulated trajectories failed:\n{done.stderr}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(vars(collect_simulated(int(sys.argv[1]), Path(sys.argv[2])))))
