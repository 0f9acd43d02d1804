"""Quantities: which words behind a value name its unit, and reading them."""

import re
from fractions import Fraction

from eval.syntax.calls import WORDS
from eval.syntax.cursor import Cursor
from eval.syntax.tree import Node, NotReadError, number
from eval.units import FACTORS, conversion, is_unit, unit_name

JOINERS = {"and": "and", "or": "or"}
NO_UNIT = frozenset(
    ("and", "or", "to", "is", "are", "was", "not", "if", "no", "at", "than", "but", "wrong", "be", "it",
     "in", "of", "the",
     "between", "least", "most", "only", "both", "none")
)  # fmt: skip
_MAX_UNIT_WORDS = 5
_VOWEL = re.compile(r"[aeiou]")


class Measures(Cursor):
    """Reads units."""

    def unit_ahead(self) -> bool:
        """Whether the next word names a unit rather than variables."""
        token = self.token
        if token.kind == "command" and token.text in {"frac", "dfrac", "tfrac"}:
            inner = self.tokens[self.position + 2]
            return inner.kind == "word" and inner.roman and is_unit(inner.text)
        if token.kind != "word" or (token.text.lower() in NO_UNIT and token.text != "in"):
            return False
        word = token.text
        if word in WORDS:  # `min` and `sec` are functions too
            return is_unit(word) and (token.roman or token.space) and self.tokens[self.position + 1].kind == "stop"
        if word.lower() in FACTORS:
            return False
        if is_unit(word):
            return token.roman or len(word) > 2 or (token.space and self.unit_ends())
        if token.roman:
            return len(word) > 1
        return token.space and len(word) > 2 and _VOWEL.search(word.lower()) is not None and not consecutive(word)

    def unit_ends(self) -> bool:
        """Whether nothing but an exponent or a further unit follows the next word."""
        after = self.tokens[self.position + 1]
        return (
            after.kind in {"stop", "word"}
            or (after.kind == "number" and len(self.token.text) > 1)
            or (after.kind == "sign" and after.text in {"^", "/", ",", ";", ")", "."})
        )

    def unit(self) -> str:
        """Step over a unit and return its name."""
        if self.token.kind == "command":
            return self.unit_fraction()
        words: list[tuple[str, int]] = []
        sign = 1
        while self.token.kind == "word" and self.token.text.lower() not in JOINERS and self.token.text != "to":
            word = self.token.text
            self.position += 1
            if word == "per":
                sign = -1
                continue
            if word.lower() in NO_UNIT and word != "in":
                raise NotReadError(f"prose: {word}")
            words.append((word, sign * self.unit_power()))
            if self.is_sign("/") and self.tokens[self.position + 1].kind == "word":
                self.position += 1
                sign = -1
            self.take(".")
        if not words or len(words) > _MAX_UNIT_WORDS:
            raise NotReadError("no unit")
        return unit_name(words)

    def unit_fraction(self) -> str:
        r"""Step over `\frac{\text{m}}{\text{s}}`."""
        self.position += 1
        names: list[tuple[str, int]] = []
        for sign in (1, -1):
            self.expect("{")
            while self.token.kind == "word":
                self.position += 1
                names.append((self.tokens[self.position - 1].text, sign * self.unit_power()))
            self.expect("}")
        return unit_name(names)

    def unit_power(self) -> int:
        """Step over the exponent of a unit."""
        if not self.take("^"):
            return 1
        braced = self.take("{")
        sign = -1 if self.take("-") else 1
        token = self.token
        if token.kind != "number" or len(token.text) != 1:
            raise NotReadError("a unit with a strange exponent")
        self.position += 1
        if braced:
            self.expect("}")
        return sign * int(token.text)


def consecutive(word: str) -> bool:
    """Whether the letters follow each other in the alphabet, as those of `abcd` do: a product, no word."""
    codes = [ord(letter) for letter in word]
    return len(set(word.lower())) > 1 and codes == list(range(codes[0], codes[0] + len(codes)))


def scaled(node: Node, factor: int) -> Node:
    """`3 million`."""
    if node.head == "quantity":
        return Node("quantity", (scaled(node.parts[0], factor),), node.data)
    return Node("*", (node, number(factor)))


def with_unit(node: Node, unit: str) -> Node:
    """The quantity of a value and a unit; a value with a unit gets a longer one."""
    if node.head == "quantity":  # `$5 per hour`, `30° angle`
        return Node("quantity", node.parts, node.data if unit.startswith("deg") else f"{node.data} {unit}")
    return Node("quantity", (node,), unit)


def joined(a: Node, b: Node) -> Node:
    """`2 hours 30 minutes`, in hours."""
    share = conversion(b.data, a.data)
    if share is None:
        raise NotReadError("two quantities side by side")
    value = Node("*", (b.parts[0], Node("number", (), number(Fraction(share)).data)))
    return Node("quantity", (Node("+", (a.parts[0], value)),), a.data)
