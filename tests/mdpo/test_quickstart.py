"""The quickstart's problems: right ways are right, wrong ways are wrong, and the splits never meet."""

import random
from collections import Counter
from itertools import islice

import pytest

from eval import check, extract_answer
from mdpo.demonstration import Demonstration
from mdpo.quickstart.families import FAMILIES, Family
from mdpo.quickstart.problems import generate_demonstrations, generate_problems
from mdpo.render import last_program
from sandbox import Sandbox, Session


def follow(family: Family, way: str, numbers: tuple[int, ...], session: Session) -> tuple[list[str], str]:
    """The statuses and the last output of one way through a problem."""
    outputs: list[str] = []
    statuses: list[str] = []
    while (step := getattr(family, way)(numbers, outputs)) is not None:
        result = session.run_sync(step.code)
        outputs.append(result.text)
        statuses.append(result.status)
    return statuses, outputs[-1]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_right_way_gives_the_gold_answer_and_the_wrong_way_does_not(family: Family) -> None:
    rng = random.Random(7)
    with Sandbox() as sandbox, sandbox.session() as session:
        for _ in range(40):
            numbers = family.draw(rng)
            gold = str(family.answer(*numbers))
            assert follow(family, "right", numbers, session)[1] == gold
            assert follow(family, "wrong", numbers, session)[1] != gold


def test_some_families_need_two_calls_and_one_recovers_from_an_error() -> None:
    rng = random.Random(0)
    with Sandbox() as sandbox, sandbox.session() as session:
        statuses = {f.name: follow(f, "right", f.draw(rng), session)[0] for f in FAMILIES}
    assert sum(len(calls) == 2 for calls in statuses.values()) >= 3
    assert statuses["photos"] == ["error", "ok"]


def test_half_of_the_families_are_mostly_shown_wrongly() -> None:
    assert Counter(family.right_share > 0.5 for family in FAMILIES) == {True: 4, False: 4}


def test_training_and_held_out_problems_never_meet_whatever_the_seeds() -> None:
    train = {problem.id for seed in range(3) for problem in generate_problems("train", 2000, seed)}
    test = {problem.id for seed in range(3) for problem in generate_problems("test", 500, seed)}
    assert not train & test


def test_problems_are_distinct_repeatable_and_spread_over_the_families() -> None:
    problems = generate_problems("test", 160, seed=3)
    assert problems == generate_problems("test", 160, seed=3) != generate_problems("test", 160, seed=4)
    assert len({problem.id for problem in problems}) == 160
    assert set(Counter(problem.subject for problem in problems).values()) == {20}


def test_demonstrations_are_imperfect_in_the_share_that_is_written_down(demonstrations: list[Demonstration]) -> None:
    with Sandbox() as sandbox, sandbox.session() as session:
        many = list(generate_demonstrations(1600, session.run_sync, seed=1))
    right: Counter[str] = Counter()
    for demonstration in many:
        answer = extract_answer(demonstration.actions[-1])
        right[demonstration.problem_id.partition("-")[0]] += check(str(answer), demonstration.answer)
    for family in FAMILIES:
        assert right[family.name] / 200 == pytest.approx(family.right_share, abs=0.12)


def test_observations_of_demonstrations_are_what_the_sandbox_answers(demonstrations: list[Demonstration]) -> None:
    with Sandbox() as sandbox:
        for demonstration in islice(demonstrations, 8):
            with sandbox.session() as session:
                programs = [last_program(action) for action in demonstration.actions[:-1]]
                outputs = [session.run_sync(str(program)).text for program in programs]
            assert tuple(outputs) == demonstration.observations
