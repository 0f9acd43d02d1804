"""Each filter against a trajectory that it drops; the one beside it stays."""

from dataclasses import replace
from pathlib import Path

import pytest

from mdpo.filters import REPEATED, filter_table, switches
from mdpo.trajectory import Trajectory, Turn
from tests.mdpo.attempts import attempt

PLAIN = attempt("p", 0, 1.0)
CALL, ANSWER = PLAIN.turns
PAPER = ["too_long", "without_a_call", "right_after_a_failed_call"]


def turns(*found: Turn, **changes: object) -> Trajectory:
    return replace(PLAIN, turns=list(found), **changes)  # type: ignore[arg-type]


DROPPED = {
    "too_long": turns(CALL, replace(ANSWER, action_ids=[3] * 90, action_logprobs=[-1.0] * 90)),
    "without_a_call": turns(ANSWER),
    "right_after_a_failed_call": attempt("p", 0, 1.0, status="timeout"),
    "void_turn": turns(CALL, replace(ANSWER, action="Hm."), prediction=None, stop_reason="no_code"),
    "long_answer": replace(PLAIN, prediction="1" * 21),
    "unseen_output": turns(CALL, replace(CALL, observation=None, observation_ids=[]), prediction=None),
    "answer_after_an_error": attempt("p", 0, 0.0, output="ValueError: no"),
    "turn_without_python": attempt("p", 0, 1.0, action="```py\nprint(1)\n```"),
    "sandbox_fault": attempt("p", 0, 0.0, output="IPython/core: some Error", answer="Hm."),
    "library_fault": attempt("p", 0, 0.0, output="TypeError: minlex() got an unexpected argument", answer="Hm."),
    "empty_error": attempt("p", 0, 0.0, output="Execution error: ", answer="Hm."),
    "empty_list": attempt("p", 0, 0.0, output="[]"),
    "at_a_limit": replace(PLAIN, stop_reason="horizon"),
    "right_after_error_or_none": attempt("p", 0, 1.0, output="None"),
}


def test_every_filter_has_a_case_here_and_says_what_it_drops() -> None:
    table = filter_table()
    assert list(DROPPED) == list(table)
    assert all(one.about.endswith(".") for one in table.values())


def test_the_page_on_preferences_lists_every_filter_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "preferences.md").read_text()
    for one in filter_table().values():
        side, default = "all" if one.side == "both" else "right ones", "on " if one.default else ""
        assert f"| `{one.name}` | {side} | {default}| {one.about} |" in page


@pytest.mark.parametrize("name", DROPPED)
def test_a_filter_drops_what_its_name_says_and_nothing_else(name: str) -> None:
    drops = filter_table(max_length=50)[name].drops
    assert drops(DROPPED[name])
    assert not drops(PLAIN)


def test_length_is_counted_in_tokens_with_the_prompt_and_the_limit_itself_is_allowed() -> None:
    assert not filter_table(max_length=8)["too_long"].drops(PLAIN)
    assert filter_table(max_length=7)["too_long"].drops(PLAIN)
    assert not filter_table()["too_long"].drops(DROPPED["too_long"])


@pytest.mark.parametrize(
    ("last", "prediction", "void"),
    [
        ("Hm.", None, True),
        ("```python\nprint(1)", None, True),  # cut: not a whole program
        ("```python\nprint(1)\n```", None, False),  # at the horizon
        ("\\boxed{1}", "1", False),
    ],
)
def test_a_void_turn_has_neither_a_program_nor_an_answer(last: str, prediction: str | None, void: bool) -> None:
    trajectory = turns(CALL, replace(ANSWER, action=last), prediction=prediction)
    assert filter_table()["void_turn"].drops(trajectory) == void


def test_a_text_of_the_question_or_of_an_earlier_output_is_not_the_last_output() -> None:
    earlier = replace(CALL, observation="```output\nerror, none\n```")
    table = filter_table()
    for name in ("answer_after_an_error", "right_after_error_or_none"):
        assert not table[name].drops(turns(earlier, CALL, ANSWER, question="error"))


def test_the_papers_filters_and_near_copies_are_on_by_default() -> None:
    assert [name for name, on in switches().items() if on] == [*PAPER, REPEATED]
    assert list(switches()) == [*filter_table(), REPEATED]


def test_names_with_a_value_change_the_defaults_and_names_alone_replace_them() -> None:
    assert switches({"void_turn": True, "repeated": False}) == {**switches(), "void_turn": True, "repeated": False}
    assert [name for name, on in switches(["empty_list", "too_long"]).items() if on] == ["too_long", "empty_list"]
    assert not any(switches([]).values())


@pytest.mark.parametrize("given", [["void_trun"], {"void_trun": False}])
def test_an_unknown_filter_names_the_nearest_one(given: list[str] | dict[str, bool]) -> None:
    with pytest.raises(ValueError, match="no filter `void_trun`; did you mean `void_turn`"):
        switches(given)
