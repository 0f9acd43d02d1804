"""The errors of the package.

Exception
├── SandboxError   the sandbox itself is broken or misused: the run stops, the policy never sees it
├── LostInterpreter   the warm process died, and its sessions with it; inside the package they are made anew
└── ChannelError   a peer sent what is not a message; inside the package it ends that peer

What the code in a session does is never an exception: it is data, an `ExecutionResult`.
"""


class SandboxError(RuntimeError):
    """The sandbox cannot do its work; says why and what to try."""


class LostInterpreter(Exception):  # noqa: N818 - news, and only an error if it comes again and again
    """The warm process died, through no fault of the session's code as far as is known."""


class ChannelError(ValueError):
    """Bytes that are no message: too long, not JSON, or not an object."""
