import pytest

from mdpo.engines.base import SamplingParams


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="a stop string is empty"):
        SamplingParams(stop_strings=("```output", ""))
