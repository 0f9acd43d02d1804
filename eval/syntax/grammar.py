r"""The grammar of answers: lists of relations of sums of products of powers, in LaTeX and as Python prints.

Recursive descent over `tokens.py`; what stands between operators is read in `names.py` and `atoms.py`. The
depth and the number of tokens are bounded, so time and memory are too.
"""

from abc import ABC, abstractmethod

from eval.syntax.measures import JOINERS, Measures, joined, scaled, with_unit
from eval.syntax.tree import Node, NotReadError, negative
from eval.units import FACTORS

_MAX_DEPTH = 40
_MAX_CHAIN = 12
_RELATIONS = frozenset(("=", "<", ">", "<=", ">=", "!=", "in", "~"))
_SIGNS = frozenset(("+", "-", "pm", "mp"))
_SETS = {"cup": "union", "cap": "cap", "minus": "minus"}


class Grammar(Measures, ABC):
    """Everything between operators and whole answers; `atoms.Parser` reads the operands."""

    def answer(self) -> Node:
        """The whole text."""
        self.take("=")
        node = self.listing()
        if self.token.kind != "stop":
            raise NotReadError(f"{self.token.text!r} is left over")
        return node

    def listing(self) -> Node:
        """Items between commas, semicolons, "and", "or"; a single item stands for itself."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotReadError("too deep")
        items, joiner = [self.relation()], ","
        while (found := self.separator()) is not None:
            joiner = found if found != "," else joiner
            if self.is_sign(")", "]", "}", "\\}") or self.token.kind == "stop":
                break
            items.append(self.relation())
        self.depth -= 1
        return items[0] if len(items) == 1 else Node("list", tuple(items), joiner)

    def separator(self) -> str | None:
        """Step over what separates two items, and say what it was."""
        found = None
        if self.is_sign(",", ";", "&"):
            found = "and" if self.token.text == "&" else ","
            self.position += 1
        elif self.is_sign("|") and self.python and not self.bars and not self.in_set:
            found = "or"
            self.position += 1
        if self.token.kind == "word" and self.token.text.lower() in JOINERS:
            found = JOINERS[self.token.text.lower()]
            self.position += 1
        return found

    def relation(self) -> Node:
        """Terms with `=`, `<`, … between them."""
        terms, signs = [self.set_operation()], []
        while self.token.kind == "sign" and self.token.text in _RELATIONS:
            signs.append(self.token.text)
            self.position += 1
            terms.append(self.set_operation())
            if len(terms) > _MAX_CHAIN:
                raise NotReadError("a chain that is too long")
        return Node("relation", tuple(terms), tuple(signs)) if signs else terms[0]

    def set_operation(self) -> Node:
        r"""Terms with `\cup`, `\cap`, `\setminus` between them, from left to right."""
        node = self.ratio()
        while (self.token.kind == "sign" and self.token.text in _SETS) or self.is_union_letter():
            head = _SETS.get(self.token.text, "union")
            self.position += 1
            other = self.ratio()
            node = Node(head, (*node.parts, other) if head == node.head == "union" else (node, other))
        return node

    def is_union_letter(self) -> bool:
        """Whether a U stands between brackets, where people mean a union."""
        before, after = self.tokens[self.position - 1], self.tokens[self.position + 1]
        return (
            self.token[:2] == ("word", "U")
            and before.text in {")", "]", "}", "\\}"}
            and after.text in {"(", "[", "\\{", "{"}
        )

    def ratio(self) -> Node:
        """`a:b`, `a to b`."""
        terms = [self.measured()]
        while (self.is_sign(":") and not self.in_set) or (self.token.kind == "word" and self.token.text == "to"):
            self.position += 1
            terms.append(self.measured())
        return terms[0] if len(terms) == 1 else Node("ratio", tuple(terms))

    def measured(self) -> Node:
        """A sum with the unit behind it; `2 hours 30 minutes` is one quantity."""
        node = self.total()
        while (token := self.token).kind == "word" and token.text.lower() in FACTORS:
            self.position += 1
            node = scaled(node, FACTORS[token.text.lower()])
        while self.unit_ahead():
            node = with_unit(node, self.unit())
            if self.token.kind == "number":
                value = self.total()
                node = joined(node, with_unit(value, self.unit()))
        return node

    def total(self) -> Node:
        r"""A sum; `a \over b` and `n \choose k` divide what stands around them."""
        node = self.plain_sum()
        if self.token.kind == "command" and self.token.text in {"over", "choose"}:
            head = self.token.text
            self.position += 1
            other = self.plain_sum()
            return Node("/", (node, other)) if head == "over" else Node("call", (node, other), "binomial")
        return node

    def plain_sum(self) -> Node:
        """Products with `+`, `-`, `±` between them."""
        terms = [self.product()]
        while self.token.kind == "sign" and self.token.text in _SIGNS:
            sign = self.token.text
            self.position += 1
            term = self.product()
            terms.append(_signed(sign, term))
        return terms[0] if len(terms) == 1 else Node("+", tuple(terms))

    def product(self) -> Node:
        """Factors with or without signs between them, and the sign in front of all."""
        signs: list[str] = []
        while self.token.kind == "sign" and self.token.text in _SIGNS:
            signs.append(self.token.text)
            self.position += 1
        node = self.power()
        while True:
            if self.take("*"):
                node = _times(node, self.factor())
            elif self.take("/"):
                node = Node("/", (node, self.factor()))
            elif self.starts_factor():
                node = _times(node, self.power())
            else:
                break
        for sign in reversed(signs):
            node = _signed(sign, node)
        return node

    def factor(self) -> Node:
        """A power behind `*` or `/`, where it may have a sign of its own."""
        minus = 0
        while self.is_sign("-", "+"):
            minus += self.expect("-", "+") == "-"
        node = self.power()
        return negative(node) if minus % 2 else node

    # Read in names.py and atoms.py, which complete this class.
    @abstractmethod
    def starts_factor(self) -> bool:
        """Whether the next token begins a factor that is multiplied without a sign."""

    @abstractmethod
    def power(self) -> Node:
        """An operand with its exponents and other marks behind it."""

    @abstractmethod
    def atom(self) -> Node:
        """One operand."""

    @abstractmethod
    def script(self) -> Node:
        """An exponent or index: a group, or the next thing alone."""

    @abstractmethod
    def function(self, text: str) -> Node:
        r"""`\\sin x`, `\\log_2 8`, `\\sin^2 x`, `\\sqrt[3]{x}`, behind the name."""

    @abstractmethod
    def arguments(self, closing: str) -> list[Node]:
        """What stands between brackets, up to the closing one."""

    @abstractmethod
    def money(self, unit: str) -> Node:
        """An amount behind its currency."""


def _signed(sign: str, node: Node) -> Node:
    if sign == "+":
        return node
    return negative(node) if sign == "-" else Node(sign, (node,))


def _times(a: Node, b: Node) -> Node:
    return Node("*", (*a.parts, b) if a.head == "*" else (a, b))
