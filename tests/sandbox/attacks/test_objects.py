"""Objects too large and recursion too deep end the block, or at most its interpreter."""

import pytest

# None asks for more than 1.5 GB, or takes it so slowly that the clock comes first.
LARGE = {
    "a long text": "text = 'x' * 1_500_000_000",
    "a wide format": "f'{1:>1500000000}'",
    "a wide old format": "'%1500000000d' % 1",
    "a joined text": "'x'.join(map(str, range(10**9)))",
    "a long list": "list(range(10**9))",
    "a list that holds itself, longer and longer": "a = [0]\nwhile len(a) < 10**8: a += a\nwhile True: pass",
    "a text that doubles": "a = 'x'\nwhile len(a) < 10**9: a += a\nwhile True: pass",
    "a number that squares": "a = 3\nwhile True: a *= a",
    "a shifted number": "1 << 10**10",
    "a dictionary": "{i: i for i in range(10**9)}",
    "a pool of permutations": "import itertools\nitertools.product(range(10**9))",
    "a tee that is never read": "import itertools\na, b = itertools.tee(itertools.count())\nfor x in a: pass",
    "a small archive with much in it": """
import zlib
data = zlib.compress(bytes(10**8))
[zlib.decompress(data) for _ in range(9)]
""",
    "an array": "import array\narray.array('d', [0]) * 150_000_000",
    "a numpy array": "import numpy\nnumpy.zeros((13_000, 13_000)) + 1",
    "a numpy product": "import numpy\na = numpy.arange(13_000.0)\nnumpy.outer(a, a)",
    "many small things, every one kept": "a = []\nwhile True: a = [a, a, object(), {}]",
    "memory errors that are ignored": """
parts = []
while True:
    try:
        parts.append(bytearray(10**5))
    except MemoryError:
        pass
""",
    "memory that is full when the text of the error is made": """
parts = []
class Full(Exception):
    def __str__(self):
        try:
            while True:
                parts.append(bytearray(10**4))
        except MemoryError:
            return 'x' * 10**7
raise Full
""",
    "memory that is full of the headroom too": """
import resource
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
parts = None
while True:
    try:
        parts = (parts, bytes(33))
    except MemoryError:
        break
""",
}


@pytest.fixture
def sandbox(hasty):
    return hasty


@pytest.mark.parametrize("code", LARGE.values(), ids=LARGE)
def test_large_things_end_the_block(attack, code):
    assert attack(code, spoils=True).status in ("memory", "error", "timeout", "crashed")


DEEP = {
    "brackets": "eval('(' * 10**5 + ')' * 10**5)",
    "signs": "compile('-' * 90000 + '1', 'x', 'eval')",
    "lists in source": "eval('[' * 90 + ']' * 90)\neval('[' * 10**5)",
    "attributes": "compile('a' + '.a' * 45000, 'x', 'eval')",
    "a chain of else": "exec('if 0: pass\\n' + 'elif 0: pass\\n' * 7000)",
    "lists in lists, shown": "a = []\nfor _ in range(10**5): a = [a]\nrepr(a)",
    "lists in lists, compared": "a, b = [], []\nfor _ in range(10**5): a, b = [a], [b]\na == b",
    "lists in lists, copied": "import copy\na = []\nfor _ in range(10**5): a = [a]\ncopy.deepcopy(a)",
    "lists in lists, pickled": "import pickle\na = []\nfor _ in range(10**5): a = [a]\npickle.dumps(a)",
    "lists in lists, as JSON": "import json\njson.loads('[' * 10**5 + ']' * 10**5)",
    "tuples in tuples, freed": "a = ()\nfor _ in range(10**6): a = (a,)\ndel a",
    "iterators in iterators": """
import itertools
a = iter([])
for _ in range(10**5): a = itertools.chain(a)
next(a, None)
""",
    "maps in maps": "a = iter([1])\nfor _ in range(10**5): a = map(abs, a)\nnext(a)",
    "functions in functions": "import functools\na = int\nfor _ in range(10**5): a = functools.lru_cache(a)\na()",
    "a text of itself": """
class A:
    def __repr__(self): return repr([self])
import sys
sys.setrecursionlimit(10**6)
A()
""",
    "a comparison of itself": """
class A:
    def __eq__(self, o): return [self] == [o]
import sys
sys.setrecursionlimit(10**8)
[A()] == [A()]
""",
    "an attribute of itself": """
class A:
    def __getattr__(self, n): return getattr(self, n + 'x')
import sys
sys.setrecursionlimit(10**8)
A().x
""",
    "a call back into Python": """
import sys
sys.setrecursionlimit(10**8)
kind = ctypes.CFUNCTYPE(ctypes.c_int)
def again():
    return call()
call = kind(again)
call()
""",
    "a deep regular expression": "import re\nre.compile('(' * 5000 + ')' * 5000)",
    "a deep stack in a thread": """
import sys, threading
sys.setrecursionlimit(10**8)
def deep():
    return deep()
thread = threading.Thread(target=lambda: sorted([1, 2], key=lambda x: deep()))
thread.start()
thread.join()
""",
}  # fmt: skip


@pytest.mark.parametrize("code", DEEP.values(), ids=DEEP)
def test_deep_recursion_ends_at_most_its_own_interpreter(attack, code):
    attack(code, spoils=True)
