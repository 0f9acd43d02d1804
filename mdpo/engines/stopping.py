"""Stop strings: an action ends with the token that completes one of them in the text of what was sampled."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from mdpo.checkpoint import load_tokenizer
from mdpo.errors import CheckpointError

# A character that the window cuts has at most this many bytes, and some tokenizers strip a blank at the start.
_MARGIN = 4


class StopStrings:
    """Looks for stop strings at the end of the sampled ids; decodes only as many of them as a stop string can span.

    Args:
        tokenizer: Of the checkpoint that samples.
        strings: At least one, none of them empty.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._strings = strings
        # A token stands for at least one byte.
        self._window = max(len(string.encode()) for string in strings) + _MARGIN

    def completed_by(self, token_ids: list[int]) -> bool:
        """Whether the last of these ids completes a stop string, where the ones before it did not."""
        tail = self._tokenizer.decode(
            token_ids[-self._window :], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return any(string in tail for string in self._strings)


def tokenizer_for_stop_strings(checkpoint: str | Path) -> PreTrainedTokenizerBase:
    """The checkpoint's own tokenizer.

    Raises:
        CheckpointError: It has none, or one that cannot be read.
    """
    try:
        return load_tokenizer(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(
            f"stop strings need the text of what is sampled, and the tokenizer of {checkpoint} cannot be loaded; save "
            "one beside the weights (`tokenizer.save_pretrained`), or name stop ids only"
        ) from error
