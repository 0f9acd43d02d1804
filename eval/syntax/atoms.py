r"""The operands of the grammar: brackets, functions, matrices and commands of LaTeX; `names.py` reads the others."""

from eval.number import parse_number
from eval.syntax.brackets import Brackets
from eval.syntax.calls import WORDS, call
from eval.syntax.names import FRACTIONS
from eval.syntax.tokens import Token
from eval.syntax.tree import Node, NotReadError, UnknownCommandError, name, negative, number
from eval.units import FACTORS

_BINOMIALS = frozenset(("binom", "dbinom", "tbinom"))
_OWN_NAME = frozenset(("angle", "triangle", "measuredangle", "vec", "overrightarrow", "hat", "widehat", "widetilde",
                       "mathcal", "mathfrak", "overline", "bar"))  # fmt: skip
_EMPTY = frozenset(("emptyset", "varnothing"))
_BOXES = frozenset(("boxed", "fbox", "underline"))
_CURRENCY = {"$": "$", "€": "€", "£": "£", "¥": "¥", "₹": "₹"}
_MATRICES = frozenset(("pmatrix", "bmatrix", "Bmatrix", "matrix", "smallmatrix", "array"))
_ARGUMENT_ENDS = frozenset(("+", "-", "*", "/", "pm", "mp"))
_MAX_ATOM_DEPTH = 100


