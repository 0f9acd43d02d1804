"""Numbers and names: mixed numbers, numerals with a base, variables with an index, words and what they may mean."""

import re
from fractions import Fraction

from eval.number import parse_number
from eval.syntax.calls import FUNCTIONS, WORDS, call
from eval.syntax.grammar import Grammar
from eval.syntax.measures import NO_UNIT, consecutive
from eval.syntax.tokens import Token
from eval.syntax.tree import Node, NotReadError, name

FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
_ORDINALS = frozenset(("st", "nd", "rd", "th"))
_CONSTANT_WORDS = {"pi": "pi", "oo": "oo", "inf": "oo", "infinity": "oo", "Infinity": "oo", "infty": "oo"}
_PYTHON_CONSTANTS = {"I": "i", "E": "e", "j": "i", "Reals": "RR", "Integers": "ZZ"}
_GREEK = frozenset(
    ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "rho", "sigma", "phi", "omega", "epsilon", "tau")
)
_REFUSED = frozenset(("nan", "NaN", "zoo", "None", "True", "False", "lambda", "if", "else", "import", "while", "for"))
_CURRENCY_WORDS = {"USD": "$", "EUR": "€", "GBP": "£", "Rs": "₹", "US": "$"}
_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_MAX_PRODUCT_WORD = 3
_REPEATED = re.compile(r"(-?[0-9]*\.[0-9]*?)([0-9])\2\2+(?:\.\.\.|\\l?dots)")
_OVERLINED = re.compile(r"\\(?:overline|bar|dot)\s*\{?([0-9]+)\}?")


class Names(Grammar):
    """Reads numbers and names."""

    def _number(self, token: Token) -> Node:
        text = token.text
        if repeated := _REPEATED.fullmatch(text):
            text = f"{repeated[1]}({repeated[2]})"
        value = parse_number(_OVERLINED.sub(r"(\1)", text))
        if value is None:
            raise NotReadError(f"{text!r} is no number")
        if self.is_sign("_") and text.isdecimal():
            return self.based(text)
        after = self.token
        if after.kind == "word" and after.text in _ORDINALS and not after.space and value.value.denominator == 1:
            self.position += 1
        if after.kind == "word" and after.text == "j" and not after.space:
            self.position += 1
            return Node("*", (Node("number", (), value), name("i")))
        if after.kind == "word" and after.text[0] in "xXbo" and text == "0" and not after.space:
            raise NotReadError("a number of a program")
        node = Node("number", (), value)
        if value.value.denominator == 1 and value.step is None and (part := self.proper_fraction()):
            return Node("number", (), parse_number(str(value.value + part)))
        return node

    def based(self, digits: str) -> Node:
        """A numeral with its base, such as `101_2`."""
        self.position += 1
        words = [self.token.text]
        if self.take("{"):
            words = []
            while not self.is_sign("}") and self.token.kind != "stop":
                words.append(self.token.text)
                self.position += 1
        self.position += 1
        text = "".join(words).strip("()").lower()
        base = _BASE_WORDS.get(text) or (int(text) if text.isdecimal() else 0)
        if not 2 <= base <= 36:
            raise NotReadError("no base")
        return Node("based", (), (digits.lstrip("0") or "0", base))

    def proper_fraction(self) -> Fraction | None:
        r"""Step over the fraction of a mixed number, `\frac{3}{4}` or ` 3/4`, if it stands here."""
        texts = [token.text for token in self.tokens[self.position : self.position + 7]]
        if self.token.kind == "command" and self.token.text in FRACTIONS and len(texts) == 7:
            if texts[1] == "{" and texts[3:5] == ["}", "{"] and texts[6] == "}":
                top, bottom, length = texts[2], texts[5], 7
            elif texts[1].isdecimal() and len(texts[1]) == 2:
                top, bottom, length = texts[1][0], texts[1][1], 2
            else:
                return None
        elif self.token.kind == "number" and self.token.space and len(texts) > 2 and texts[1] == "/":
            top, bottom, length = texts[0], texts[2], 3
        else:
            return None
        if not (top.isdecimal() and bottom.isdecimal() and len(top + bottom) < 40 and int(bottom)):
            return None
        self.position += length
        return Fraction(int(top), int(bottom))

    def _name(self, token: Token) -> Node:
        return self.indexed(token.text)

    def indexed(self, text: str) -> Node:
        """A name with its index and primes."""
        digits = self.token
        if len(text) == 1 and digits.kind == "number" and not digits.space and digits.text.isdecimal():
            self.position += 1
            text += f"_{digits.text}"
        if self.take("_"):
            start = self.position
            self.script()
            inside = "".join(token.text for token in self.tokens[start : self.position])
            text += f"_{inside.strip('{}')}"
        while self.take("'"):
            text += "'"
        return name(text)

    def _word(self, token: Token) -> Node:
        text = token.text
        if text in _REFUSED or (text.lower() in NO_UNIT and not (text.isupper() and len(text) > 1)):
            raise NotReadError(f"prose: {text}")
        if text in _CONSTANT_WORDS:
            return name(_CONSTANT_WORDS[text])
        if self.python and text in _PYTHON_CONSTANTS:
            return name(_PYTHON_CONSTANTS[text])
        if text in WORDS:
            return self.function(text)
        if text in _CURRENCY_WORDS:
            self.take(".")
            return self.money(_CURRENCY_WORDS[text])
        if text == "EmptySet":
            return Node("{}")
        if len(text) == 1 or text in _GREEK:
            return self.indexed(text)
        if token.roman or not (len(text) <= _MAX_PRODUCT_WORD or consecutive(text) or text.isupper()):
            return self.whole_word(text)
        self.position -= 1
        self.split_word(token)
        return self.atom()

    def whole_word(self, text: str) -> Node:
        """A word is an operand only if it stands alone between relations, commas and brackets."""
        node = self.indexed(text)
        after = self.token
        alone = after.kind in {"stop", "word"} or (after.kind == "sign" and after.text in "=<>,;:)]}~\\}<=>=")
        if not alone:
            raise NotReadError(f"prose: {text}")
        return node

    def split_word(self, token: Token) -> None:
        """Put the letters of the next word there as tokens of their own."""
        letters = [Token("word", letter, False, token.roman) for letter in token.text]
        self.tokens[self.position : self.position + 1] = letters

    def _call(self, token: Token) -> Node:
        text = token.text.rpartition(".")[2] if not token.text.startswith("Interval.") else token.text
        if text in FUNCTIONS or text.startswith("Interval"):
            self.position += 1
            return call(text, self.arguments(")"))
        if len(text) == 1:
            self.position += 1
            arguments = self.arguments(")")
            return Node("apply", tuple(arguments), text)
        if token.roman or not text.isalpha() or not (len(text) <= _MAX_PRODUCT_WORD or text.isupper()):
            raise NotReadError(f"{text} is no known function")
        self.position -= 1
        letters = [Token("word", letter, False, False) for letter in text[:-1]]
        self.tokens[self.position : self.position + 1] = [*letters, Token("call", text[-1], False, False)]
        return self.atom()
