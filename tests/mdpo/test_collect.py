"""Many attempts at once: only what is missing is made, nothing is lost, and no file is mixed up with another."""

import asyncio
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from eval import Problem
from mdpo.chat import ChatFormat
from mdpo.collect import collect, read_asked
from mdpo.engines.base import Completion, SamplingParams
from mdpo.errors import DataError, EngineError
from mdpo.plan import Extra, Ledger, Plan, Share
from mdpo.rollout import Agent, Sampling
from mdpo.trajectory import read_trajectories
from sandbox import Sandbox
from tests.mdpo.scripted import PROBLEM, Script, Solver

QUIET = Sampling(tool=False)


def many(count: int) -> list[Problem]:
    return [replace(PROBLEM, id=f"p{i}", question=f"{i}: what is 6 * 7?") for i in range(count)]


def gather(path: Path, engine: Script, problems: Sequence[Problem], plan: Plan, policy: str = "script") -> Ledger:
    agent = Agent(engine, engine.chat, None, policy)
    return asyncio.run(collect(agent, problems, plan, path, concurrency=4))


def alike(samples: int, **sampling: float) -> Plan:
    return Plan((Share(replace(QUIET, **sampling), samples),))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


def test_only_what_a_file_lacks_is_sampled(chat: ChatFormat, path: Path) -> None:
    problems = many(6)
    gather(path, Solver(chat), problems[:4], alike(2))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]) + lines[5][:30])
    engine = Solver(chat)
    ledger = gather(path, engine, problems, alike(2))
    assert len(engine.prompts) == 12 - 5
    assert {t.key for t in read_trajectories(path)} == {(p.id, s) for p in problems for s in range(2)}
    assert ledger.tally.trajectories == len(list(read_trajectories(path))) == 12


def test_a_finished_file_needs_no_engine(chat: ChatFormat, path: Path) -> None:
    gather(path, Solver(chat), many(3), alike(2))
    written = path.read_bytes()
    engine = Solver(chat)
    gather(path, engine, many(3), alike(2))
    assert (engine.prompts, path.read_bytes()) == ([], written)


def test_trajectories_that_the_plan_does_not_ask_for_are_left_alone(chat: ChatFormat, path: Path) -> None:
    gather(path, Solver(chat), many(3), alike(2))
    assert gather(path, Solver(chat), many(2), alike(1)).tally.trajectories == 2
    assert [t.key for t in read_asked(path, many(2), alike(1))] == [("p0", 0), ("p1", 0)]
    assert len(list(read_trajectories(path))) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"problems": [replace(PROBLEM, id="p0", question="Other?")]},
            "problem p0, sample 0: .* another question",
        ),
        ({"policy": "another"}, "sampled by script, and not by another"),
        ({"plan": alike(1, temperature=0.5)}, r"sampled with temperature=1\.0, and not 0\.5"),
    ],
)
def test_a_file_that_was_made_otherwise_is_refused(
    chat: ChatFormat, path: Path, change: dict[str, object], message: str
) -> None:
    gather(path, Solver(chat), many(1), alike(1))
    arguments = {"problems": many(1), "plan": alike(1), "policy": "script"} | change
    with pytest.raises(DataError, match=message):
        gather(path, Solver(chat), **arguments)  # type: ignore[arg-type]


