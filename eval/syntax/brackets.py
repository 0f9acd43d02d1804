"""What brackets hold: groups, points, lists, intervals, sets, dictionaries, arguments."""

from eval.syntax.names import Names
from eval.syntax.tree import Node, NotReadError, name


class Brackets(Names):
    """Reads the inside of brackets."""

    def arguments(self, closing: str) -> list[Node]:
        """What stands between brackets, up to the closing one."""
        if self.take(closing):
            return []
        saved, self.bars, self.in_set = (self.bars, self.in_set), 0, False
        node = self.listing()
        self.bars, self.in_set = saved
        self.expect(closing)
        return list(node.parts) if node.head == "list" else [node]

    def bracketed(self, opening: str) -> Node:
        """What round or square brackets hold: a group, a point, a list, an interval."""
        saved = self.bars, self.in_set
        self.bars, self.in_set = 0, False
        if self.is_sign(")", "]"):
            self.position += 1
            self.bars, self.in_set = saved
            return Node("()" if opening == "(" else "[]")
        node = self.listing()
        closing = self.expect(")", "]", *(("[",) if opening == "]" or node.head == "list" else ()))
        self.bars, self.in_set = saved
        brackets = {"]": "("}.get(opening, opening) + {"[": ")"}.get(closing, closing)
        if node.head == "list" and node.data == ",":
            return Node(brackets, node.parts)
        if brackets == "[]" and node.head not in {"matrix"}:
            return Node("[]", (node,)) if not self.starts_factor() else node
        if brackets not in {"()", "[]"}:
            raise NotReadError("brackets that do not match")
        return node

    def braced(self, closing: str) -> Node:
        """A group or a set."""
        saved, (self.bars, self.in_set) = (self.bars, self.in_set), (0, True)
        node = self.set_content(closing)
        self.bars, self.in_set = saved
        return node

    def set_content(self, closing: str) -> Node:
        """Elements, or `x : condition`, or pairs of a Python dictionary."""
        if self.take(closing):
            return Node("{}")
        node = self.listing()
        if self.is_sign(":", "|", "mid"):
            colon = self.is_sign(":")
            self.position += 1
            if closing == "}" and colon and node.head != "relation":
                return self.dictionary(node)
            condition = self.listing()
            self.expect(closing)
            if node.head == "relation" and node.data == ("in",):
                node, condition = node.parts[0], Node("list", (node, condition), "and")
            return Node("builder", (node, condition))
        self.expect(closing)
        if closing == "}" and node.head != "list":
            return node
        return Node("{}", node.parts if node.head == "list" else (node,))

    def dictionary(self, key: Node) -> Node:
        """`{x: 1, y: 2}` as `x = 1, y = 2`."""
        pairs = [Node("relation", (_as_name(key), self.set_operation()), ("=",))]
        while self.take(","):
            key = self.set_operation()
            self.expect(":")
            pairs.append(Node("relation", (_as_name(key), self.set_operation()), ("=",)))
        self.expect("}")
        return pairs[0] if len(pairs) == 1 else Node("list", tuple(pairs), "and")


def _as_name(key: Node) -> Node:
    """The key of a dictionary, which may be a string, as a variable."""
    return name(key.data) if key.head == "text" else key
