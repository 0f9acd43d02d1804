"""Find the final answer that a text states."""

import re
from collections import deque
from typing import Literal

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\\\|\\[{}]|[{}]")
_BARE = re.compile(r"[A-Za-z0-9.+-]+|\\[A-Za-z]+(?:\{[^{}]*\})*")
_FENCE = re.compile(r"^[ \t>]*(```|~~~).*?(?:^[ \t>]*\1|\Z)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_HASHES = re.compile(r"####(?!#)[ \t]*([^\n]*)")
_STATED = re.compile(
    r"(?![0-9]+[.)]\s+\S)[-+−]?\s*\\?[$€£]?\s*[-+−]?\.?[0-9].*|\S*[0-9\\]\S*|\S"
)  # no heading such as `#### Step 2`, `#### 3. Check`
_PHRASE = re.compile(r"\bthe(?: final)? answer is\b", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|-?\.[0-9]+")
_FORMULA = re.compile(
    r"\$\$(.+?)\$\$|\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]",
    re.DOTALL,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_HASH_ANSWER_CHARS = 1_000


def extract_answer(text: str, fallback: Literal["last_number"] | None = None) -> str | None:
    r"""Return the final answer of `text`, or None if it states none.

    The rules, first match wins: the content of the last `\boxed{…}` or `\fbox{…}` with balanced braces outside
    code; what follows the last `####` (GSM8K); what follows the last "the answer is". A box that is empty or not
    closed, if it is the last one, means that the text states no answer: an earlier box is never taken in its place.
    The time is linear in the length of the text.

    Args:
        text: a solution, or a whole trajectory.
        fallback: "last_number" returns the last number of the text where no rule applies. That is a guess: leave it
            off for rewards, since a policy learns to end on many numbers.

    Returns:
        The answer without surrounding dollars, emphasis and final full stop.
    """
    prose = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text) if "```" in text or "~~~" in text else text
    if _BOX.search(prose):
        unquoted = _CODE.sub("", prose)
        return last_boxed(unquoted if _BOX.search(unquoted) else prose)
    answer = _after_hashes(prose) or _after_phrase(prose)
    if answer is None and fallback == "last_number":
        numbers = _NUMBER.findall(prose)
        return numbers[-1] if numbers else None
    return answer


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{…}` of `text`, the innermost of nested ones, or None."""
    last = _last_match(_BOX, text)
    if last is None:
        return None
    if not text.startswith("{", last.end()):
        bare = _BARE.match(text, last.end())
        return _clean(bare[0]) if bare else None
    depth = 0
    for brace in _BRACE.finditer(text, last.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return _clean(text[last.end() + 1 : brace.start()])
    return None


def _after_hashes(text: str) -> str | None:
    found = [line for line in _HASHES.findall(text) if _STATED.fullmatch(line[:_HASH_ANSWER_CHARS].strip())]
    return _clean(found[-1][:_HASH_ANSWER_CHARS]) if found else None


def _after_phrase(text: str) -> str | None:
    """What follows the last phrase, to the end of the formula that starts there, or of the sentence."""
    last = _last_match(_PHRASE, text)
    if last is None:
        return None
    rest = text[last.end() :].lstrip(" \t:*_`").removeprefix("\n").lstrip()
    if formula := _FORMULA.match(rest):
        return _clean(next(inside for inside in formula.groups() if inside is not None))
    end_of_sentence = _SENTENCE_END.search(rest)
    return _clean(rest[: end_of_sentence.start()] if end_of_sentence else rest)


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _clean(answer: str) -> str | None:
    """`answer` without blanks, dollars, emphasis around it and without a final full stop; None if nothing is left."""
    answer = answer.strip().strip("*_`").strip()
    if len(answer) > 1 and answer.endswith(".") and not answer.endswith(".."):
        answer = answer[:-1].rstrip().rstrip("*_`")
    for opening, closing in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if answer.startswith(opening) and answer.endswith(closing) and len(answer) > len(opening) + len(closing):
            answer = answer[len(opening) : -len(closing)].strip()
    return answer or None
