"""Compare two answers in normal form: numbers, words, shapes part by part, and single expressions through `ask`."""

import re
from collections.abc import Callable, Sequence

from eval.normal import balanced, key
from eval.number import Number, equal_based, equal_numbers, parse_number
from eval.shapes import Shape, has_relation, read_shape, solution_interval, split_label
from eval.words import equal_choices, equal_words, is_words, same_unit, split_unit, whole_text

Ask = Callable[[str, str], bool]
"""Whether two LaTeX expressions (prediction, gold) are equal, asked where nothing cheaper decides."""

_MAX_DEPTH = 6
_MAX_UNORDERED = 12  # parts of a list that may stand in another order, and below of a set: each is compared with each
_MAX_SET = 40
_MAX_EXPRESSION_CHARS = 600

_INTERVAL_KINDS = frozenset(("()", "[]", "(]", "[)", "union"))
_UNORDERED_KINDS = frozenset(("list", "union"))
_SET_OPERATION = re.compile(r"\\(?:cup|cap|setminus)\b")
_UNREADABLE = re.compile(r"\*\*|\\ldots|\.\.\.|[\"'`;]|(?<!_)[0-9]\s+[0-9]|\\approx|\\boxed")
_TRIG_DEGREES = re.compile(r"(\\(?:sin|cos|tan|sec|csc|cot))\s*\(?\s*([0-9.]+)\s*\^\\circ\s*\)?")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z]{2})|(?<=(?<![\\A-Za-z])[A-Za-z])[A-Za-z](?![A-Za-z])")
_EXPONENT = re.compile(r"([0-9]\.?)[eE]\+?(-?[0-9]{1,3})(?![0-9.])")
_GLUED_I = re.compile(r"(?<=[0-9])\s*i(?![A-Za-z])")


def same(a: str, b: str, ask: Ask, depth: int = 0) -> bool:
    """Whether the prediction `a` equals the gold `b`; `depth` counts the shapes around them."""
    a, b = whole_text(a), whole_text(b)
    if key(a) == key(b):
        return True
    if not a or not b or depth > _MAX_DEPTH or not (balanced(a) and balanced(b)):
        return False
    for decide in (_quantities, equal_based, equal_words, equal_choices):
        verdict = decide(a, b)
        if verdict is not None:
            return verdict
    for compare in (_same_intervals, _same_labelled, _same_shapes, _same_measured):
        verdict = compare(a, b, ask, depth)
        if verdict is not None:
            return verdict
    return _same_expressions(a, b, ask)


def _quantities(a: str, b: str) -> bool | None:
    """Compare two numbers with their units; None unless both are numbers."""
    (x, unit_a), (y, unit_b) = _quantity(a), _quantity(b)
    if x is None or y is None:
        return None
    if (unit_a == "%") != (unit_b == "%"):
        return _equal_percent(x, y) if unit_a == "%" else _equal_percent(y, x)
    return same_unit(unit_a, unit_b) and equal_numbers(x, y)


def _quantity(text: str) -> tuple[Number | None, str]:
    if number := parse_number(text):
        return number, ""
    value, unit = split_unit(text)
    return parse_number(value), unit


def _equal_percent(percent: Number, plain: Number) -> bool:
    """`50%` is 0.5, and also 50 as in "what percent …"; but `0.5%` is never 0.5."""
    return percent.value == 100 * plain.value or (abs(percent.value) >= 1 and percent.value == plain.value)


def _same_intervals(a: str, b: str, ask: Ask, depth: int) -> bool | None:
    """Compare as intervals if at least one side is a solved inequality and the other a set of numbers too."""
    first, second = solution_interval(a), solution_interval(b)
    if first and second:
        agree = first[0] == second[0] or not (first[0] and second[0])
        return agree and _same_sets(first[1], second[1], ask, depth)
    value_a, value_b = split_label(a)[1], split_label(b)[1]
    if first and _is_interval(value_b):
        return _same_sets(first[1], value_b, ask, depth)
    if second and _is_interval(value_a):
        return _same_sets(value_a, second[1], ask, depth)
    return None


def _is_interval(text: str) -> bool:
    shape = read_shape(text)
    return shape is not None and shape.kind in _INTERVAL_KINDS


def _same_sets(a: str, b: str, ask: Ask, depth: int) -> bool:
    return key(a) == key(b) or _same_shapes(a, b, ask, depth) is True


def _same_shapes(a: str, b: str, ask: Ask, depth: int) -> bool | None:
    """Compare part by part; None if both sides are single expressions."""
    first, second = read_shape(a), read_shape(b)
    if first is not None and second is not None and _comparable(first, second):
        return _same_parts(first, second, lambda x, y: same(x, y, ask, depth + 1)) or _same_union(a, b, ask)
    if _SET_OPERATION.search(a + b):
        return _same_union(a, b, ask)
    if first is not None and second is not None:
        return False
    for shape, other, swapped in ((first, b, False), (second, a, True)):
        if shape is not None:
            single = shape.kind == "set" and len(shape.parts) == 1
            if single:
                return (
                    same(other, shape.parts[0], ask, depth + 1)
                    if swapped
                    else same(shape.parts[0], other, ask, depth + 1)
                )
            return r"{pmatrix}" in other and _same_expressions(a, b, ask)
    return None


