"""Whatever is printed or raised, the text that comes back is short, valid, and in time."""

import pytest

FLOOD = {
    "without a line's end": "while True: print('x', end='')",
    "without a break": "import sys\nwhile True: sys.stdout.write('x' * 10**5)",
    "of errors": "import sys\nwhile True: sys.stderr.write('x' * 10**5)",
    "at the descriptors": "while True: os.write(1, b'x' * 10**5) and os.write(2, b'y')",
    "in C, not flushed": "for _ in range(10**5): libc.puts(b'x' * 90)",
    "in C, formatted": "libc.printf(b'%*d', 10**8, 1)\nlibc.fflush(None);",
    "from a program": "import subprocess\nsubprocess.run(['yes', 'x' * 1000])",
    "from many threads": """
import threading
def flood():
    while True: print('x' * 1000)
for _ in range(4): threading.Thread(target=flood, daemon=True).start()
flood()
""",
    "of warnings": "import warnings\nwarnings.simplefilter('always')\nwhile True: warnings.warn('x' * 1000)",
    "of warnings, each another": "import itertools, warnings\nfor i in itertools.count(): warnings.warn(f'{i}' * 100)",
    "of tracebacks": "import traceback\nwhile True: traceback.print_stack()",
    "by one huge line": "print('x' * 5 * 10**7)",
    "by many arguments": "print(*range(10**6))",
    "by a million lines": "print('\\n' * 10**6)",
    "by an echo": "list(range(10**6))",
    "by an echo that lies about its length": """
class Text(str):
    def __len__(self): return 3
class Shown:
    def __repr__(self): return Text('x' * 10**6)
Shown()
""",
}

STRANGE = {
    "no text at all": "os.write(1, bytes(range(256)) * 10)",
    "half a letter": "os.write(1, 'é'.encode()[:1])\nos.write(2, 'é'.encode()[1:])",
    "zeros": "print('\\0' * 10**5)",
    "lone surrogates": "print(''.join(map(chr, range(0xd800, 0xe000))))",
    "a lone surrogate in an echo": "'\\udc80' * 500",
    "signs that move what is seen": "print('\\x1b[2J\\x1b]0;x\\7\\r\\b\\b\\u202e\\u2066\\ufeff' * 99)",
    "letters beyond the plane": "print('\\U0010ffff' * 999)",
    "marks on marks": "print('x' + '\\u0300' * 10**5)",
    "no closing of what was opened": "print('x')\nos.close(1)\nprint('y' * 10**5)",
    "a hole": "os.lseek(1, 4 * 2**20, 0)\nos.write(1, b'x')\ntried(os.ftruncate, 1, 7 * 2**20)",
}

NAMED = {
    "a class": "raise type('E' * 10**6, (Exception,), {})",
    "a class in a module": "raise type('E', (Exception,), {'__module__': 'm' * 10**6})",
    "a class with a module that is no text": "raise type('E', (Exception,), {'__module__': 7})",
    "a class with a module that raises": """
class Hostile:
    def __str__(self): return 1 / 0
    __format__ = __eq__ = __str__
    __hash__ = None
raise type('E', (Exception,), {'__module__': Hostile()})
""",
    "a class without a name of its own": """
class Kind(type):
    __qualname__ = __name__ = property(lambda self: 1 / 0)
class E(Exception, metaclass=Kind): pass
raise E('x')
""",
    "a class with a name that is no text": """
class Kind(type):
    __qualname__ = property(lambda self: [10**5 * 'x'])
class E(Exception, metaclass=Kind): pass
raise E('x')
""",
    "a class with surrogates": "raise type('\\ud800', (Exception,), {})('\\udfff')",
    "a class with a line's end": "raise type('E\\n' * 999, (Exception,), {})('x\\r\\n' * 10**5)",
    "a function": "exec('def ' + 'f' * 10**5 + '(): 1 / 0\\n' + 'f' * 10**5 + '()')",
    "a function of the block": "def " + "f" * 40_000 + "(): 1 / 0\n" + "f" * 40_000 + "()",
    "a line": "x = 1 / 0 #" + "x" * 90_000,
    "a name that is not there": "eval('x' * 10**6)",
    "an attribute that is not there": "getattr(1, 'x' * 10**6)",
    "a key that is not there": "{}['x' * 10**6]",
    "a file that is not there": "open('x' * 10**5)",
    "a module that is not there": "__import__('x' * 10**5)",
    "a code file": "exec(compile('1 / 0', 'x' * 10**6, 'exec'))",
    "a code file of the block's": "exec(compile('\\n' * 10**4 + '1 / 0', '<block 1>', 'exec'))",
    "a code file of a later block": "exec(compile('\\n' * 10**4 + '1 / 0', '<block 999>', 'exec'))",
}

