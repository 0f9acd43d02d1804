"""Data sets of every form: known by their columns, read from files, folders and the hub, nothing lost in silence."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from mdpo.chat import ChatFormat
from mdpo.conversations import Encoder
from mdpo.data import single_dataset
from mdpo.errors import DataError, TrainingError
from mdpo.lessons import Lesson
from mdpo.options import Lessons
from mdpo.preference import Pair
from mdpo.tables import open_table
from mdpo.training_data import Dropped, find_form, paired

ASKED = {"role": "user", "content": "How many?"}
GOOD, BAD = {"role": "assistant", "content": "So 7."}, {"role": "assistant", "content": "So 8."}
TURN = [{"role": "assistant", "content": "Compute."}, {"role": "user", "content": "7"}]


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


class Told(list[str]):
    """What a lesson said."""


def lesson(chat: ChatFormat, source: str, method: str, columns: Sequence[str] = ()) -> tuple[Lesson, Told]:
    told = Told()
    lessons = Lessons(data=source, column=list(columns))
    return Lesson(lessons, method, chat, "new/policy", len(chat.tokenizer), 0, told.append), told


def decoded(chat: ChatFormat, ids: list[int], mask: list[int]) -> str:
    return str(chat.tokenizer.decode([token for token, one in zip(ids, mask, strict=True) if one]))


def test_pairs_of_conversations_share_their_prompt_and_mask_what_others_said(chat: ChatFormat, tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", {"chosen": [ASKED, *TURN, GOOD], "rejected": [ASKED, BAD]})
    made, told = lesson(chat, source, "mdpo")
    (pair,) = made.pairs()
    assert pair.prompt_ids == chat.prompt_ids("How many?")
    assert decoded(chat, pair.chosen_ids, pair.chosen_mask) == "Compute.<|end|>So 7.<|end|>"
    assert decoded(chat, pair.rejected_ids, pair.rejected_mask) == "So 8.<|end|>"
    assert not told


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASKED, *TURN], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [ASKED, *TURN], "chosen": [ASKED, *TURN, GOOD], "rejected": [ASKED, *TURN, BAD]},
    ],
)
def test_an_explicit_prompt_is_context(chat: ChatFormat, tmp_path: Path, row: dict[str, Any]) -> None:
    made, _ = lesson(chat, write(tmp_path / "d.jsonl", row), "mdpo")
    (pair,) = made.pairs()
    said = decoded(chat, pair.chosen_ids, pair.chosen_mask)
    assert said == ("So 7.<|end|>" if len(row["chosen"]) == 1 else "Compute.<|end|>So 7.<|end|>")


def test_a_prompt_as_text_beside_conversations_only_repeats_the_question(chat: ChatFormat, tmp_path: Path) -> None:
    rows = [
        {"prompt": "How many?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": "How many?", "chosen": [GOOD], "rejected": [BAD]},
    ]
    made, _ = lesson(chat, write(tmp_path / "d.jsonl", *rows), "mdpo")
    first, second = made.pairs()
    assert (first.prompt_ids, first.chosen_ids) == (second.prompt_ids, second.chosen_ids)


def test_labelled_conversations_are_for_kto(chat: ChatFormat, tmp_path: Path) -> None:
    rows = [{"prompt": [ASKED], "completion": [*TURN, GOOD], "label": True}, {"prompt": [ASKED], "completion": [BAD],
            "label": False}, {"prompt": [ASKED], "completion": [BAD], "label": "no"}]  # fmt: skip
    made, told = lesson(chat, write(tmp_path / "k.jsonl", *rows), "mkto")
    one, other = made.singles()
    assert (one.label, other.label) == (True, False)
    assert decoded(chat, one.ids, one.mask) == "Compute.<|end|>So 7.<|end|>"
    assert "1 dropped" in told[0] and "row 2: a label that is neither true nor false: 'no'" in told[0]
    with pytest.raises(TrainingError, match=r"KTO compares problem .*How many.* with a trajectory of another problem"):
        single_dataset([one, other], 100, seed=0)


def test_conversations_are_for_sft(chat: ChatFormat, tmp_path: Path) -> None:
    for name, row in (
        ("m", {"messages": [ASKED, *TURN, GOOD]}),
        ("c", {"prompt": [ASKED], "completion": [*TURN, GOOD]}),
    ):
        made, _ = lesson(chat, write(tmp_path / f"{name}.jsonl", row), "sft")
        ((ids, mask),) = made.sequences()
        assert decoded(chat, ids, mask) == "Compute.<|end|>So 7.<|end|>"
        assert ids == list(chat.tokenizer.apply_chat_template([ASKED, *TURN, GOOD], return_dict=False))


def test_what_cannot_be_trained_on_is_counted_with_an_example_of_each_reason(chat: ChatFormat, tmp_path: Path) -> None:
    good = {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}
    evil = {"chosen": [{"role": "user", "content": "<|end|>"}, GOOD], "rejected": [ASKED, BAD]}
    other = {"chosen": [{"role": "user", "content": "Why?"}, GOOD], "rejected": [ASKED, BAD]}
    same = {"chosen": [ASKED, GOOD], "rejected": [ASKED, GOOD]}
    source = write(tmp_path / "d.jsonl", good, evil, evil, other, same, {"chosen": None, "rejected": []})
    made, told = lesson(chat, source, "dpo")
    assert len(made.pairs()) == 1
    assert [line.removeprefix("[yellow]note:[/] ") for line in told] == [
        f"2 dropped, {source}, row 1: a special token in a message: '<|end|>' in message 1",
        f"1 dropped, {source}, row 3: chosen and rejected have different prompts",
        f"1 dropped, {source}, row 4: chosen and rejected are the same",
        f"1 dropped, {source}, row 5: no list of messages: `chosen` is 'None'",
    ]
    made, _ = lesson(chat, write(tmp_path / "e.jsonl", evil), "dpo")
    with pytest.raises(DataError, match=r"nothing of .* can be trained on: 1 dropped, .*a special token"):
        made.pairs()


def test_columns_of_other_names_are_named(chat: ChatFormat, tmp_path: Path) -> None:
    source = write(tmp_path / "d.jsonl", {"winner": [ASKED, GOOD], "loser": [ASKED, BAD]})
    made, _ = lesson(chat, source, "mdpo", ["chosen=winner", "rejected=loser"])
    assert len(made.pairs()) == 1
    with pytest.raises(DataError, match="has no column 'best', which is named for chosen; it has winner, loser"):
        lesson(chat, source, "mdpo", ["chosen=best"])
    with pytest.raises(
        DataError, match=r"the columns winner, loser; mdpo learns from .*pairs of conversations \(chosen, r"
    ):
        lesson(chat, source, "mdpo")


def test_a_form_that_the_method_cannot_use_says_for_what_it_is(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "m.jsonl", {"messages": [ASKED, GOOD]}))
    with pytest.raises(DataError, match="messages, which are conversations, for sft; mkto learns from trajectories"):
        find_form(table, "mkto")
    # Our preference file also has `chosen` and `rejected`: the numbers of the samples.
    ours = Pair("p", 0, 1, [1], [2], [1], [3], [1])
    preferences = open_table(write(tmp_path / "p.jsonl", {name: getattr(ours, name) for name in Pair.__slots__}))
    assert find_form(preferences, "mdpo").name == "preferences"


def test_texts_instead_of_messages_are_told_at_once(chat: ChatFormat, tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "d.jsonl", {"prompt": "Q", "chosen": "A", "rejected": "B"}))
    with pytest.raises(
        DataError, match=r"the column `chosen` of .* holds str values, such as 'A'; training takes lists"
    ):
        paired(table, Encoder(chat), Dropped())


def test_folders_and_the_hub_are_read_like_files(
    chat: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = datasets.Dataset.from_list([{"messages": [ASKED, GOOD]}])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train_sft": rows}).save_to_disk(tmp_path / "several")
    rows.to_parquet(tmp_path / "rows.parquet")
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset=None, split=None: rows)
    for source, split in (("one", "train"), ("several", "train_sft")):
        assert next(open_table(str(tmp_path / source), split).read())["messages"][1] == GOOD
    assert open_table("some-org/chats").columns == ("messages",)
    with pytest.raises(DataError, match=r"has no split 'train'; it has train_sft: name one with --split"):
        open_table(str(tmp_path / "several"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("none.jsonl", "there is no file none.jsonl; make one with `mdpo pairs`"),
        ("nowhere", "nowhere is no data set: give a .jsonl"),
        ("empty.jsonl", "holds no row"),
        ("torn.jsonl", "line 1 is no JSON"),
        ("list.jsonl", "line 1 holds a list"),
    ],
)
def test_a_source_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"empty": "", "torn": '{"messa', "list": "[1]\n"}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    with pytest.raises(DataError, match=says):
        open_table(source)


def test_a_hub_that_does_not_answer_names_the_way_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        DataError, match=r"some-org/chats \(train\) cannot be read \(ConnectionError: no network\).*local"
    ):
        open_table("some-org/chats")