class Parser(Brackets):
    """The complete grammar."""

    def starts_factor(self) -> bool:
        """Whether the next token begins a factor that is multiplied without a sign."""
        kind, text = self.token.kind, self.token.text
        if kind == "sign":
            return text in {"(", "\\{", "{"} or (text == "|" and not self.bars and not self.in_set and not self.python)
        if kind == "word":
            return not (
                self.unit_ahead()
                or self.is_union_letter()
                or text.lower() in {"and", "or", "to"}
                or text.lower() in FACTORS
            )
        if kind == "number":
            return self.after_group()
        return kind in {"call", "name", "begin"} or (
            kind == "command" and text not in {"over", "choose"} and not self.unit_ahead()
        )

    def after_group(self) -> bool:
        """A number is a factor behind a bracket or a command's argument only, never behind another number."""
        before = self.tokens[self.position - 1]
        return before.text == "!" or (before.text in {")", "}", "\\}"} and not self.token.space)

    def power(self) -> Node:
        """An operand with its exponents and other marks behind it."""
        node = self.atom()
        while self.token.kind == "sign":
            text = self.token.text
            if text == "^":
                self.position += 1
                node = self.raised(node)
            elif text == "!":
                self.position += 1
                node = Node("!", (node,))
            elif text == "%":
                self.position += 1
                node = Node("quantity", (node,), "%")
            elif text == "deg":
                self.position += 1
                node = self.degrees(node)
            elif text == "_" and node.head == "matrix":
                self.position += 1
                self.script()
            else:
                break
        return node

    def raised(self, base: Node) -> Node:
        """What stands behind `^`: an exponent, a degree sign or a prime."""
        if self.is_sign("deg") or (self.is_sign("{") and self.tokens[self.position + 1].text == "deg"):
            braced = self.take("{")
            self.position += 1
            if braced:
                self.expect("}")
            return self.degrees(base)
        if self.take("'"):
            return base
        exponent = self.script()
        if self.is_sign("^"):  # Python's ** binds to the right
            self.position += 1
            exponent = self.raised(exponent)
        if base.head == "quantity":
            raise NotReadError("a power of a quantity")
        return Node("^", (base, exponent))

    def degrees(self, node: Node) -> Node:
        """An angle or a temperature."""
        unit = "deg"
        if self.token.kind == "word" and self.token.text in {"C", "F"}:
            unit += self.token.text
            self.position += 1
        return Node("quantity", (node,), unit)

    def script(self) -> Node:
        """An exponent or index: a group, or the next thing alone."""
        if self.take("{"):
            node = self.listing()
            self.expect("}")
            return node
        if self.take("-"):
            return negative(self.script())
        if self.token.kind == "word" and not self.python and not self.token.roman:
            self.split_word(self.token)
            if self.tokens[self.position + 1].kind == "number":  # the x of \\frac x2 and 2^x 3 has no index
                self.position += 1
                return name(self.tokens[self.position - 1].text)
        return self.atom()

    def atom(self) -> Node:
        """One operand."""
        self.depth += 1
        if self.depth > _MAX_ATOM_DEPTH:
            raise NotReadError("too deep")
        token = self.token
        self.position += 1
        reader = getattr(self, f"_{token.kind}", None)  # `_number`, `_word`, …: one method a kind of token
        if reader is None:
            raise NotReadError(f"{token.text!r} is no operand")
        node: Node = reader(token)
        self.depth -= 1
        return node

    def _string(self, token: Token) -> Node:
        return Node("text", (), token.text[1:-1])

    def function(self, text: str) -> Node:
        r"""`\sin x`, `\log_2 8`, `\sin^2 x`, `\sqrt[3]{x}`."""
        exponent = index = None
        for _ in range(2):
            if self.take("_"):
                index = self.script()
            if self.take("^"):
                exponent = self.script()
        inverse = exponent is not None and exponent.head == "number" and exponent.data.value == -1
        argument = self.argument()
        several = argument.parts if argument.head == "()" else (argument,)  # of \\max and \\gcd
        node = call(f"a{text}" if inverse else text, [*several, *([index] if index else [])])
        return node if exponent is None or inverse else Node("^", (node, exponent))

    def argument(self) -> Node:
        """What a function without brackets applies to: the factors up to the next sign or function."""
        if self.is_sign("(", "{", "|"):
            return self.atom()
        signs = 0
        while self.is_sign("-", "+"):
            signs += self.expect("-", "+") == "-"
        node = self.power()
        while self.starts_factor() and not self.begins_function():
            other = self.power()
            node = Node("*", (*node.parts, other) if node.head == "*" else (node, other))
        return negative(node) if signs % 2 else node

    def begins_function(self) -> bool:
        """Whether the next token ends the argument of a function without brackets."""
        token = self.token
        return token.text in WORDS or (token.kind == "sign" and token.text in _ARGUMENT_ENDS)

    def _begin(self, token: Token) -> Node:
        if token.text not in _MATRICES and token.text != "vmatrix":
            raise UnknownCommandError(token.text)
        rows: list[list[Node]] = [[]]
        while self.token.kind != "end":
            if self.take("\\\\"):
                rows.append([])
                continue
            rows[-1].append(self.set_operation())
            if not self.take("&") and not self.is_sign("\\\\") and self.token.kind != "end":
                raise NotReadError("a matrix that is not closed")
        self.position += 1
        return matrix([row for row in rows if row], "det" if token.text == "vmatrix" else "matrix")

    def _command(self, token: Token) -> Node:
        command = token.text
        if command in WORDS and command != "sqrt":
            return self.function("Log" if command == "log" else command)
        if command in FRACTIONS:
            return Node("/", (self.operand(), self.operand()))
        if command in _BINOMIALS:
            return Node("call", (self.operand(), self.operand()), "binomial")
        if command == "sqrt":
            index = None
            if self.take("["):
                index = self.listing()
                self.expect("]")
            return Node("root", (self.root_operand(), index or number(2)))
        if command in _EMPTY:
            return Node("{}")
        if command in _BOXES:
            return self.script()
        if command in _OWN_NAME:
            start = self.position
            self.script()
            while self.token.kind == "word" and self.token.text.isupper() and command != "overline":
                self.position += 1
            return name(
                f"{command} "
                + "".join(item.text for item in self.tokens[start : self.position] if item.text not in "{}")
            )
        raise UnknownCommandError(command)

    def operand(self) -> Node:
        r"""An argument of `\frac`: a group, or one digit or letter."""
        token = self.token
        if token.kind == "number" and len(token.text) > 1:
            digits = [Token("number", digit, False, False) for digit in token.text]
            if not token.text.isdecimal():
                raise NotReadError("a fraction without braces")
            self.tokens[self.position : self.position + 1] = digits
            self.position += 1
            return number(int(token.text[0]))
        return self.script()

    def root_operand(self) -> Node:
        r"""`\sqrt{2}`, and `\sqrt 17` as people write it."""
        return self.script() if self.is_sign("{") or self.token.kind != "number" else self._plain_number()

    def _plain_number(self) -> Node:
        self.position += 1
        return Node("number", (), parse_number(self.tokens[self.position - 1].text))

    def money(self, unit: str) -> Node:
        """An amount behind its currency."""
        sign = self.take("-")
        node = self.power()
        return Node("quantity", (negative(node) if sign else node,), unit)

    def _sign(self, token: Token) -> Node:
        text = token.text
        if text in {"(", "[", "]"}:
            return self.bracketed(text)
        if text in {"\\{", "{"}:
            return self.braced("\\}" if text == "\\{" else "}")
        if text == "|":
            self.bars += 1
            inside = self.listing()
            self.expect("|")
            self.bars -= 1
            return Node("det", inside.parts, inside.data) if inside.head == "matrix" else Node("call", (inside,), "abs")
        if text in _CURRENCY:
            return self.money(_CURRENCY[text])
        if text == "...":
            return Node("text", (), "...")
        raise NotReadError(f"{text!r} is no operand")


def matrix(rows: list[list[Node]], head: str = "matrix") -> Node:
    """A matrix from its rows."""
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise NotReadError("rows of different length")
    return Node(head, tuple(cell for row in rows for cell in row), (len(rows), widths.pop()))
