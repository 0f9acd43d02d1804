"""Whether two trees are the same answer: labels, units, lists, sets, matrices, relations, and expressions at last."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from eval.evaluate import InexactError, NoValueError, exact
from eval.matrices import as_matrix, is_matrix
from eval.real_sets import equal_sets, is_set_of_reals
from eval.relations import equal_relations, has_relation, split_label
from eval.scalars import equal_scalars
from eval.syntax.tree import BRACKETS, Node, contains, name, negative, number, variables
from eval.units import conversion
from eval.words import same_words

_COLLECTIONS = BRACKETS | {"list", "{}"}
_MAX_DEPTH = 12
_MAX_UNORDERED = 40  # parts that may stand in any order: each is compared with each
_SIGNS = {"pm": (False, True), "mp": (True, False)}
_CENT = Fraction(1, 100)


def equal(a: Node, b: Node) -> bool:
    """Whether the prediction `a` is the gold answer `b`."""
    return a == b or _same(_spread(a), _spread(b), 0)


def _spread(node: Node) -> Node:
    r"""The tree with `a \\pm b` as the list of its two values."""
    if not contains(node, lambda item: item.head in _SIGNS):
        return node
    if node.head in {"list", "{}"}:
        return node._replace(parts=tuple(version for part in node.parts for version in _versions(part)))
    return Node("list", _versions(node), ",")


def _versions(node: Node) -> tuple[Node, ...]:
    both = tuple(_chosen(node, lower) for lower in (False, True))
    return both if both[0] != both[1] else both[:1]


def _chosen(node: Node, lower: bool) -> Node:
    parts = tuple(_chosen(part, lower) for part in node.parts)
    if node.head in _SIGNS:
        return negative(parts[0]) if _SIGNS[node.head][lower] else parts[0]
    return node._replace(parts=parts)


def _same(a: Node, b: Node, depth: int) -> bool:
    if a == b:
        return True
    if depth > _MAX_DEPTH:
        return False
    for decide in (_texts, _labelled, _real_sets, _relations, _quantities, _matrices, _ratios, _collections):
        verdict = decide(a, b, depth + 1)
        if verdict is not None:
            return verdict
    return equal_scalars(a, b)


def _texts(a: Node, b: Node, depth: int) -> bool | None:
    if a.head != "text" and b.head != "text":
        return None
    words = [node.data if node.head in {"text", "name"} else None for node in (a, b)]
    return words[0] is not None and words[1] is not None and same_words(words[0], words[1])


def _labelled(a: Node, b: Node, depth: int) -> bool | None:
    """`x = 5` is `5`, and is `x = 5`; two different labels are left to the equations."""
    (label_a, value_a), (label_b, value_b) = split_label(a, _consistent), split_label(b, _consistent)
    if label_a is not None and label_b is not None:
        return _same(value_a, value_b, depth) if label_a == label_b else None
    if label_a is not None and not has_relation(b):
        return _same(value_a, b, depth)
    if label_b is not None and not has_relation(a):
        return _same(a, value_b, depth)
    for label, value, other in ((label_a, value_a, b), (label_b, value_b, a)):
        if label is not None and label.head == value.head == "()" and other.head == "list":
            return _collections(_zipped(label, value), other, depth)
    return None


def _zipped(label: Node, value: Node) -> Node:
    """`(x, y) = (1, 2)` as `x = 1, y = 2`."""
    pairs = zip(label.parts, value.parts, strict=False)
    return Node("list", tuple(Node("relation", pair, ("=",)) for pair in pairs), ",")


def _consistent(a: Node, b: Node) -> bool:
    return _same(a, b, _MAX_DEPTH - 2)


def _real_sets(a: Node, b: Node, depth: int) -> bool | None:
    if not is_set_of_reals(a) and not is_set_of_reals(b):
        return None
    verdict = equal_sets(a, b)
    if verdict is None and a.head == b.head and a.head in {"union", "cap", "minus", "builder"}:
        same_length = len(a.parts) == len(b.parts)
        return same_length and all(_same(x, y, depth) for x, y in zip(a.parts, b.parts, strict=True))
    if verdict is None and a.head == b.head == "list":
        return _unordered(a.parts, b.parts, depth)
    return verdict


def _relations(a: Node, b: Node, depth: int) -> bool | None:
    if a.head == b.head == "relation":
        return equal_relations(a, b, lambda x, y: _same(x, y, depth))
    return False if "relation" in {a.head, b.head} else None


def _quantities(a: Node, b: Node, depth: int) -> bool | None:
    a, b = _compound(a), _compound(b)
    if a.head == b.head == "quantity":
        return _two_units(a, b, depth)
    if b.head == "quantity":
        return _one_unit(b, a, depth, _is_rounded_money(b, a))
    return _one_unit(a, b, depth, False) if a.head == "quantity" else None


def _compound(node: Node) -> Node:
    """`1 hour and 30 minutes` as one quantity."""
    if (
        node.head != "list"
        or node.data != "and"
        or len(node.parts) != 2
        or any(p.head != "quantity" for p in node.parts)
    ):
        return node
    large, small = node.parts
    share = conversion(small.data, large.data)
    if share is None or not 0 < share < 1:
        return node
    value = Node("+", (large.parts[0], Node("*", (small.parts[0], number(share)))))
    return Node("quantity", (value,), large.data)


def _two_units(a: Node, b: Node, depth: int) -> bool:
    share = conversion(a.data, b.data)
    if share is None:
        return False
    value = a.parts[0] if share == 1 else Node("*", (a.parts[0], number(share)))
    return _same(value, b.parts[0], depth) or _is_rounded_money(b, value)


def _one_unit(measured: Node, plain: Node, depth: int, rounded: bool) -> bool:
    """A unit on one side only is ignored; `50%` is 0.5, and also 50 as in "what percent …"; but `0.5%` is never 0.5."""
    value, unit = measured.parts[0], measured.data
    if unit == "%":
        if equal_scalars(Node("/", (value, number(100))), plain):
            return True
        return not _is_below_one(value) and _same(value, plain, depth)
    if unit == "deg" and contains(plain, lambda item: item.data == "pi"):
        return equal_scalars(Node("/", (Node("*", (value, name("pi"))), number(180))), plain)
    if unit in variables(plain):  # `5 m`, where m may be a letter
        return _same(Node("*", (value, name(unit))), plain, depth)
    return rounded or _same(value, plain, depth)


def _is_below_one(value: Node) -> bool:
    try:
        return abs(exact(value, {})) < 1
    except (InexactError, NoValueError):
        return False


def _is_rounded_money(gold: Node, prediction: Node) -> bool:
    """A gold amount in whole cents accepts the amount that rounds to it, if that has more places."""
    value = gold.parts[0]
    if gold.data != "$" or value.head != "number" or value.data.step != _CENT or prediction.head != "number":
        return False
    step = prediction.data.step
    return step is not None and step < _CENT and abs(prediction.data.value - value.data.value) <= _CENT / 2


def _matrices(a: Node, b: Node, depth: int) -> bool | None:
    if not contains(a, is_matrix) and not contains(b, is_matrix):
        return None
    first, second = as_matrix(a), as_matrix(b)
    if first is None or second is None or first.head == second.head != "matrix":
        return None if not (is_matrix(a) or is_matrix(b)) and first is second is None else False
    if first.data != second.data:
        return False
    return all(_same(x, y, depth) for x, y in zip(first.parts, second.parts, strict=True))


def _ratios(a: Node, b: Node, depth: int) -> bool | None:
    if a.head != "ratio" and b.head != "ratio":
        return None
    if a.head == b.head:
        return _two_ratios(a.parts, b.parts, depth)
    ratio, other = (a, b) if a.head == "ratio" else (b, a)
    return len(ratio.parts) == 2 and other.head == "/" and equal_scalars(Node("/", ratio.parts), other)


def _two_ratios(first: Sequence[Node], second: Sequence[Node], depth: int) -> bool:
    """`6:2` is `3:1`; a ratio with a zero may be a time of day and is compared as it stands."""
    if len(first) != len(second):
        return False
    if any(item == number(0) or item.head == "text" for item in (*first, *second)):
        return all(_same(x, y, depth) for x, y in zip(first, second, strict=True))
    head = first[0], second[0]
    return all(
        equal_scalars(Node("*", (x, head[1])), Node("*", (y, head[0]))) for x, y in zip(first, second, strict=True)
    )


def _collections(a: Node, b: Node, depth: int) -> bool | None:
    in_a, in_b = a.head in _COLLECTIONS, b.head in _COLLECTIONS
    if not in_a and not in_b:
        return None
    if in_a and in_b:
        return _two_collections(a, b, depth)
    group, other = (a, b) if in_a else (b, a)
    if len(group.parts) != 1 or group.head not in {"{}", "[]"}:
        return False
    return _same(group.parts[0], other, depth) if in_a else _same(other, group.parts[0], depth)


def _two_collections(a: Node, b: Node, depth: int) -> bool:
    heads = {a.head, b.head}
    if not a.parts or not b.parts:
        return not a.parts and not b.parts and "()" not in heads
    if len(b.parts) == 1 and b.head == "{}" and a.head in BRACKETS and len(a.parts) > 1:
        return a.head != "[]" and _same(a, b.parts[0], depth)
    if len(a.parts) == 1 and a.head == "[]" and len(b.parts) > 1:  # `[{x: 1, y: 2}]` and `[(1, 2)]`: one solution
        return _same(a.parts[0], b, depth)
    if heads <= {"{}", "list", "[]"} and "{}" in heads and b.head != "[]":
        return _equal_as_sets(a.parts, b.parts, depth)
    if heads <= {"list", "[]"} and "list" in heads:
        return _equal_lists(a, b, depth)
    if a.head != b.head and heads not in ({"list", "()"}, {"list"}):
        return False
    return _ordered(_values(a.parts) or a.parts, _values(b.parts) or b.parts, depth)


def _equal_lists(a: Node, b: Node, depth: int) -> bool:
    """Bare lists: in any order; labels on one side only are dropped, different ones fix the order."""
    labels_a, labels_b = _labels(a.parts), _labels(b.parts)
    if bool(labels_a) == bool(labels_b):
        return _ordered(a.parts, b.parts, depth) or _unordered(a.parts, b.parts, depth)
    first, second = _values(a.parts) or a.parts, _values(b.parts) or b.parts
    if _ordered(first, second, depth):
        return True
    return len(set(labels_a or labels_b)) == 1 and _unordered(first, second, depth)


def _labels(parts: Sequence[Node]) -> list[Node]:
    return [label for label, _ in (split_label(part, _consistent) for part in parts) if label is not None]


def _values(parts: Sequence[Node]) -> tuple[Node, ...] | None:
    """The items without their labels, if all have one or only the first has (`x = 1, 2, 3`)."""
    split = [split_label(part, _consistent) for part in parts]
    marked = [label is not None for label, _ in split]
    return tuple(value for _, value in split) if all(marked) or (marked[0] and not any(marked[1:])) else None


def _ordered(first: Sequence[Node], second: Sequence[Node], depth: int) -> bool:
    return len(first) == len(second) and all(_same(x, y, depth) for x, y in zip(first, second, strict=True))


def _unordered(first: Sequence[Node], second: Sequence[Node], depth: int) -> bool:
    """Whether the parts can be paired off; equality is transitive, so the first partner found is as good as any."""
    if len(first) != len(second) or len(first) > _MAX_UNORDERED:
        return False
    left = list(second)
    for part in first:
        partner = next((index for index, other in enumerate(left) if _same(part, other, depth)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _equal_as_sets(first: Sequence[Node], second: Sequence[Node], depth: int) -> bool:
    if max(len(first), len(second)) > _MAX_UNORDERED:
        return set(first) == set(second)
    return _contained(first, second, lambda x, y: _same(x, y, depth)) and _contained(
        second, first, lambda x, y: _same(y, x, depth)
    )


def _contained(first: Sequence[Node], second: Sequence[Node], same: Callable[[Node, Node], bool]) -> bool:
    return all(any(same(x, y) for y in second) for x in first)
