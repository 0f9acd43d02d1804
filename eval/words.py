"""Answers in words: choices, times, dates, numerals, prose, and words that mean a set."""

import re

from eval.normal import ascii_text, balanced, bare
from eval.syntax.calls import WORDS
from eval.units import singular

_TYPE = r"\\(?:text|textbf|textit|textrm|textnormal|texttt|mbox|mathrm|mathbf|rm|bf)\b\s*"
_TEXT = re.compile(_TYPE + r"\{([^{}]*)\}")
_SPACES = re.compile(r"\\[,;:! ]|~|\\q?quad\b")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}(?![A-Za-z0-9]*\()")  # what stands before a bracket is a function
_PROSE = re.compile(r"[A-Za-z][A-Za-z0-9 ,.:;'’/()-]*")
_ARTICLES = frozenset(("a", "an", "the", "of"))
_MONTH = re.compile(
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?"
)
_DATE = re.compile(rf"[0-9]{{1,2}}(?:st|nd|rd|th)? {_MONTH.pattern}(?: [0-9]+)?")
_TIME = re.compile(r"([0-9]{1,2})(?::([0-9]{2}(?::[0-9]{2})?))?\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_CHOICE = re.compile(r"\(\s*([A-Z])\s*\)\.?|([A-Z])[.)]?")
_CHOSEN = re.compile(
    r"(?:(?:option|choice|answer)\s+)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?=[.):]|$))[.):]?(?:\s+(.*)|$)",
    re.DOTALL | re.IGNORECASE,
)
_LABELLED = re.compile(r"(?:\(\s*[A-H]\s*\)|[A-H]\))(?:\s+|(?<=\}))(.+)", re.DOTALL)
_OTHER_CHOICE = re.compile(r"\(?\b[A-H]\)|\b(?:or|and|not)\b")
_CONNECTED = re.compile(r"\s*,\s*(?:and|or)\s+|\s*,\s*|\s+(?:and|or)\s+|\s*;\s*")
_SYNONYMS = {
    "undefined": "undefined", "dne": "undefined", "not exist": "undefined", "doe not exist": "undefined",
    "all real number": r"\mathbb{R}", "all real": r"\mathbb{R}", "real number": r"\mathbb{R}",
    "no solution": r"\emptyset", "no real solution": r"\emptyset", "empty set": r"\emptyset",
    "infinity": r"\infty", "negative infinity": r"-\infty",
}  # fmt: skip
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
     "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_DECADES = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TENS = {word: 10 * (i + 2) for i, word in enumerate(_DECADES)}
_FRACTIONS = {"half": r"\frac12", "one half": r"\frac12", "one third": r"\frac13", "one quarter": r"\frac14",
              "one fourth": r"\frac14", "two third": r"\frac23", "three quarter": r"\frac34",
              "three fourth": r"\frac34"}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_MAX_CHARS = 300


def plain(text: str) -> str:
    r"""`text` without delimiters and text commands, with single blanks."""
    text = bare(ascii_text(text))
    if "\\" in text:
        text = _SPACES.sub(" ", _TEXT.sub(r"\1", text.replace(r"\!", "")))
    if text[:1] in {"'", '"'} and text[-1:] == text[:1]:
        text = text[1:-1]
    return bare(" ".join(text.split()).strip("*"))


def equal_words(a: str, b: str) -> bool | None:
    """Compare two answers if the gold `b` is words, a choice, a time or a date; None if it is mathematics."""
    if max(len(a), len(b)) > _MAX_CHARS:
        return None
    prediction, gold = plain(a), plain(b)
    if time := _TIME.fullmatch(gold):
        other = _TIME.fullmatch(prediction)
        return other is not None and _clock(other) == _clock(time)
    if choice := _CHOICE.fullmatch(gold):
        return _equal_choice(prediction, choice[1] or choice[2], certain=bool(choice[1]) or gold != b.strip())
    if (
        not (_is_prose(gold) and (_PROSE.fullmatch(gold) or _DATE.fullmatch(gold.lower())))
        or as_mathematics(gold) is not None
    ):
        return None
    return same_words(prediction, gold) or _same_names(prediction, gold)


def as_mathematics(text: str) -> str | None:
    r"""Words that stand for a number or a set, written as mathematics: `seven`, "no solution"; None for others."""
    words = " ".join(singular(word) for word in re.findall(r"[a-z]+", text.lower()) if word not in _ARTICLES)
    if re.search(r"[^A-Za-z -]", text.strip(".")) or not words:
        return None
    if words in _FRACTIONS or words in _SYNONYMS:
        return _FRACTIONS.get(words) or (_SYNONYMS[words] if "\\" in _SYNONYMS[words] else None)
    value = _numeral(re.findall(r"[a-z]+", text.lower()))
    return None if value is None else str(value)


def without_choice(text: str) -> str | None:
    r"""What stands behind the letter of an option (`\textbf{(A) }5`); None if there is no such letter."""
    if text[:1] not in {"(", "\\", "A", "B", "C", "D", "E", "$"}:
        return None
    text = _SPACES.sub(" ", _TEXT.sub(r"\1 ", bare(ascii_text(text))))
    match = _LABELLED.fullmatch(text.strip())
    return match[1] if match and balanced(match[1]) and not _OTHER_CHOICE.search(match[1]) else None


def same_words(a: str, b: str) -> bool:
    """Whether two texts have the same words: case, articles and plurals do not matter, nor the order of a date."""
    first, second = _words(a), _words(b)
    if first == second:
        return True
    names = [_SYNONYMS.get(" ".join(words)) for words in (first, second)]
    if names[0] is not None and names[0] == names[1]:
        return True
    return _MONTH.search(b.lower()) is not None and sorted(first) == sorted(second)


def _same_names(a: str, b: str) -> bool:
    """`Carla and Evelyn` is `Evelyn, Carla`."""
    first, second = (sorted(" ".join(_words(part)) for part in _CONNECTED.split(text)) for text in (a, b))
    return len(first) > 1 and first == second


def _equal_choice(prediction: str, gold: str, certain: bool) -> bool | None:
    """Compare with option `gold`; None if nothing is chosen and it is not `certain` that it is an option."""
    chosen = _CHOSEN.fullmatch(prediction)
    letter = (chosen[1] or chosen[2]) if chosen else None
    if chosen and letter is not None and letter.upper() == gold and (letter == gold or gold in "ABCDE"):
        return not chosen[3] or not _OTHER_CHOICE.search(chosen[3])
    return False if certain or chosen else None


def _is_prose(text: str) -> bool:
    """Whether a word that is no function and no short product of letters stands in the text."""
    if text.lower() == "no" or _DATE.fullmatch(text.lower()):
        return True
    words = _WORD.findall(text)
    if text in words and len(text) == 3 and not re.search("[aeiou]", text.lower()):
        return False
    return any(word not in WORDS and word not in {"infty", "infinity"} for word in words) and not (
        text[:3] in {"USD", "EUR", "GBP"} or (text.isupper() and text.isalpha())
    )


def _words(text: str) -> list[str]:
    text = re.sub(r"([0-9])(?:st|nd|rd|th)\b", r"\1", text.lower().replace("’", "'"))
    text = _MONTH.sub(lambda match: match[0][:3] + " ", text) if any(c.isdigit() for c in text) else text
    return [singular(word) for word in re.findall(r"[a-z0-9:/'.]*[a-z0-9]", text) if word not in _ARTICLES]


def _clock(match: re.Match[str]) -> tuple[int, str, str]:
    return int(match[1]), match[2] or "00", match[3].lower()


def _numeral(words: list[str]) -> int | None:
    """The number that English words name, below 10^12."""
    total = current = 0
    last = None
    for word in words:
        if word == "and" and last is not None:
            continue
        if word in _ONES and (last is None or last in _SCALES or (last in _TENS and 0 < _ONES.index(word) < 10)):
            current += _ONES.index(word)
        elif word in _TENS and (last is None or last in _SCALES):
            current += _TENS[word]
        elif word == "hundred" and 0 < current < 100:
            current *= 100
        elif word in _SCALES and word != "hundred" and current:
            total, current = total + current * _SCALES[word], 0
        else:
            return None
        last = word
    return None if last is None else total + current
