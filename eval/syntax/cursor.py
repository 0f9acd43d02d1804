"""A place in a list of tokens."""

from eval.syntax.tokens import END, Token
from eval.syntax.tree import NotReadError


class Cursor:
    """Steps over tokens; the classes that read parts of the grammar build on it."""

    def __init__(self, tokens: list[Token], python: bool) -> None:
        self.tokens = [*tokens, *[END] * 8]
        self.python = python
        self.position = 0
        self.depth = 0
        self.in_set = False
        self.bars = 0

    @property
    def token(self) -> Token:
        """The next token."""
        return self.tokens[self.position]

    def is_sign(self, *signs: str) -> bool:
        """Whether the next token is one of `signs`."""
        token = self.tokens[self.position]
        return token.kind == "sign" and token.text in signs

    def take(self, sign: str) -> bool:
        """Step over the next token if it is `sign`."""
        found = self.is_sign(sign)
        self.position += found
        return found

    def expect(self, *signs: str) -> str:
        """Step over one of `signs`; anything else is an error."""
        if not self.is_sign(*signs):
            raise NotReadError(f"{self.token.text!r} where {signs} belongs")
        self.position += 1
        return self.tokens[self.position - 1].text
