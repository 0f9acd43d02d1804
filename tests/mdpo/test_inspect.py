"""What `mdpo inspect` prints: the texts, the mask, and where the ids say something else than the texts."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from mdpo.chat import ChatFormat
from mdpo.errors import CheckpointError, DataError
from mdpo.inspect import show
from mdpo.render import answer_action, call_action, observation_text
from mdpo.trajectory import Trajectory, TrajectoryWriter, Turn
from mdpo.visible import visible

CALL = call_action("Multiply é by 日本.", "print(6 * 7)")


@pytest.fixture
def chat(tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    return ChatFormat(tokenizer)


def tell(chat: ChatFormat, policy: str | Path, output: str = "42", **fields: Any) -> Trajectory:
    """A trajectory of one call and an answer, with the ids that the chat format gives."""
    call, answer, observation = chat.action_ids(CALL), chat.action_ids(answer_action("42")), observation_text(output)
    turns = [
        Turn(CALL, call, [-1.0] * len(call), "print(6 * 7)\n", observation, chat.observation_ids(observation, call),
             "ok", 0.25),
        Turn(answer_action("42"), answer, [-1.0] * len(answer)),
    ]  # fmt: skip
    told = Trajectory("p", 3, "What?", "42", "test", chat.prompt_ids("What?"), turns, "answered", "42", 1.0,
                      str(policy), {})  # fmt: skip
    return replace(told, **fields)


def inspect(folder: Path, *trajectories: Trajectory, terminal: bool = False, **options: Any) -> str:
    path = folder / "t.jsonl"
    path.unlink(missing_ok=True)
    with TrajectoryWriter(path) as writer:
        for trajectory in trajectories:
            writer.append(trajectory)
    output = io.StringIO()
    colours: Any = "standard" if terminal else None
    show(path, Console(file=output, width=60, force_terminal=terminal, color_system=colours), **options)
    return output.getvalue()


def test_the_texts_are_shown_turn_by_turn(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    output = inspect(tmp_path, tell(chat, checkpoint))
    order = ["p, sample 3: right", "stopped: answered after 2 actions and 1 call", str(checkpoint), "What?", CALL,
             "ok in 0.250 s", "```output\n42\n```", "The answer is \\boxed{42}.", "prediction 42 · gold 42",
             "the ids decode to the texts"]  # fmt: skip
    positions = [output.index(text) for text in order]
    assert positions == sorted(positions)


def test_programs_are_highlighted_without_a_background(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    output = inspect(tmp_path, tell(chat, checkpoint), terminal=True)
    assert "\x1b[94;49m6\x1b[0m" in output
    assert not re.search(r"\x1b\[[\d;]*\b(4[0-7]|48|10[0-7])[;m]", output)


def test_the_mask_is_seen_without_colours(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    output = inspect(tmp_path, tell(chat, checkpoint), mask=True)
    assert (
        "0 │ <|user|>What?<|end|><|assistant|>\n"
        "1 ┃ Multiply é by 日本.⏎\n"
        "1 ┃ ```python⏎\n"
        "1 ┃ print(6 * 7)⏎\n"
        "1 ┃ ```<|end|>\n"
        "0 │ <|user|>```output⏎\n"
        "0 │ 42⏎\n"
        "0 │ ```<|end|><|assistant|>\n"
        "1 ┃ The answer is \\boxed{42}.<|end|>\n"
    ) in output
    actions = len(chat.action_ids(CALL)) + len(chat.action_ids(answer_action("42")))
    assert f"1 ┃ actions, {actions} tokens" in output


def test_a_long_line_keeps_its_margin_on_a_terminal(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    long = tell(chat, checkpoint, prompt_ids=chat.prompt_ids("word " * 30))
    plain = re.sub(r"\x1b\[[\d;]*m", "", inspect(tmp_path, long, terminal=True, mask=True))
    shown = [line for line in plain.splitlines() if "word" in line]
    assert len(shown) > 1
    assert all(line.startswith("0 │ ") and len(line) <= 60 for line in shown)


@pytest.mark.parametrize("mask", [False, True])
def test_a_text_that_the_ids_do_not_say_is_shown_as_a_diff(
    mask: bool, chat: ChatFormat, checkpoint: Path, tmp_path: Path
) -> None:
    told = tell(chat, checkpoint)
    turns = [replace(told.turns[0], action=CALL.replace("6", "9"), observation="```output\n43\n```"), told.turns[1]]
    output = inspect(tmp_path, replace(told, turns=turns), mask=mask)
    assert "turn 1, action, line 3, column 7" in output
    assert "-print(9 * 7)\n+print(6 * 7)\n" in output
    assert "turn 1, observation, line 2, column 2" in output
    assert "-43\n+42\n" in output
    assert "turn 2, action, line" not in output


def test_a_special_token_that_a_program_printed_was_not_seen_as_one(
    chat: ChatFormat, checkpoint: Path, tmp_path: Path
) -> None:
    assert "-<|end|>\n+< |end|>\n" in inspect(tmp_path, tell(chat, checkpoint, output="<|end|>"))


@pytest.mark.parametrize("mask", [False, True])
def test_without_the_checkpoint_the_texts_are_shown(mask: bool, chat: ChatFormat, tmp_path: Path) -> None:
    gone = tell(chat, tmp_path / "gone")
    output = inspect(tmp_path, gone, gone, count=2, mask=mask)
    assert output.count("there is no folder") == 1
    assert output.count(CALL) == 2
    assert "decode" not in output


def test_a_checkpoint_that_was_asked_for_must_load(chat: ChatFormat, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        inspect(tmp_path, tell(chat, "p"), tokenizer=str(tmp_path / "nowhere"))


def test_no_text_reaches_the_terminal_as_a_command(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07[bold red]x[/] :smile: \x9b2J\u202e \r"
    told = tell(chat, checkpoint, question=evil, answer=evil, prediction=evil, problem_id=evil, stop_reason=evil)
    turns = [replace(turn, action=evil + CALL, observation=evil, status=evil) for turn in told.turns]
    output = inspect(tmp_path, replace(told, turns=turns, policy=evil))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", output)
    assert "␛]0;title␇[bold red]x[/] :smile: <U+009B>2J<U+202E> ␍" in output


@given(st.text())
def test_visible_text_has_no_controls_and_keeps_the_rest(text: str) -> None:
    shown = visible(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    shown.encode()
    assert visible(shown) == shown


def test_only_what_is_asked_for_is_read(chat: ChatFormat, checkpoint: Path, tmp_path: Path) -> None:
    wrong = tell(chat, checkpoint, problem_id="q", reward=0.0)
    assert "q, sample 3: wrong" in inspect(tmp_path, tell(chat, checkpoint), wrong, right=False)
    with (tmp_path / "t.jsonl").open("a") as file:
        file.write("not a trajectory\n")
    output = io.StringIO()
    show(tmp_path / "t.jsonl", Console(file=output), problem="q")
    assert output.getvalue().startswith("q, sample 3")
    with pytest.raises(DataError, match="fits; leave out"):
        inspect(tmp_path, wrong, problem="other")