WORDS = {
    "raises": "def __str__(self): return 1 / 0",
    "exits": "def __str__(self): raise SystemExit(0)",
    "interrupts": "def __str__(self): raise KeyboardInterrupt",
    "raises itself": "def __str__(self): raise self",
    "is none": "def __str__(self): return 7",
    "is deep": "def __str__(self): return str(self)",
    "is huge": "def __str__(self): return 'x' * 3 * 10**7",
    "lies": """
    def __str__(self):
        class Text(str):
            def __len__(self): return 2
            def __getitem__(self, key): return Text('x' * 10**6)
            def replace(self, *a): return Text('x' * 10**6)
            def encode(self, *a): return 7
            def __format__(self, spec): return 'x' * 10**6
        return Text('x' * 10**6)
""",
    "is another thing after a replacement": """
    def __str__(self):
        class Text(str):
            def replace(self, *a): return [1]
        return Text('x')
""",
    "takes all memory": "def __str__(self): return ''.join('x' * 10**6 for _ in range(1500))",
    "kills": "def __str__(self): __import__('os').kill(__import__('os').getpid(), 9)",
    "forks": "def __str__(self): return str(__import__('os').fork() > 0)",
    "ends the interpreter": "def __str__(self): __import__('os')._exit(0)",
    "prints": "def __str__(self):\n        while True: print('x' * 10**5)",
}

CHAINS = {
    "of ten thousand causes": """
e = ValueError('x')
for _ in range(10**4):
    n = ValueError('y')
    n.__cause__ = e
    e = n
raise e
""",
    "of ten thousand contexts": """
def f(n):
    try: 1 / 0
    except Exception:
        if n: f(n - 1)
        raise
import sys
sys.setrecursionlimit(10**5)
f(9000)
""",
    "of causes in a circle": "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a",
    "of groups in groups": "e = ValueError('x')\nfor _ in range(5000): e = ExceptionGroup('g', [e])\nraise e",
    "of one group of many": "raise ExceptionGroup('x' * 10**5, [ValueError('y' * 1000)] * 10**4)",
    "of a hundred thousand notes": "e = ValueError('x')\nfor _ in range(10**5): e.add_note('note' * 10)\nraise e",
    "of notes that are none": "e = ValueError('x')\ne.__notes__ = 7\nraise e",
    "of frames": "def f(): return f()\nf()",
    "of frames of two functions": "def f(n): return g(n)\ndef g(n): return f(n)\nf(0)",
    "of frames that was put together": """
import types
try:
    1 / 0
except ZeroDivisionError as error:
    trace = error.__traceback__
    for line in range(10**5):
        trace = types.TracebackType(trace, trace.tb_frame, 0, line % 7 * 10**6 + 1)
    raise error.with_traceback(trace)
""",
    "of a trace in a circle": """
try:
    1 / 0
except ZeroDivisionError as error:
    trace = error.__traceback__
    try:
        trace.tb_next = trace
    except ValueError:
        pass
    raise
""",
}

