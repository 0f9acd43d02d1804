"""Expressions in matrices, and lists that stand for matrices."""

from eval.syntax.tree import Node, contains, name


def is_matrix(node: Node) -> bool:
    """Whether the node is a matrix in its own right."""
    return node.head == "matrix"


def as_matrix(node: Node) -> Node | None:
    """The matrix that an expression in matrices is: multiples, sums, transposes; rows of a Python list."""
    if node.head == "matrix":
        return node
    if node.head in {"[]", "()"} and node.parts:
        rows = [part.parts if part.head == "[]" else (part,) for part in node.parts]
        if len({len(row) for row in rows}) == 1:
            return Node("matrix", tuple(cell for row in rows for cell in row), (len(rows), len(rows[0])))
    if node.head == "^" and node.parts[0].head == "matrix" and node.parts[1] == name("T"):
        rows_count, columns = node.parts[0].data
        cells = node.parts[0].parts
        return Node(
            "matrix",
            tuple(cells[r * columns + c] for c in range(columns) for r in range(rows_count)),
            (columns, rows_count),
        )
    if node.head in {"*", "/", "neg"}:
        found = [part for part in node.parts if contains(part, is_matrix)]
        inner = as_matrix(found[0]) if len(found) == 1 else None
        if inner is None or (node.head == "/" and found[0] is not node.parts[0]):
            return None
        parts = [[cell if part is found[0] else part for part in node.parts] for cell in inner.parts]
        return inner._replace(parts=tuple(node._replace(parts=tuple(cell)) for cell in parts))
    if node.head == "+":
        inner_all = [as_matrix(part) for part in node.parts]
        shapes = {item.data if item is not None else None for item in inner_all}
        if len(shapes) == 1 and None not in shapes:
            cells_all = zip(*(item.parts for item in inner_all if item is not None), strict=True)
            return Node("matrix", tuple(Node("+", tuple(cells)) for cells in cells_all), shapes.pop())
    return None