def test_a_file_with_other_prompts_is_refused(chat: ChatFormat, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    gather(path, Solver(chat), many(1), alike(1))
    with pytest.raises(DataError, match="another tokenizer, template or system prompt"):
        gather(path, Solver(ChatFormat(tokenizer, system="Be brief.")), many(1), alike(1))


def test_the_same_policy_by_another_path_is_the_same(chat: ChatFormat, path: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    gather(path, Solver(chat), many(1), alike(1), policy=str(tmp_path / "policy"))
    gather(path, Solver(chat), many(1), alike(2), policy=str(tmp_path / "x" / ".." / "policy"))


def test_two_problems_with_one_id_are_refused(chat: ChatFormat, path: Path) -> None:
    with pytest.raises(DataError, match="two problems have the id p0"):
        gather(path, Solver(chat), [*many(1), *many(1)], alike(1))


def test_no_more_attempts_are_in_flight_than_allowed(chat: ChatFormat, path: Path) -> None:
    engine = Solver(chat)
    gather(path, engine, many(20), alike(2))
    assert engine.most_in_flight == 4


def test_an_engine_that_fails_stops_the_run_and_what_was_written_stays(chat: ChatFormat, path: Path) -> None:
    class Failing(Solver):
        async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
            if len(self.prompts) >= 5:
                raise EngineError("out of memory")
            return await super().generate(prompt_ids, params)

    with pytest.raises(EngineError, match="out of memory"):
        gather(path, Failing(chat), many(20), alike(1))
    kept = {t.key for t in read_trajectories(path)}
    assert 1 <= len(kept) < 20
    engine = Solver(chat)
    gather(path, engine, many(20), alike(1))
    assert len(engine.prompts) == 20 - len(kept)


@pytest.fixture
def little_space() -> Iterator[int]:
    """No file of this process may grow past so many bytes."""
    space = 3000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (space, before[1]))
    yield space
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_whole_lines_and_the_same_command_goes_on(
    chat: ChatFormat, path: Path, little_space: int
) -> None:
    with pytest.raises(DataError, match=r"cannot write .*t\.jsonl.*free some space"):
        gather(path, Solver(chat), many(20), alike(1))
    assert path.read_bytes().endswith(b"\n")
    kept = len(list(read_trajectories(path)))
    assert 1 <= kept < 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    engine = Solver(chat)
    gather(path, engine, many(20), alike(1))
    assert len(engine.prompts) == 20 - kept


def test_several_policies_share_a_file_and_the_own_one_comes_last(chat: ChatFormat, path: Path) -> None:
    plan = Plan((Share(QUIET, 2), Share(replace(QUIET, temperature=0.5), 1, policy="previous")))
    engine = Solver(chat)
    gather(path, engine, many(3), plan)
    made = [(t.policy, t.sample, t.sampling["temperature"]) for t in read_trajectories(path)]
    assert made == [("previous", 2, 0.5)] * 3 + [("script", 0, 1.0), ("script", 1, 1.0)] * 3
    assert engine.loaded == ["previous", "script"]
    gather(path, engine, many(3), plan)
    assert engine.loaded == ["previous", "script"]  # nothing was missing, so nothing was loaded


def test_one_policy_at_several_temperatures_is_not_loaded_again(chat: ChatFormat, path: Path) -> None:
    engine = Solver(chat)
    gather(path, engine, many(1), Plan((Share(QUIET, 1), Share(replace(QUIET, temperature=0.5), 1))))
    assert sorted(params.temperature for params in engine.params) == [0.5, 1.0]
    assert engine.loaded == []


def test_a_problem_without_both_outcomes_gets_more_attempts_until_it_has_them(chat: ChatFormat, path: Path) -> None:
    plan = Plan((Share(QUIET, 2),), Extra(most=6, step=2))
    ledger = gather(path, Solver(chat, ["42", "42", "42", "41"]), many(1), plan)
    assert sorted(t.sample for t in read_trajectories(path)) == [0, 1, 2, 3]
    assert ledger.mixed == 1


def test_extra_attempts_end_at_the_most_a_problem_may_have_and_at_the_budget(chat: ChatFormat, path: Path) -> None:
    plan = Plan((Share(QUIET, 2),), Extra(most=5, step=2, budget=13))
    ledger = gather(path, Solver(chat), many(4), plan)
    assert ledger.tally.trajectories == 4 * 2 + 13
    assert max(t.sample for t in read_trajectories(path)) == 2 + 5 - 1


def test_extra_attempts_go_on_after_a_kill(chat: ChatFormat, path: Path) -> None:
    plan = Plan((Share(QUIET, 2),), Extra(most=4, step=2))
    gather(path, Solver(chat), many(3), plan)
    whole = {t.key for t in read_trajectories(path)}
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 3):
        path.write_bytes(b"".join(lines[:kept]))
        gather(path, Solver(chat), many(3), plan)
        assert {t.key for t in read_trajectories(path)} == whole


def test_what_another_policy_makes_necessary_is_sampled_by_the_own_one(chat: ChatFormat, path: Path) -> None:
    plan = Plan((Share(QUIET, 1), Share(QUIET, 1, policy="previous")), Extra(most=2, step=2))
    gather(path, Solver(chat), many(2), replace(plan, shares=plan.shares[:1], extra=None))
    gather(path, Solver(chat), many(2), plan)
    assert {t.sample: t.policy for t in read_trajectories(path)} == {
        0: "script", 1: "previous", 2: "script", 3: "script",
    }  # fmt: skip


def test_the_real_sandbox_serves_many_at_once(chat: ChatFormat, path: Path) -> None:
    class Caller(Solver):
        async def generate(self, prompt_ids: list[int], params: SamplingParams) -> Completion:
            ids = self.chat.action_ids("```python\nprint(6 * 7)\n```")
            self.prompts.append(prompt_ids)
            return Completion(ids, [-1.0] * len(ids), "stop")

    async def work() -> None:
        async with Sandbox() as sandbox:
            agent = Agent(Caller(chat), chat, sandbox, "script")
            await collect(agent, many(12), Plan((Share(Sampling(horizon=2)),)), path, concurrency=6)

    asyncio.run(work())
    observed = [t.turns[0].observation for t in read_trajectories(path)]
    assert observed == ["```output\n42\n```"] * 12
