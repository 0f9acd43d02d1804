r"""Demonstrations from the solutions of GSM8K's training problems.

A GSM8K solution carries calculator annotations, as in `She sold 48/2 = <<48/2=24>>24 clips in May.` They are programs
that were never run. Here each becomes an assignment under a comment, the program is really run, and what does not
reproduce the gold answer is dropped:

    # She sold 48/2 = clips in May.
    clips = 48 / 2

No result stands in a program or its comments before Python has computed it: a policy that learns from them should
calculate with its tool and not in its head. For the same reason a solution is dropped whose steps use a number that
its author worked out in the head, or of which it cannot be told whether it is a result or a number of the question.
"""

import ast
import builtins
import keyword
import random
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import repeat, takewhile
from typing import Protocol

from eval import Problem, check
from mdpo.demonstration import Demonstration

OPENINGS = (
    "Let me work this out step by step with Python.",
    "I will write a short program that follows the story.",
    "Let's translate the question into Python.",
    "I can compute this one step at a time.",
    "A few lines of Python will do the arithmetic.",
    "Let me name each quantity and compute it.",
)
CLOSINGS = (
    r"The answer is $\boxed{{{}}}$.",
    r"So the answer is $\boxed{{{}}}$.",
    r"The program gives the final answer, $\boxed{{{}}}$.",
    r"Therefore, the answer to the question is $\boxed{{{}}}$.",
)

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_EQUATION = re.compile(
    # An annotation and the result after it, or an equation that nobody annotated: `12 + 10 = 22`.
    rf"\$?\s*<<(?P<noted>[^<>=]+)=\$?(?P<stated>{_NUMBER})>>\s*\$?(?:{_NUMBER})?"
    rf"|(?P<plain>[\d$(.][\d$%.,()+*/x×÷–− -]*?)\s*=\s*\$?\s*(?P<result>{_NUMBER})"
)
_RESULT = re.compile(rf"=\s*\$?\s*({_NUMBER})")
_MENTION = re.compile(rf"\$?(?<![\w.])({_NUMBER})(?![\w%]|[.,]\d)")
_DRESS = str.maketrans({"$": "", "×": "*", "x": "*", "÷": "/", "–": "-", "−": "-"})
_ARITHMETIC = re.compile(r"[0-9.+*/()% -]+")
_LONGEST_EXPRESSION = 200  # characters
_LARGEST_BASE, _LARGEST_EXPONENT = 10**6, 20  # of powers, which could else fill the memory

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: Fraction(a ** int(b)),
}

_LONGEST_NAME = 2  # words
# A name ends before the first of these; most results are followed by a noun and then one of them.
_NO_NAME = re.compile(
    "a|an|the|and|or|but|because|since|so|if|when|while|until|which|that|who|he|she|they|it|is|are|was|were|will|would|"
    "in|on|at|to|for|from|by|with|of|into|his|her|their|its|this|each|every|more|less|fewer|extra|left|than|as|per|"
    "after|before|plus|minus|times"
)
# The place of each is its number.
_NUMBER_WORDS = (
    "zero|one|two half twice double|three third triple|four quarter|five|six|seven|eight|nine|ten|eleven|twelve dozen"
)


class Execution(Protocol):
    """What is known of a program that ran; `sandbox.ExecutionResult` is one."""

    @property
    def status(self) -> str:
        """`ok` if it ran to its end."""

    @property
    def output(self) -> str:
        """What it printed."""

    @property
    def text(self) -> str:
        """What a policy is shown of it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A solution as code: comments, one assignment for each step, and a last line that prints the last of them."""

    code: str
    steps: int


def program(problem: Problem) -> Program | None:
    """Make a program of a problem's GSM8K solution. Nothing is run here, neither the solution nor the program.

    Returns:
        None if the problem has no solution, or the solution no arithmetic that can be told from its text.
    """
    draft = _Draft(given=Counter(_given(problem.question)))
    for line in (problem.solution or "").partition("####")[0].splitlines():
        try:
            draft.add(line)
        except _UnclearError:
            return None
    return draft.finish()


