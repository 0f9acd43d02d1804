"""The same blocks in a fresh session, of any sandbox, give the same bytes."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sandbox import Sandbox

WHERE = "import os, sys\nos.getcwd(), dict(os.environ), sys.argv, os.listdir()"
BLOCKS = [
    "import random\nrandom.random(), random.sample(range(99), 3)",
    "import numpy as np\nnp.random.rand(2)",
    "import numpy as np\nnp.random.default_rng().random(2)",
    "from sympy.core.random import random, randrange\nrandom(), randrange(99)",
    "hash('mdpo'), hash((1, 'a'))",
    "{'banana', 'apple', 'cherry', 'date'}",
    "import time, locale\ntime.tzname, locale.getlocale()",
    WHERE,
    "1 / 0",
    "import os\nos._exit(1)",
]

PRINTED = [
    *BLOCKS[:7],
    "from sympy import *\nx, y = symbols('x y')\nsolve([x**2 + y - 3, x - y - 1], [x, y])",
    "from sympy import Dummy\nDummy()",
    "from sympy import symbols, integrate, sin, exp\nt = symbols('t')\nintegrate(exp(t)*sin(t), t)",
    "import socket\nsocket.gethostname()",
    "import datetime\ndatetime.datetime.fromtimestamp(0)",
    "import threading\nthreading.current_thread().name",
    "import os\nos.cpu_count() > 0, sorted(os.environ)",
]


@pytest.fixture(scope="module")
def another_sandbox(sandbox):
    with Sandbox(sandbox.limits) as another:
        yield another


def answers(sandbox, blocks):
    with sandbox.session() as session:
        results = [session.run_sync(block) for block in blocks]
    return [(result.status, result.text, result.truncated) for result in results]


@settings(max_examples=10, deadline=None)
@given(blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5))
def test_the_same_blocks_give_the_same_answers(sandbox, another_sandbox, blocks):
    first, second = answers(sandbox, blocks), answers(another_sandbox, blocks)
    # Where the kernel refuses private mounts, each session works in a folder of another name.
    assume(WHERE not in blocks or "private root" not in sandbox.refused)
    assert first == second


def test_many_fresh_sessions_give_the_same_bytes():
    sessions = 100  # after a change of the warm process set it to 1,000: they take half a minute
    with Sandbox() as sandbox:
        seen = {tuple(answers(sandbox, PRINTED)) for _ in range(sessions)}
    assert len(seen) == 1
    assert {status for status, _, _ in seen.pop()} == {"ok"}


def test_random_numbers_go_on_within_a_session(shown):
    assert shown("import random\nfirst = random.random()", "random.random() == first") == "False"


def test_a_python_that_the_code_starts_hashes_alike(shown):
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(hash(\"mdpo\"))']).returncode"
    assert shown(code) == shown("hash('mdpo')") + "\n0"
