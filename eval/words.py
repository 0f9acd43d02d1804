"""Answers that are words, and the words around numbers: units, currencies, percent signs, choices, dates, times."""

import re

_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_POWER = r"(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|[0-9]))?"
_UNIT_TEXT = re.compile(rf"(.*[^\s(,=])\s*\\text\s*\{{([^{{}}0-9,;:=]+)\}}({_POWER})", re.DOTALL)
_UNIT_FRACTION = re.compile(
    r"(.*[^\s])\s*\\frac\{\s*\\text\s*\{([^{}]*)\}\s*\}\{\s*\\text\s*\{([^{}]*)\}\s*\}", re.DOTALL
)
_UNIT_WORDS = re.compile(
    rf"(.*[0-9}})])\s*((?:[a-zA-Z]{{2,}}|(?<=\s)[mgslL])(?:[ /][a-zA-Z]+\.?)*)({_POWER})", re.DOTALL
)
_DEGREE = re.compile(r"([^a-zA-Z]*)\^\\circ\s*([CF]?|\\text\s*\{\s*[CF]\s*\})", re.DOTALL)
_PERCENT = re.compile(
    r"(.*[0-9})])\s*(?:\\?%|\\text\s*\{\s*\\?%\s*\}|percent|pct|\\text\s*\{\s*percent\s*\})", re.DOTALL
)
_CURRENCY = re.compile(r"([+-]?)\s*(?:\\?(\$|€|£)|(USD|EUR|GBP)\s)\s*(.*)", re.DOTALL)
_NO_UNIT = frozenset(
    (
        "and",
        "or",
        "is",
        "to",
        "not",
        "if",
        "no",
        "at",
        "than",
        "pi",
        "sqrt",
        "st",
        "nd",
        "rd",
        "th",
        "are",
        "wrong",
        "but",
    )
)
_MAX_UNIT_WORDS = 4  # more is a sentence about the number
_SAME_UNIT = {
    "dollar": "$", "usd": "$", "euro": "€", "eur": "€", "pound sterling": "£", "gbp": "£", "foot": "ft", "feet": "ft",
    "inche": "in", "inch": "in", "meter": "m", "metre": "m", "centimeter": "cm", "kilometer": "km", "millimeter": "mm",
    "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "gram": "g", "kilogram": "kg", "pound": "lb",
    "lb": "lb", "degree": "degree", "deg": "degree", "mph": "mile per h",
}  # fmt: skip

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_MATH_WORDS = frozenset(("sin", "cos", "tan", "sec", "csc", "cot", "log", "exp", "sqrt", "pmatrix", "vmatrix", "array"))
_PROSE = re.compile(r"[A-Za-z][A-Za-z0-9 ,.:'’/-]*")
_ARTICLES = frozenset(("a", "an", "the"))
_MONTH = re.compile(r"\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b")
_TIME = re.compile(r"([0-9]{1,2}:[0-9]{2})\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_CHOICE = re.compile(r"\(?\s*([A-Z])\s*\)?\.?")


def split_unit(text: str) -> tuple[str, str]:
    r"""Split a normal text into its value and its unit (`"5"`, `"cm^2"`); the unit is "" if there is none.

    Percent signs are the unit `%`, currency signs `$ € £`, a degree sign after a number `degree`.
    """
    if (match := _CURRENCY.fullmatch(text)) and match[4]:
        sign = {"USD": "$", "EUR": "€", "GBP": "£"}.get(match[3], match[2])
        return match[1] + _split_behind(match[4])[0], sign
    return _split_behind(text)


def _split_behind(text: str) -> tuple[str, str]:
    if match := _PERCENT.fullmatch(text):
        return match[1].strip(), "%"
    if match := _DEGREE.fullmatch(text):
        return match[1].strip(), f"degree {unwrap(match[2])}".strip()
    if match := _UNIT_FRACTION.fullmatch(text):
        return match[1].strip(), _unit(f"{match[2]} per {match[3]}", "")
    match = _UNIT_TEXT.fullmatch(text) or _UNIT_WORDS.fullmatch(text)
    words = match[2].lower().split() if match else []
    if match is None or len(words) > _MAX_UNIT_WORDS or _NO_UNIT.intersection(words):
        return text, ""
    return match[1].strip(), _unit(match[2], match[3])


def same_unit(a: str, b: str) -> bool:
    """Whether two units agree; a unit on one side only is no disagreement, and neither is a longer description."""
    if not a or not b or a == b:
        return True
    first, second = set(a.split()), set(b.split())
    extra = first ^ second
    return (first < second or second < first) and not extra & {"square", "cubic", "per", "C", "F", "%"}


def unwrap(text: str) -> str:
    r"""Return the content of every `\text{…}` in place, with single blanks."""
    return " ".join(_TEXT.sub(r"\1", text).split())


def whole_text(text: str) -> str:
    r"""Return the content of a `\text{…}` that is the whole of `text`, else `text`."""
    match = _TEXT.fullmatch(text.strip())
    return match[1].strip() if match else text


def equal_words(a: str, b: str) -> bool | None:
    """Compare two answers if the gold `b` is words, a time or a date; None if it is mathematics.

    Case, articles, plurals and the order of a date do not matter; every other word does.
    """
    prediction, gold = unwrap(a), unwrap(b)
    if time := _TIME.fullmatch(gold):
        other = _TIME.fullmatch(prediction)
        return other is not None and (other[1], other[2].lower()) == (time[1], time[2].lower())
    if not (is_words(gold) and _PROSE.fullmatch(gold)):
        return None
    first, second = _words(prediction), _words(gold)
    return sorted(first) == sorted(second) if _MONTH.search(gold.lower()) else first == second


def equal_choices(a: str, b: str) -> bool | None:
    r"""Compare if the gold `b` is a choice such as `C` or `\text{(C)}`; None if it is not."""
    gold = _CHOICE.fullmatch(unwrap(b))
    if gold is None or (b.strip() == gold[1] and _CHOICE.fullmatch(unwrap(a)) is None):
        return None
    prediction = _CHOICE.fullmatch(unwrap(a))
    return prediction is not None and prediction[1] == gold[1]


def is_words(text: str) -> bool:
    """Whether a word of three letters or more, no function name among them, stands in the text."""
    return any(word.lower() not in _MATH_WORDS for word in _WORD.findall(_TEXT.sub(r" \1 ", text)))


def _unit(words: str, power: str) -> str:
    power = re.sub(r"[\s^{}]", "", power)
    singular = [_singular(word) for word in words.replace("/", " per ").lower().replace(".", " ").split()]
    squared = {"square": "2", "sq": "2", "cubic": "3"}.get(singular[0] if singular else "")
    names = [_SAME_UNIT.get(word, word) for word in singular]
    if squared and len(names) == 2 and names[1] in _SAME_UNIT.values():
        return f"{names[1]}^{squared}"
    return " ".join(names) + (f"^{power}" if power else "")


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _words(text: str) -> list[str]:
    text = re.sub(r"([0-9])(?:st|nd|rd|th)\b", r"\1", text.lower())
    return [_singular(word) for word in re.findall(r"[a-z0-9:/.-]*[a-z0-9]", text) if word not in _ARTICLES]