def demonstrations(problems: Iterable[Problem], run: Callable[[str], Execution], seed: int) -> Iterator[Demonstration]:
    """Turn problems with GSM8K solutions into demonstrations with one program each, in their order.

    Args:
        problems: Those without a usable solution are left out.
        run: Runs a program, normally `session.run_sync` of a sandbox.
        seed: Of the sentences around the program; a problem's do not depend on the other problems.

    Yields:
        Only demonstrations whose program ran and printed the gold answer.
    """
    for problem in problems:
        made = program(problem)
        if made is None:
            continue
        result = run(made.code)
        printed = result.output.strip()
        if result.status == "ok" and check(printed, problem.answer):
            rng = random.Random(f"{seed} {problem.id}")
            yield Demonstration(
                problem_id=problem.id,
                question=problem.question,
                answer=problem.answer,
                source=problem.source,
                actions=(
                    f"{rng.choice(OPENINGS)}\n```python\n{made.code}\n```",
                    rng.choice(CLOSINGS).format(printed),
                ),
                observations=(result.text,),
            )


class _UnclearError(Exception):
    """It cannot be told where a step's number comes from, or it was worked out in the head."""


@dataclass(frozen=True, slots=True)
class _Value:
    exact: Fraction
    is_float: bool  # whether Python computes it as a float
    source: str = ""


@dataclass(slots=True)
class _Draft:
    """A program in the making, one line of the solution after the other."""

    given: Counter[Fraction]  # the numbers of the question, and how often they are still to be used
    lines: list[str] = field(default_factory=list)
    values: dict[str, _Value] = field(default_factory=dict)
    names: dict[Fraction, list[str]] = field(default_factory=dict)  # the variables with this value
    unused: set[str] = field(default_factory=set)
    mental: set[Fraction] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Add the steps of one line of a solution, under the line itself as a comment."""
        comment, end, known = "", 0, len(self.values)
        for match in _EQUATION.finditer(line):
            name = self._assign(match, line[match.end() :])
            if name is not None:
                equation = f"{match['plain']} = {name}" if match["plain"] else name
                comment += line[end : match.start()] + equation
                end = match.end()
        self.mental |= set(_results(line)) - self.names.keys()
        if steps := list(self.values.items())[known:]:
            self.lines.append(f"# {self._refer(comment + line[end:])}")
            self.lines += [f"{name} = {value.source}" for name, value in steps]

    def finish(self) -> Program | None:
        """The program, which prints a whole number as one: nobody answers 24.0 clips."""
        if not self.values:
            return None
        name, value = list(self.values.items())[-1]
        rounded = value.is_float and value.exact.denominator == 1
        last = f"print(round({name}))" if rounded else f"print({name})"
        return Program("\n".join([*self.lines, last]), len(self.values))

    def _assign(self, match: re.Match[str], after: str) -> str | None:
        """Assign an equation's value to a new variable; its name, or None if it is no calculation or a wrong one."""
        stated = match["stated"] or match["result"]
        tree = _calculation(match["noted"] or match["plain"], stated)
        if tree is None:
            return None
        tree = _Variables(self).visit(tree)
        value = _evaluate(tree, self.values)
        if value is None:
            return None
        name = _name(after, len(self.values) + 1, self.values)
        self.values[name] = replace(value, source=ast.unparse(tree))
        self.unused.add(name)
        for number in {_number(stated), value.exact}:
            self.names.setdefault(number, []).append(name)
        return name

    def _refer(self, comment: str) -> str:
        """A comment in which results are called by their names."""

        def named(match: re.Match[str]) -> str:
            value = _number(match[1])
            return match[0] if value in self.given or value not in self.names else self.names[value][0]

        text = re.sub(r"\s*=\s*", " = ", _MENTION.sub(named, comment))
        for name in self.values:
            # The name says what the noun after it says: `clips clips in May`.
            noun = re.sub(r"_\d+$", "", name).replace("_", " ")
            text = re.sub(rf"\b{name} {noun}\b", name, text)
        return " ".join(text.split())


