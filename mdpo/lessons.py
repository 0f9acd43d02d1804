"""From the data that `mdpo train` is given to what a method learns from, with everything that is left out told."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from rich.markup import escape

from mdpo.chat import ChatFormat
from mdpo.conversations import Encoder
from mdpo.data import Single, demonstration_ids
from mdpo.demonstration import read_demonstrations
from mdpo.errors import DataError
from mdpo.options import Lessons
from mdpo.preference import Pair, make_pairs, read_pairs
from mdpo.tables import Table, open_table
from mdpo.tokenizer_check import TokenizerCheck
from mdpo.training_data import Dropped, Form, conversations, find_form, labelled, paired
from mdpo.trajectory import Trajectory, read_trajectories

_Made = TypeVar("_Made")
Say = Callable[[str], None]
Sequences = Iterator[tuple[list[int], list[int]]]


class Lesson:
    """The data of one training.

    Args:
        lessons: What was asked for.
        method: Who learns from it.
        chat: The chat format of the policy.
        policy: Its name.
        vocabulary: The rows of its embedding.
        seed: Of the choice of pairs.
        say: Told what was left out, and why.

    Raises:
        DataError: The data is not there, of no form that the method can use, or made by another tokenizer.
    """

    def __init__(
        self, lessons: Lessons, method: str, chat: ChatFormat, policy: str, vocabulary: int, seed: int, say: Say
    ) -> None:
        self._lessons, self._chat, self._seed, self._say = lessons, chat, seed, say
        columns = lessons.columns()
        self.table: Table = open_table(lessons.data, lessons.split, lessons.subset).renamed(columns)
        self.form: Form = find_form(self.table, method)
        self._ours = self.form.name in ("trajectories", "preferences", "demonstrations")
        if self._ours and columns:
            raise DataError(
                f"{self.table.name} holds {self.form.name}, whose columns have fixed names; leave --column out"
            )
        if self._ours and not Path(lessons.data).is_file():
            raise DataError(f"{self.form.name} are read from a .jsonl file; give that file of {self.table.name}")
        self._check = TokenizerCheck(chat, policy, vocabulary, self.table.name)

    def pairs(self) -> list[Pair]:
        """For M-DPO and DPO; for M-KTO and KTO, which take both sides."""
        if self.form.name == "preferences":
            pairs = list(read_pairs(Path(self._lessons.data)))
            self._check.pairs(pairs)
            return pairs
        if self.form.name == "trajectories":
            pairs, count = make_pairs(
                self.trajectories(),
                pairs_per_problem=self._lessons.per_problem,
                max_length=self._lessons.max_length,
                filters=self._lessons.filters(),
                seed=self._seed,
            )
            self._say(str(count))
            return pairs
        return list(self._telling(lambda dropped: paired(self.table, Encoder(self._chat), dropped)))

    def singles(self) -> list[Single]:
        """For M-KTO and KTO, from conversations that are labelled one by one."""
        return list(self._telling(lambda dropped: labelled(self.table, Encoder(self._chat), dropped)))

    def trajectories(self) -> Iterator[Trajectory]:
        """For RAFT: the trajectories of a rollout."""
        return self._check.trajectories(read_trajectories(Path(self._lessons.data)))

    def sequences(self) -> Sequences:
        """For SFT: ids with their action mask; what was left out is told when the last one was taken."""
        return islice(self._all_sequences(), self._lessons.limit)

    def _all_sequences(self) -> Sequences:
        if self.form.name == "trajectories":
            return self._right()
        if self.form.name == "demonstrations":
            demonstrations = read_demonstrations(Path(self._lessons.data), "--data")
            return (demonstration_ids(one, self._chat) for one in demonstrations)
        return self._telling(self._encoded)

    def _encoded(self, dropped: Dropped) -> Sequences:
        for one in conversations(self.table, self.form, Encoder(self._chat), dropped):
            yield one.prompt_ids + one.completion_ids, [0] * len(one.prompt_ids) + one.completion_mask

    def _right(self) -> Sequences:
        wrong = 0
        for trajectory in self.trajectories():
            if trajectory.reward > 0.5:
                ids = trajectory.prompt_ids + trajectory.completion_ids
                yield ids, [0] * len(trajectory.prompt_ids) + trajectory.completion_mask
            else:
                wrong += 1
        self._say(f"{wrong:,} wrong trajectories are left out")

    def _telling(self, make: Callable[[Dropped], Iterator[_Made]]) -> Iterator[_Made]:
        dropped, count = Dropped(), 0
        for one in make(dropped):
            count += 1
            yield one
        for line in dropped.lines():
            self._say(f"[yellow]note:[/] {escape(line)}")
        if not count:
            raise DataError(f"nothing of {self.table.name} can be trained on: {dropped}")
