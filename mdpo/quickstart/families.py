"""Eight families of word problems, each with a right and a plausible wrong way to set the program up.

A tiny policy cannot do the arithmetic in its head, but it can copy numbers into a program. What it has to *learn* is
the set-up: in each family the demonstrations show the right way in a share of the cases (`right_share`) and a typical
mistake in the rest. So a policy that imitates them decodes greedily into the wrong program in half of the families,
while sampling finds both programs, which is what preference learning needs.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb, perm

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One call: a sentence of reasoning and the program that follows it."""

    thought: str
    code: str


@dataclass(frozen=True, slots=True)
class Family:
    """One family of problems.

    Attributes:
        name: A short name, used as the problem's subject.
        right_share: How often the demonstrations set the program up rightly.
        draw: Draws the numbers of a problem.
        question: The text for the numbers.
        answer: The gold answer, computed without the program.
        right, wrong: The next call, given the numbers and the outputs of the calls so far; `None` when done.
    """

    name: str
    right_share: float
    draw: Callable[[random.Random], Numbers]
    question: Callable[..., str]
    answer: Callable[..., int]
    right: Callable[[Numbers, Sequence[str]], Step | None]
    wrong: Callable[[Numbers, Sequence[str]], Step | None]


def _one_call(write: Callable[..., Step]) -> Callable[[Numbers, Sequence[str]], Step | None]:
    """A way that needs one call."""
    return lambda numbers, outputs: None if outputs else write(*numbers)


def _two_calls(
    first: Callable[..., Step], second: Callable[..., Step]
) -> Callable[[Numbers, Sequence[str]], Step | None]:
    """A way whose second call uses the output of the first."""

    def next_call(numbers: Numbers, outputs: Sequence[str]) -> Step | None:
        if not outputs:
            return first(*numbers)
        return second(outputs[0], *numbers) if len(outputs) == 1 else None

    return next_call


def _savings_answer(dollars: int, percent: int, years: int) -> int:
    return int(dollars * Fraction(100 + percent, 100) ** years)


def _savings(gain: str, thought: str) -> Callable[..., Step]:
    return lambda dollars, percent, years: Step(
        thought,
        f"balance = {dollars}\nfor year in range({years}):\n"
        f"    balance = balance + {gain.format(dollars=dollars)} * {percent} / 100\nprint(int(balance))",
    )


SAVINGS = Family(
    name="savings",
    right_share=0.35,
    draw=lambda rng: (rng.randrange(1000, 10000), rng.randrange(3, 16), rng.randrange(5, 25)),
    question=lambda dollars, percent, years: (
        f"An account holds {dollars} dollars. Each year the bank adds {percent} percent interest to it. "
        f"How many whole dollars does it hold after {years} years?"
    ),
    answer=_savings_answer,
    right=_one_call(_savings("balance", "The interest earns interest too.")),
    wrong=_one_call(_savings("{dollars}", "The interest is the same each year.")),
)


def _multiples_draw(rng: random.Random) -> Numbers:
    step, first = rng.randrange(3, 60), rng.randrange(100, 1000)
    return step, first, step * (first // step + rng.randrange(10, 100))


MULTIPLES = Family(
    name="multiples",
    right_share=0.65,
    draw=_multiples_draw,
    question=lambda step, first, last: f"What is the sum of all multiples of {step} from {first} to {last}?",
    answer=lambda step, first, last: sum(n for n in range(first, last + 1) if n % step == 0),
    right=_one_call(
        lambda step, first, last: Step(
            "The last number counts too.", f"print(sum(n for n in range({first}, {last} + 1) if n % {step} == 0))"
        )
    ),
    wrong=_one_call(
        lambda step, first, last: Step(
            "Go through the numbers.", f"print(sum(n for n in range({first}, {last}) if n % {step} == 0))"
        )
    ),
)

TEAM = Family(
    name="team",
    right_share=0.3,
    draw=lambda rng: (rng.randrange(10, 100), rng.randrange(10, 100), rng.randrange(3, 5)),
    question=lambda women, men, size: (
        f"A club has {women} women and {men} men. In how many ways can a team of {size} members be chosen?"
    ),
    answer=lambda women, men, size: comb(women + men, size),
    right=_one_call(
        lambda women, men, size: Step(
            "The order in a team does not matter.", f"from math import comb\nprint(comb({women} + {men}, {size}))"
        )
    ),
    wrong=_one_call(
        lambda women, men, size: Step(
            "Choose the members one after another.", f"from math import perm\nprint(perm({women} + {men}, {size}))"
        )
    ),
)

DISCOUNT = Family(
    name="discount",
    right_share=0.7,
    draw=lambda rng: (rng.randrange(1000, 10000), rng.randrange(11, 40), rng.randrange(11, 40)),
    question=lambda price, first, second: (
        f"A machine costs {price} dollars. Its price falls by {first} percent and later by another {second} percent. "
        f"How many whole dollars does it cost then?"
    ),
    answer=lambda price, first, second: int(price * Fraction(100 - first, 100) * Fraction(100 - second, 100)),
    right=_one_call(
        lambda price, first, second: Step(
            "The second cut is taken from the lower price.",
            f"print({price} * (100 - {first}) * (100 - {second}) // 10000)",
        )
    ),
    wrong=_one_call(
        lambda price, first, second: Step("Add up the two cuts.", f"print({price} * (100 - {first} - {second}) // 100)")
    ),
)


def _speed_draw(rng: random.Random) -> Numbers:
    # Far enough apart for the two means to differ by more than the rounding.
    slow = rng.randrange(30, 300)
    return slow, slow + rng.randrange(30, 300)


SPEED = Family(
    name="speed",
    right_share=0.35,
    draw=_speed_draw,
    question=lambda there, back: (
        f"A train goes to a town at {there} km per hour and comes back on the same track at {back} km per hour. "
        f"What is its average speed in whole km per hour?"
    ),
    answer=lambda there, back: int(2 / (Fraction(1, there) + Fraction(1, back))),
    right=_one_call(
        lambda there, back: Step("The slow part takes more time.", f"print(2 * {there} * {back} // ({there} + {back}))")
    ),
    wrong=_one_call(lambda there, back: Step("Take the mean of the speeds.", f"print(({there} + {back}) // 2)")),
)


def _lamps_answer(limit: int, bulbs: int, broken: int) -> int:
    primes = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))
    return primes * bulbs - broken


