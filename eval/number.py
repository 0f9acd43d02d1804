r"""Exact numbers: read what people, LaTeX and Python write for a rational number, and compare without rounding.

Nothing is evaluated: a text is a number if it has one of a handful of forms, each of bounded size.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:_[0-9]{3})+|[0-9]+)"
_UNSIGNED = rf"(?:{_DIGITS}(?:\.[0-9]*)?|\.[0-9]+)"
_PLAIN = re.compile(rf"({_UNSIGNED})(?:[eE]([+-]?[0-9]{{1,3}}))?")
_SCIENTIFIC = re.compile(
    rf"(?:({_UNSIGNED})\s*(?:\\times|\\cdot|\*|x)\s*)?10\s*(?:\^|\*\*)\s*(?:\{{\s*([+-]?[0-9]{{1,3}})\s*\}}|([+-]?[0-9]))"
)
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)(?:\\overline\{([0-9]+)\}|\(([0-9]+)\))")
_FRACTION = re.compile(
    rf"\\frac\{{\s*([+-]?{_UNSIGNED})\s*\}}\{{\s*([+-]?{_UNSIGNED})\s*\}}|({_UNSIGNED})\s*/\s*({_UNSIGNED})"
)
_MIXED = re.compile(r"([0-9]+)\s*\\frac\{([0-9]+)\}\{([0-9]+)\}|([0-9]+) ([0-9]+)/([0-9]+)")
_BASED = re.compile(
    r"([+-]?)0*([0-9A-Z]+(?:\.[0-9A-Z]+)?)_\{?\(?(?:\\text\s*\{)?\s*(?:base\s*)?([0-9]+|[a-z]+)\s*\}?\)?\}?"
)
_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "twelve": 12}
_LONG = 10  # significant digits from which a decimal is a computed value and not a rounded one
_FLOAT_NOISE = Fraction(1, 10**15)


@dataclass(frozen=True)
class Number:
    """A rational number as it was written.

    `step` is the value of its last decimal place if it was written as a decimal, else None; `digits` counts its
    significant digits.
    """

    value: Fraction
    step: Fraction | None = None
    digits: int = 0


def parse_number(text: str) -> Number | None:
    """Read a number in normal form, or return None: `1,234.5`, `1.5e3`, `3/4`, `1 3/4`, `0.\\overline{3}`, `10^{6}`."""
    text = text.strip()
    sign = -1 if text.startswith("-") else 1
    text = text[1:].lstrip() if text[:1] in {"+", "-"} else text
    if not text or text[0] not in "0123456789.\\":
        return None
    if match := _PLAIN.fullmatch(text):
        return _decimal(match[1], int(match[2] or 0), sign)
    if match := _SCIENTIFIC.fullmatch(text):
        return _decimal(match[1] or "1", int(match[2] or match[3]), sign)
    value = _repeating(text) or _fraction(text)
    return None if value is None else Number(sign * value)


def equal_numbers(a: Number, b: Number) -> bool:
    """Whether two numbers are the same: exactly, or up to the last place of a long decimal.

    `0.33` is not 1/3. A decimal of ten or more digits is what a program prints, and equals what it rounds; one with
    fifteen digits may also be off by the noise of floating point.
    """
    return a.value == b.value or _rounds(a, b.value) or _rounds(b, a.value)


def equal_based(a: str, b: str) -> bool | None:
    """Compare numerals with a base (`4130_5`); None unless at least one has a base.

    A gold answer `b` in base 5 accepts its bare digits, as a question that asks for base 5 does. The base of a
    prediction is never ignored.
    """
    first, second = _BASED.fullmatch(a), _BASED.fullmatch(b)
    if first and second:
        return _base(first[3]) == _base(second[3]) and _digits(first) == _digits(second)
    if second:
        return a == _digits(second)
    return False if first and parse_number(b) else None


def _digits(match: re.Match[str]) -> str:
    return match[1].lstrip("+") + match[2]


def _base(text: str) -> int:
    return _BASE_WORDS.get(text, -1) if text.isalpha() else int(text)


def _decimal(mantissa: str, exponent: int, sign: int) -> Number:
    mantissa = mantissa.replace(",", "").replace("_", "")
    value = sign * Fraction(Decimal(mantissa)) * Fraction(10) ** exponent
    if "." not in mantissa:
        return Number(value)
    places = len(mantissa) - mantissa.index(".") - 1
    return Number(value, Fraction(10) ** (exponent - places), len(mantissa.replace(".", "").lstrip("0")))


def _repeating(text: str) -> Fraction | None:
    match = _REPEATING.fullmatch(text)
    if match is None:
        return None
    whole, start, period = match[1] or "0", match[2], match[3] or match[4]
    shift = 10 ** len(start)
    return Fraction(int(whole + start), shift) + Fraction(int(period), (10 ** len(period) - 1) * shift)


def _fraction(text: str) -> Fraction | None:
    if match := _FRACTION.fullmatch(text):
        top, bottom = (_value(part) for part in match.groups() if part is not None)
        return top / bottom if bottom else None
    if match := _MIXED.fullmatch(text):
        whole, top, bottom = (_value(part) for part in match.groups() if part is not None)
        return whole + top / bottom if bottom else None
    return None


def _value(text: str) -> Fraction:
    return Fraction(Decimal(text.replace(",", "").replace("_", "")))


def _rounds(decimal: Number, value: Fraction) -> bool:
    if decimal.step is None or decimal.digits < _LONG:
        return False
    error = abs(decimal.value - value)
    noise = decimal.digits >= 15 and decimal.value.denominator != 1 and error <= _FLOAT_NOISE * abs(value)
    return noise or error <= decimal.step / 2
