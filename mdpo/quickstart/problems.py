"""The quickstart's problems and demonstrations, generated from a seed."""

import random
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

from eval import Problem
from mdpo.demonstration import Demonstration
from mdpo.errors import DataError
from mdpo.quickstart.families import FAMILIES, Family, Numbers
from mdpo.render import answer_action, call_action
from sandbox import ExecutionResult

Split = Literal["train", "test"]

# One problem in ten is held out.
_HELD_OUT = 10
# So many draws in a row that give nothing new show that a family is exhausted.
_DRAWS = 2000


def generate_problems(split: Split, count: int, seed: int = 0) -> list[Problem]:
    """Distinct problems of one split, the families in turn.

    Whether a problem is held out is decided by its own numbers, so the splits never overlap, whatever the seeds.
    """
    return [_problem(family, numbers) for family, numbers in _draw(split, count, random.Random(f"{split}-{seed}"))]


def generate_demonstrations(
    count: int, run: Callable[[str], ExecutionResult], seed: int = 0
) -> Iterator[Demonstration]:
    """Imperfect demonstrations on training problems: each family's right way in its `right_share` of the cases.

    Args:
        count: How many.
        run: Runs a program; what it gives back becomes the observation.
        seed: Of the problems and of the choice between the two ways.
    """
    rng = random.Random(f"demonstrations-{seed}")
    for family, numbers in _draw("train", count, rng):
        way = family.right if rng.random() < family.right_share else family.wrong
        actions: list[str] = []
        outputs: list[str] = []
        while (step := way(numbers, outputs)) is not None:
            actions.append(call_action(step.thought, step.code))
            outputs.append(run(step.code).text)
        actions.append(answer_action(outputs[-1]))
        problem = _problem(family, numbers)
        yield Demonstration(
            problem_id=problem.id,
            question=problem.question,
            answer=problem.answer,
            source=problem.source,
            actions=tuple(actions),
            observations=tuple(outputs),
        )


def _draw(split: Split, count: int, rng: random.Random) -> Iterator[tuple[Family, Numbers]]:
    seen: set[tuple[str, Numbers]] = set()
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        for _ in range(_DRAWS):
            numbers = family.draw(rng)
            if _split(family, numbers) == split and (family.name, numbers) not in seen:
                break
        else:
            raise DataError(f"the quickstart has no {count} distinct problems of the {split} split; ask for fewer")
        seen.add((family.name, numbers))
        yield family, numbers


def _split(family: Family, numbers: Numbers) -> Split:
    # A checksum, not `hash`: it must be the same in every process.
    return "test" if zlib.crc32(f"{family.name} {numbers}".encode()) % _HELD_OUT == 0 else "train"


def _problem(family: Family, numbers: Numbers) -> Problem:
    return Problem(
        id="-".join([family.name, *map(str, numbers)]),
        question=family.question(*numbers),
        answer=str(family.answer(*numbers)),
        source="quickstart",
        subject=family.name,
    )
