"""Units of measurement: one name for each, and how many of one are another.

A unit is kept as a product of powers, written as text (`cm^2`, `mile hour^-1`, `square unit`); words that are no known
unit (`eggs`) are units of their own.
"""

import re
from fractions import Fraction

_LENGTH = {
    "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "dm": Fraction(1, 10), "m": Fraction(1), "km": Fraction(1000),
    "inch": Fraction(254, 10000), "ft": Fraction(3048, 10000), "yard": Fraction(9144, 10000),
    "mile": Fraction(1609344, 1000),
}  # fmt: skip
_TABLE: dict[str, tuple[str, Fraction]] = {
    **{unit: ("length", factor) for unit, factor in _LENGTH.items()},
    **{unit: ("time", Fraction(n)) for unit, n in (("s", 1), ("min", 60), ("hour", 3600), ("day", 86400))},
    "week": ("time", Fraction(604800)), "ms": ("time", Fraction(1, 1000)),
    "month": ("months", Fraction(1)), "year": ("months", Fraction(12)),
    "mg": ("mass", Fraction(1, 1000)), "g": ("mass", Fraction(1)), "kg": ("mass", Fraction(1000)),
    "ton": ("tons", Fraction(1)), "oz": ("weight", Fraction(1)), "lb": ("weight", Fraction(16)),
    "ml": ("litre", Fraction(1, 1000)), "l": ("litre", Fraction(1)),
    "cup": ("gallon", Fraction(1, 16)), "pint": ("gallon", Fraction(1, 8)), "quart": ("gallon", Fraction(1, 4)),
    "gallon": ("gallon", Fraction(1)), "cent": ("$", Fraction(1, 100)), "$": ("$", Fraction(1)),
    "€": ("€", Fraction(1)), "£": ("£", Fraction(1)), "¥": ("¥", Fraction(1)), "₹": ("₹", Fraction(1)),
    "%": ("%", Fraction(1)), "deg": ("deg", Fraction(1)), "degC": ("degC", Fraction(1)), "degF": ("degF", Fraction(1)),
    "rad": ("rad", Fraction(1)), "unit": ("unit", Fraction(1)),
}  # fmt: skip
_NAMES = {
    "dollar": "$", "usd": "$", "buck": "$", "euro": "€", "eur": "€", "gbp": "£", "yen": "¥", "rupee": "₹",
    "inche": "inch", "in": "inch", "foot": "ft",
    "feet": "ft", "yd": "yard", "mi": "mile", "meter": "m", "metre": "m", "centimeter": "cm", "centimetre": "cm",
    "kilometer": "km", "kilometre": "km", "millimeter": "mm", "millimetre": "mm", "decimeter": "dm", "second": "s",
    "sec": "s", "minute": "min", "hr": "hour", "h": "hour", "gram": "g", "kilogram": "kg", "milligram": "mg",
    "ounce": "oz", "pound": "lb", "liter": "l", "litre": "l", "milliliter": "ml", "mL": "ml", "L": "l", "pt": "pint",
    "qt": "quart", "gal": "gallon", "degree": "deg", "radian": "rad", "percent": "%", "pct": "%", "percentage": "%",
    "penny": "cent", "pennie": "cent", "yr": "year", "wk": "week", "millisecond": "ms",
}  # fmt: skip
FACTORS = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SHORT = {"mph": [("mile", 1), ("hour", -1)], "kph": [("km", 1), ("hour", -1)], "kmh": [("km", 1), ("hour", -1)]}
_PREFIXES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_PART = re.compile(r"(.*?)(?:\^(-?[0-9]))?")


def is_unit(word: str) -> bool:
    """Whether a word is a known unit, in singular or plural."""
    one = singular(word)
    return one in _TABLE or one in _SHORT or one in _NAMES or one.lower() in _NAMES or one in _PREFIXES


def singular(word: str) -> str:
    """`word` without the s of a plural."""
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def unit_name(words: list[tuple[str, int]]) -> str:
    """One spelling for a unit, from its words with their exponents in order of writing."""
    names: list[str] = []
    power = 1
    for word, exponent in [part for pair in words for part in _SHORT.get(pair[0], [pair])]:
        one = singular(word)
        if one.lower() in _PREFIXES:
            power = _PREFIXES[one.lower()]
            continue
        one = one if one in _TABLE else _NAMES.get(one, _NAMES.get(one.lower(), one.lower()))
        total = exponent * power
        names.append(one if total == 1 else f"{one}^{total}")
        power = 1
    return " ".join(names)


def conversion(a: str, b: str) -> Fraction | None:
    """How many `b` one `a` is; None if the units measure different things.

    A longer description of the same unit (`units`, `years old`) agrees with the shorter one.
    """
    if a == b:
        return Fraction(1)
    first, second = _dimension(a), _dimension(b)
    if first and second:
        return first[1] / second[1] if first[0] == second[0] else None
    words_a, words_b = set(a.split()), set(b.split())
    shorter = words_a if words_a < words_b else words_b
    related = words_a < words_b or words_b < words_a
    return Fraction(1) if related and shorter and not any("^" in word for word in words_a ^ words_b) else None


def _dimension(unit: str) -> tuple[tuple[tuple[str, int], ...], Fraction] | None:
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for part in unit.split():
        match = _PART.fullmatch(part)
        if match is None or match[1] not in _TABLE:
            return None
        kind, size = _TABLE[match[1]]
        exponent = int(match[2] or 1)
        powers[kind] = powers.get(kind, 0) + exponent
        factor *= size**exponent
    return tuple(sorted(powers.items())), factor