def _comparable(first: Shape, second: Shape) -> bool:
    return first.kind == second.kind or {first.kind, second.kind} == {"list", "set"}


def _same_union(a: str, b: str, ask: Ask) -> bool:
    """Unions that differ part by part may still be the same set: `[0,1] ∪ [1,2]` and `[0,2]`."""
    return _SET_OPERATION.search(a + b) is not None and _same_expressions(a, b, ask)


def _same_parts(first: Shape, second: Shape, equal: Callable[[str, str], bool]) -> bool:
    if first.kind == "ratio":
        return _same_ratios(first.parts, second.parts, equal)
    if "set" in {first.kind, second.kind}:
        if max(len(first.parts), len(second.parts)) > _MAX_SET:
            return {key(part) for part in first.parts} == {key(part) for part in second.parts}
        contained = all(any(equal(x, y) for y in second.parts) for x in first.parts)
        return contained and all(any(equal(x, y) for x in first.parts) for y in second.parts)
    if len(first.parts) != len(second.parts):
        return False
    if all(equal(x, y) for x, y in zip(first.parts, second.parts, strict=True)):
        return True
    return first.kind in _UNORDERED_KINDS and _same_unordered(first.parts, second.parts, equal)


def _same_unordered(first: Sequence[str], second: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """Whether the parts can be paired off; equality is transitive, so the first partner found is as good as any."""
    left = list(second)
    for part in first[:_MAX_UNORDERED]:
        partner = next((index for index, other in enumerate(left) if equal(part, other)), None)
        if partner is None:
            return False
        del left[partner]
    return not left


def _same_ratios(first: Sequence[str], second: Sequence[str], equal: Callable[[str, str], bool]) -> bool:
    """`6:2` is `3:1`; a ratio with a zero may be a time of day and is compared as it stands."""
    if len(first) != len(second):
        return False
    numbers = [[parse_number(part) for part in parts] for parts in (first, second)]
    a, b = ([number.value for number in row if number and number.value] for row in numbers)
    if len(a) == len(b) == len(first):
        return len({x / y for x, y in zip(a, b, strict=True)}) == 1
    return all(equal(x, y) for x, y in zip(first, second, strict=True))


def _same_labelled(a: str, b: str, ask: Ask, depth: int) -> bool | None:
    """Compare `x = 5` with `5` and with `x = 5`; None for equations and for two different names."""
    (label_a, value_a), (label_b, value_b) = split_label(a), split_label(b)
    if not (label_a or label_b) or any(shape and shape.kind == "list" for shape in (read_shape(a), read_shape(b))):
        return None
    if label_a == label_b or (label_a and not has_relation(b)) or (label_b and not has_relation(a)):
        return same(value_a, value_b, ask, depth + 1)
    values_only = not _letters(value_a) | _letters(value_b)  # math-verify solves f(3) = 7 for f
    return False if label_a and label_b and values_only else None


def _same_measured(a: str, b: str, ask: Ask, depth: int) -> bool | None:
    r"""Compare expressions with a unit behind one or both (`8\sqrt{3} \text{ cm}`); None if neither has one."""
    (value_a, unit_a), (value_b, unit_b) = split_unit(a), split_unit(b)
    if not unit_a and not unit_b:
        return None
    return (
        "%" not in {unit_a, unit_b} - {unit_a} and same_unit(unit_a, unit_b) and same(value_a, value_b, ask, depth + 1)
    )


def _same_expressions(a: str, b: str, ask: Ask) -> bool:
    """Ask about two expressions, unless they cannot be equal or cannot be read."""
    if max(len(a), len(b)) > _MAX_EXPRESSION_CHARS or _UNREADABLE.search(a) or _UNREADABLE.search(b):
        return False
    if has_relation(a) != has_relation(b) or is_words(a) != is_words(b) or r"\emptyset" in (a, b):
        return False
    return _letters_agree(a, b) and ask(_readable(a), _readable(b))


def _letters_agree(a: str, b: str) -> bool:
    """Whether no letter differs by its case only, within a side or between them: math-verify reads `R` as `r`."""
    first, second = _letters(a), _letters(b)
    both = first | second
    return first == second or len({letter.lower() for letter in both}) == len(both)


def _letters(text: str) -> set[str]:
    return set(_LETTER.findall(whole_text(text)))


def _readable(text: str) -> str:
    """`text` in the dialect of math-verify: degrees in radians, `i` apart from digits."""
    text = _TRIG_DEGREES.sub(r"\1(\\frac{\2 \\cdot \\pi}{180})", text).replace(r"^\circ", "")
    text = _EXPONENT.sub(r"\1 \\cdot 10^{\2}", text)
    return _GLUED_I.sub(r" \\cdot i", text)
