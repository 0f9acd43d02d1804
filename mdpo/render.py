"""The texts of a tool conversation: an action that calls, an action that answers, an observation."""

import re

# A fence opens at the start of a line; it is complete only with a closing fence on a line of its own, and a new fence
# before that shows that it was never closed.
_BLOCK = re.compile(
    r"^ {0,3}```(?:python3?|py)[ \t]*\r?\n((?:(?! {0,3}```).*\n)*) {0,3}```[ \t]*\r?$", re.MULTILINE | re.IGNORECASE
)


def call_action(thought: str, code: str) -> str:
    """An action that reasons and then runs a program."""
    return f"{thought}\n```python\n{code}\n```"


def answer_action(answer: str) -> str:
    """An action that ends a trajectory."""
    return f"The answer is \\boxed{{{answer}}}."


def observation_text(output: str) -> str:
    """What the policy is shown of an execution, in the form of the paper (§2.1 of its SFT data)."""
    return f"```output\n{output}\n```"


def last_program(action: str) -> str | None:
    """The program of the last complete ```` ```python ```` block of an action, `None` if there is none.

    A block that was never closed is no program.
    """
    blocks = _BLOCK.findall(action)
    return str(blocks[-1]) if blocks else None


def outside_programs(action: str) -> str:
    """The action without its complete program blocks: where an answer may stand."""
    return _BLOCK.sub("", action)


def after_programs(action: str) -> str:
    """What an action says after its last complete program block; all of it if there is none."""
    end = max((match.end() for match in _BLOCK.finditer(action)), default=0)
    return action[end:]