SYNTAX = {
    "a line far away": "raise SyntaxError('x', ('<block 2>', 10**9, 1, 'text'))",
    "a line before the first": "raise SyntaxError('x', ('<block 2>', -5, 1, 'text'))",
    "a line that is no number": "raise SyntaxError('x', ('<block 2>', 'one', 1, 'text'))",
    "a line that is a fraction": "raise SyntaxError('x', ('<block 2>', 1.5, 1, 'text'))",
    "a file that cannot be looked up": "raise SyntaxError('x', ([], 1, 1, 'text'))",
    "a file that raises when looked up": """
class F(str):
    __hash__ = None
raise SyntaxError('x', (F('<block 2>'), 1, 1, 'text'))
""",
    "a message that is none": "e = SyntaxError()\ne.msg = e\nraise e",
    "a message that is huge": "raise SyntaxError('x' * 3 * 10**7)",
    "code that is none": "x = = 1",
    "code of zeros": "x = '\0'",
    "code of surrogates": "x = '\ud800'",
    "code of another coding": "# coding: utf-7\n+AGEAPQAx-",
    "code of form feeds": "\f" * 1000 + "x = 1",
    "a name of a million marks": "x" + "\u0300" * 30_000 + " = 1 +",
}

TRICKS = {
    "text printed after the answer": """
import threading, time
def later():
    while True:
        time.sleep(0.001)
        print('x' * 1000)
threading.Thread(target=later, daemon=True).start()
""",
    "a warning whose text never stops": """
import warnings
class W(UserWarning):
    def __str__(self):
        while True: pass
warnings.warn(W())
""",
    "a warning that is an error": "import warnings\nwarnings.simplefilter('error')\nwarnings.warn('x' * 10**6)",
    "a stream that passes on": """
import sys
class Stream:
    closed = False
    def write(self, t): return sys.__stdout__.write(t * 10**5)
    def flush(self): pass
sys.stdout = Stream()
print('x' * 100)
""",
    "a stream of bytes": "import io, sys\nsys.stdout = io.BytesIO()\nprint('x')",
    "a print of its own": "import builtins\nbuiltins.print = lambda *a, **k: os.write(1, b'x' * 10**6)\n7",
    "an echo of its own": "import builtins\nbuiltins.repr = lambda v: 'x' * 10**7\n7",
    "a standard output that is a file of its own": "import sys\nsys.stdout = open('f', 'w')\nprint('x' * 10**5)",
    "the last value, kept": "class Long:\n    def __repr__(self): return 'x' * 10**6\n_ = __ = Long()\n_",
}


@pytest.fixture
def sandbox(hasty):
    return hasty


@pytest.mark.parametrize("code", FLOOD.values(), ids=FLOOD)
def test_a_flood_is_cut(attack, code):
    attack(code, spoils=True)


@pytest.mark.parametrize("code", STRANGE.values(), ids=STRANGE)
def test_what_is_no_clean_text_becomes_one(attack, code):
    attack(code, spoils=True)


@pytest.mark.parametrize("code", NAMED.values(), ids=NAMED)
def test_names_of_any_size_and_kind_are_cut(attack, code):
    assert attack(code).status in ("error", "timeout", "memory", "crashed")


@pytest.mark.parametrize("method", WORDS.values(), ids=WORDS)
def test_the_text_of_an_error_is_code_too(attack, method):
    attack(f"class E(Exception):\n    {method.strip()}\nraise E", spoils=True)


@pytest.mark.parametrize("code", CHAINS.values(), ids=CHAINS)
def test_a_chain_is_cut(attack, code):
    attack(code, spoils=True)


@pytest.mark.parametrize("code", SYNTAX.values(), ids=SYNTAX)
def test_errors_of_syntax_are_told_wherever_they_claim_to_be(attack, code):
    attack(code)


@pytest.mark.parametrize("code", TRICKS.values(), ids=TRICKS)
def test_the_ways_of_printing_are_the_code_s_own(attack, code):
    attack(code, spoils=True)
