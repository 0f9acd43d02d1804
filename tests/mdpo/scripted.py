"""Engines that say what a test wrote."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.engines.base import Completion, SamplingParams
from mdpo.render import answer_action

PROBLEM = Problem(id="p", question="What is 6 * 7?", answer="42", source="test")


class Script:
    """An engine that samples the given texts, one a call; an action above the limit is cut there."""

    def __init__(self, chat: ChatFormat, actions: Sequence[str], context_length: int = 1000) -> None:
        self.chat, self.actions, self.context_length = chat, list(actions), context_length
        self.prompts: list[list[int]] = []
        self.params: list[SamplingParams] = []
        self.loaded: list[str] = []

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        self.prompts.append(prompt_ids)
        self.params.append(params)
        ids = self.chat.action_ids(self.actions[len(self.prompts) - 1])
        finish = "stop" if len(ids) <= params.max_tokens else "length"
        ids = ids[: params.max_tokens]
        return Completion(ids, [-1.0] * len(ids), finish)  # type: ignore[arg-type]

    async def load(self, checkpoint: Path) -> None:
        self.loaded.append(str(checkpoint))

    async def close(self) -> None: ...


class Solver(Script):
    """Answers every problem at once, with 42 unless told otherwise."""

    def __init__(self, chat: ChatFormat, answers: Sequence[str] = ("42",)) -> None:
        super().__init__(chat, [])
        self.answers = answers
        self.in_flight = self.most_in_flight = 0

    async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
        self.prompts.append(prompt_ids)
        self.params.append(params)
        answer = self.answers[len(self.prompts) % len(self.answers)]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        ids = self.chat.action_ids(answer_action(answer))
        return Completion(ids, [-1.0] * len(ids), "stop")
