"""Whether ids were made by the tokenizer of the policy that is to learn from them.

Ids are trained on as they are, so ids of another vocabulary would teach nonsense without a word. Three things show it:
an id that the policy does not have; stored texts that are not what the ids decode to; and texts that this tokenizer
would cut into other ids.
"""

from collections.abc import Iterable, Iterator, Sequence

from mdpo.chat import ChatFormat
from mdpo.errors import DataError
from mdpo.preference import Pair
from mdpo.trajectory import Trajectory, Turn

SAMPLE = 64


class TokenizerCheck:
    """Refuses trajectories and pairs that another tokenizer made.

    The bound of the vocabulary is checked on all ids, texts on the first `SAMPLE` trajectories.

    Args:
        chat: The chat format of the policy that is trained.
        policy: Its name, for the error.
        vocabulary: The number of its ids: the rows of its embedding.
        source: The file that is read, for the error.
    """

    def __init__(self, chat: ChatFormat, policy: str, vocabulary: int, source: str) -> None:
        self._chat, self._policy, self._source = chat, policy, source
        self._vocabulary = max(vocabulary, len(chat.tokenizer))

    def trajectories(self, trajectories: Iterable[Trajectory]) -> Iterator[Trajectory]:
        """Pass trajectories on.

        Raises:
            DataError: One was not made by this tokenizer.
        """
        for number, trajectory in enumerate(trajectories):
            where = f"sample {trajectory.sample} of problem {trajectory.problem_id}, made by {trajectory.policy}"
            self._check_bound(trajectory.prompt_ids + trajectory.completion_ids, where)
            if number < SAMPLE:
                self._check_texts(trajectory, where)
            yield trajectory

    def pairs(self, pairs: Sequence[Pair]) -> None:
        """Look at pairs. They hold no texts, so only the bound and a way there and back show another tokenizer.

        Raises:
            DataError: They were not made by this tokenizer.
        """
        for pair in pairs:
            self._check_bound(pair.prompt_ids + pair.chosen_ids + pair.rejected_ids, _name(pair))
        sample = pairs[:SAMPLE]
        strange = [pair for pair in sample if not self._comes_back_nearly(pair.prompt_ids)]
        # A tokenizer may change a text of its own now and then; another one does it with nearly every text.
        if 2 * len(strange) > len(sample):
            raise self._refusal(_name(strange[0]), "its prompt decodes to a text that has other ids in this tokenizer")

    def _check_bound(self, ids: Sequence[int], where: str) -> None:
        if ids and not 0 <= min(ids) <= max(ids) < self._vocabulary:
            raise self._refusal(where, f"it holds the id {max(ids)}, and this policy has {self._vocabulary:,} ids")

    def _check_texts(self, trajectory: Trajectory, where: str) -> None:
        if not self._holds(trajectory.prompt_ids, trajectory.question):
            shown = self._decode(trajectory.prompt_ids)[:60]
            raise self._refusal(where, f"its prompt decodes to {shown!r}, which does not hold its question")
        if not (self._comes_back(trajectory.prompt_ids) or self._is_prompt(trajectory)):
            raise self._refusal(where, "its prompt decodes to a text that has other ids in this tokenizer")
        for turn in trajectory.turns:
            if not self._decode(turn.action_ids).startswith(turn.action):
                shown = self._decode(turn.action_ids)[:60]
                raise self._refusal(where, f"an action decodes to {shown!r}, and was {turn.action[:60]!r}")
            if turn.observation_ids and not self._observed(turn):
                raise self._refusal(where, "an observation decodes to a text that has other ids in this tokenizer")

    def _observed(self, turn: Turn) -> bool:
        if self._comes_back(turn.observation_ids, [self._chat.end_of_turn_id]):
            return True
        return self._chat.observation_ids(turn.observation or "", turn.action_ids) == turn.observation_ids

    def _is_prompt(self, trajectory: Trajectory) -> bool:
        return self._chat.prompt_ids(trajectory.question) == trajectory.prompt_ids

    def _holds(self, ids: Sequence[int], text: str) -> bool:
        """Whether ids decode to something that holds a text, but for white space, which a tokenizer may lose."""
        return "".join(text.split()) in "".join(self._decode(ids).split())

    def _comes_back(self, ids: Sequence[int], before: Sequence[int] = ()) -> bool:
        """Whether the decoded text has the same ids again, behind a token that nothing merges with if one is given."""
        return self._encode(self._decode([*before, *ids])) == [*before, *ids]

    def _comes_back_nearly(self, ids: Sequence[int]) -> bool:
        """The same, but for white space."""
        again = self._encode(self._decode(ids))
        return self._solid(again) == self._solid(ids)

    def _solid(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if not self._decode([token]).isspace()]

    def _decode(self, ids: Sequence[int]) -> str:
        text = self._chat.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def _encode(self, text: str) -> list[int]:
        return list(self._chat.tokenizer.encode(text, add_special_tokens=False))

    def _refusal(self, where: str, cause: str) -> DataError:
        return DataError(
            f"{self._source}: {where}, was made by another tokenizer than that of {self._policy}: {cause}; train a "
            "policy with the tokenizer that sampled it, or sample again with `mdpo rollout`"
        )


def _name(pair: Pair) -> str:
    return f"the pair of samples {pair.chosen} and {pair.rejected} of problem {pair.problem_id}"
