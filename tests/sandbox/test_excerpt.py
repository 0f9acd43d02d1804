"""Long texts lose their middle, and say how much of it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from sandbox import ExecutionResult
from sandbox.result import Excerpt, cut


@given(pieces=st.lists(st.text(max_size=30)), limit=st.integers(2, 40))
def test_it_does_not_matter_how_a_text_is_cut_into_pieces(pieces, limit):
    excerpt = Excerpt(limit)
    for piece in pieces:
        excerpt.add(piece)
    assert str(excerpt) == cut("".join(pieces), limit)


@given(text=st.text(alphabet="ab", max_size=200), limit=st.integers(2, 40))
def test_what_is_kept_and_what_is_left_out_make_the_text(text, limit):
    kept = cut(text, limit)
    left_out = re.search(r"\n\[\.\.\. (\d+) characters left out \.\.\.\]\n", kept)
    if left_out is None:
        assert kept == text
    else:
        head, tail = kept[: left_out.start()], kept[left_out.end() :]
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) + len(tail) + int(left_out[1]) == len(text)


def test_a_result_reads_as_a_notebook_would():
    assert ExecutionResult("ok", "1\n", None, 0.1, False).text == "1"
    assert ExecutionResult("error", "1\n", "KeyError: 2", 0.1, False).text == "1\nKeyError: 2"
    assert ExecutionResult("ok", "", None, 0.1, False).text == "[no output]"