def _count_primes(limit: int, bulbs: int, broken: int) -> Step:
    return Step("First count the lamps.", f"from sympy import primerange\nprint(len(list(primerange(2, {limit}))))")


LAMPS = Family(
    name="lamps",
    right_share=0.65,
    draw=lambda rng: (rng.randrange(200, 3000), rng.randrange(11, 100), rng.randrange(11, 40)),
    question=lambda limit, bulbs, broken: (
        f"A hall has one lamp for every prime number below {limit}. Each lamp has {bulbs} bulbs, and {broken} bulbs of "
        f"the hall are broken. How many bulbs work?"
    ),
    answer=_lamps_answer,
    right=_two_calls(
        _count_primes,
        lambda lamps, limit, bulbs, broken: Step("Now take off the bulbs.", f"print({lamps} * {bulbs} - {broken})"),
    ),
    wrong=_two_calls(
        _count_primes,
        lambda lamps, limit, bulbs, broken: Step("Now take off the lamps.", f"print(({lamps} - {broken}) * {bulbs})"),
    ),
)


def _digit_sum(base: int, exponent: int) -> Step:
    return Step("First find the number of guests.", f"print(sum(int(d) for d in str({base} ** {exponent})))")


def _handshakes_answer(base: int, exponent: int) -> int:
    return comb(sum(int(digit) for digit in str(base**exponent)), 2)


HANDSHAKES = Family(
    name="handshakes",
    right_share=0.3,
    draw=lambda rng: (rng.randrange(2, 1000), rng.randrange(10, 60)),
    question=lambda base, exponent: (
        f"The number of guests at a party is the sum of the digits of {base} to the power {exponent}. Every two guests "
        f"shake hands once. How many handshakes are there?"
    ),
    answer=_handshakes_answer,
    right=_two_calls(
        _digit_sum,
        lambda guests, base, exponent: Step(
            "Two guests share one handshake.", f"print({guests} * ({guests} - 1) // 2)"
        ),
    ),
    wrong=_two_calls(
        _digit_sum,
        lambda guests, base, exponent: Step("Each guest greets all others.", f"print({guests} * ({guests} - 1))"),
    ),
)


def _half_as_float(members: int, places: int, cost: int) -> Step:
    # `/` gives a float, which `perm` refuses: an error to recover from.
    return Step("Half of them are adults.", f"from math import perm\nprint(perm({members} / 2, {places}) * {cost})")


PHOTOS = Family(
    name="photos",
    right_share=0.7,
    draw=lambda rng: (2 * rng.randrange(10, 100), rng.randrange(2, 4), rng.randrange(3, 100)),
    question=lambda members, places, cost: (
        f"Half of the {members} members of a club are adults. A photo is taken of every possible row of {places} "
        f"adults, and each photo costs {cost} cents. How many cents do all photos cost?"
    ),
    answer=lambda members, places, cost: perm(members // 2, places) * cost,
    right=_two_calls(
        _half_as_float,
        lambda error, members, places, cost: Step(
            "Halve the members as an integer.", f"from math import perm\nprint(perm({members} // 2, {places}) * {cost})"
        ),
    ),
    wrong=_two_calls(
        _half_as_float,
        lambda error, members, places, cost: Step(
            "Halve the result instead.", f"from math import perm\nprint(perm({members}, {places}) // 2 * {cost})"
        ),
    ),
)

FAMILIES: tuple[Family, ...] = (SAVINGS, MULTIPLES, TEAM, DISCOUNT, SPEED, LAMPS, HANDSHAKES, PHOTOS)
