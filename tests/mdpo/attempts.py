"""Trajectories written by hand: one call and an answer."""

from mdpo.trajectory import StopReason, Trajectory, Turn


def attempt(
    problem: str,
    sample: int,
    reward: float,
    action: str | None = None,
    status: str = "ok",
    output: str = "1",
    answer: str = "The answer is \\boxed{1}.",
    prediction: str | None = "1",
    stop: StopReason = "answered",
    words: int = 0,
    logprob: float = -1.0,
) -> Trajectory:
    """Its call samples 2 + `words` tokens, the first of them 10 + the sample's number; all have one log-probability."""
    name = action or f"```python\nprint({sample})\n```"
    ids = [10 + sample, *range(40, 40 + words), 2]
    call = Turn(name, ids, [logprob] * len(ids), "print(1)", f"```output\n{output}\n```", [20, 21], status)
    last = Turn(answer, [30, 2], [logprob, logprob])
    return Trajectory(problem, sample, "q", "1", "test", [1, 5], [call, last], stop, prediction, reward, "p", {})
