import pytest

from mdpo.render import after_programs, call_action, last_program, observation_text, outside_programs

TWO = "First.\n```python\nx = 1\n```\nThen.\n```python\nprint(x)\n```\nDone."


@pytest.mark.parametrize(
    ("action", "program"),
    [
        (call_action("Compute.", "print(1)"), "print(1)\n"),
        (TWO, "print(x)\n"),
        ("```python\nprint('```')\n```", "print('```')\n"),  # a fence inside a line closes nothing
        ("no program", None),
        ("```python\nprint(1)", None),  # never closed
        ("```python\nx = 1\n```\n```python\nprint(x", "x = 1\n"),  # the last one was never closed
        ("```python\nx = 1\n```python\nprint(2)\n```", "print(2)\n"),  # the first one was never closed
        ("```Python\nprint(1)\n```", "print(1)\n"),
        ("```py\r\nprint(1)\r\n```\r\nDone.", "print(1)\r\n"),
        ("   ```python\n   print(1)\n   ```", "   print(1)\n"),  # inside a list, as Markdown has it
        ("```python\n```", ""),
        ("```output\n7\n```", None),
        ("```\nprint(1)\n```", None),  # no python block
        ("inline ```python print(1)```", None),
    ],
)
def test_the_last_complete_block_is_the_program(action: str, program: str | None) -> None:
    assert last_program(action) == program


def test_what_stands_outside_and_after_the_programs() -> None:
    assert outside_programs(TWO) == "First.\n\nThen.\n\nDone."
    assert after_programs(TWO) == "\nDone."
    assert after_programs("no program") == "no program"


def test_an_observation_is_fenced() -> None:
    assert observation_text("7") == "```output\n7\n```"