class _Variables(ast.NodeTransformer):
    """Puts variables where an expression repeats an earlier result."""

    def __init__(self, draft: _Draft) -> None:
        self._draft = draft
        self._here: list[str] = []

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        """Leave the 100 of a percentage alone."""
        node.left = self.visit(node.left)
        percent = isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant) and node.right.value == 100
        if not percent:
            node.right = self.visit(node.right)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Name the result that a number is, or write a whole number without its decimals."""
        value = Fraction(str(node.value))
        if name := self._result(value):
            self._here.append(name)
            return ast.Name(name)
        return ast.Constant(int(value)) if value.denominator == 1 else node

    def _result(self, value: Fraction) -> str | None:
        """The variable that a number stands for, None for a number of the question or of common knowledge.

        Whoever solves such a problem uses each of its numbers and each of his results at least once. Where a result
        and an unused number of the question are equal, the result is meant if it was computed just before.
        """
        draft = self._draft
        results = draft.names.get(value, [])
        unused = [name for name in results if name in draft.unused]
        if unused and draft.given[value] > 0 and unused != [next(reversed(draft.values))]:
            raise _UnclearError
        if unused:
            draft.unused.remove(unused[0])
            return unused[0]
        if value in draft.given:
            draft.given[value] -= 1
            return None
        if not results and value in draft.mental:
            raise _UnclearError
        return max(results, key=lambda name: name not in self._here, default=None)


def _calculation(text: str, stated: str) -> ast.expr | None:
    """The tree of an arithmetic expression whose value is the one that is stated for it."""
    tree = _parse(text)
    value = None if tree is None else _evaluate(tree, {})
    return tree if value is not None and _is_written_as(value.exact, stated) else None


def _parse(text: str) -> ast.expr | None:
    """The tree of an arithmetic expression with at least one operation, dollars, commas and percents undressed."""
    bare = re.sub(r"(?<=\d),(?=\d{3})", "", text.translate(_DRESS)).strip()
    bare = re.sub(rf"({_NUMBER})\s*%(?!\s*[\d(])", r"(\1/100)", bare)
    if len(bare) > _LONGEST_EXPRESSION or not _ARITHMETIC.fullmatch(bare):
        return None
    try:
        tree = ast.parse(bare, mode="eval").body
    except SyntaxError:
        return None
    return tree if isinstance(tree, ast.BinOp) else None


def _evaluate(node: ast.expr, values: dict[str, _Value]) -> _Value | None:
    """The exact value of an expression, or None if it is not arithmetic on numbers and `values`."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return _Value(Fraction(str(number)), isinstance(number, float))
        case ast.Name(id=name):
            return values.get(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _evaluate(operand, values)
            return inner and _Value(-inner.exact, inner.is_float)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _apply(operator, _evaluate(left, values), _evaluate(right, values))
    return None


def _apply(operator: ast.operator, left: _Value | None, right: _Value | None) -> _Value | None:
    if left is None or right is None:
        return None
    a, b = left.exact, right.exact
    if isinstance(operator, ast.Pow) and not (
        a.denominator == b.denominator == 1 and abs(a) <= _LARGEST_BASE and 0 <= b <= _LARGEST_EXPONENT
    ):
        return None
    if isinstance(operator, ast.Div | ast.FloorDiv | ast.Mod) and b == 0:
        return None
    return _Value(_OPERATORS[type(operator)](a, b), left.is_float or right.is_float or isinstance(operator, ast.Div))


def _name(after: str, number: int, taken: Container[str]) -> str:
    """A variable's name from the words after the result, as in `24 clips in May`; else from the step's number."""
    phrase = re.split(r"[^A-Za-z\s]", after, maxsplit=1)[0].lower().split()
    words = list(takewhile(lambda word: not _NO_NAME.fullmatch(word), phrase))[:_LONGEST_NAME]
    name = "_".join(words)
    if not name or keyword.iskeyword(name) or hasattr(builtins, name):
        name = f"step_{number}"
    return name if name not in taken else f"{name}_{number}"


def _is_written_as(value: Fraction, stated: str) -> bool:
    """Whether a stated result is the value, cut or rounded to the decimals that it shows; whole numbers are exact."""
    decimals = len(stated.partition(".")[2])
    difference = abs(value - _number(stated))
    return difference == 0 or (decimals > 0 and difference < Fraction(1, 10**decimals))


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _given(question: str) -> Iterator[Fraction]:
    """The numbers of a question, in digits and in words."""
    yield from map(_number, re.findall(_NUMBER, question))
    said = Counter(re.findall("[a-z]+", question.lower()))
    for value, words in enumerate(_NUMBER_WORDS.split("|")):
        yield from repeat(Fraction(value), sum(said[word] for word in words.split()))


def _results(line: str) -> Iterator[Fraction]:
    """Every number that a line gives as a result, calculated by a step or not."""
    bare = re.sub(r"<<[^<>]*=([^<>]*)>>", r"=\1 ", line)
    return map(_number, _RESULT.findall(bare))
