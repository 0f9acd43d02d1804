"""Whatever holds out against the clock ends within a second of the limit."""

import pytest

BUSY = {
    "a sum without end": "sum(iter(int, 1))",
    "a factorial": "import math\nmath.factorial(10**8)",
    "a slow hash": "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'x', b'x', 2**31 - 1)",
    "a query without end": """
import sqlite3
query = 'with recursive t(x) as (select 1 union all select x from t) select count(*) from t'
sqlite3.connect(':memory:').execute(query).fetchall()
""",
    "a decomposition": "import numpy\nnumpy.linalg.svd(numpy.ones((1500, 1500)) + numpy.eye(1500))",
    "a regular expression in sympy's printer": "import re\nre.sub('(x+x+)+y', '', 'x' * 50)",
}  # fmt: skip

DEAF = {
    "handlers that are ignored": """
import signal
for number in (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
while True: pass
""",
    "a handler that never returns": """
import signal
def handler(*a):
    while True: pass
signal.signal(signal.SIGALRM, handler)
while True: pass
""",
    "a wait that takes the signals away": """
import signal
while True:
    signal.sigwait(range(1, 65))
""",
    "sleep in C, again after each signal": "import ctypes\nsleep = ctypes.PyDLL(None).sleep\nwhile True: sleep(20)",
    "a lock in C that nobody opens": """
lock = ctypes.create_string_buffer(64)
native = ctypes.PyDLL(None)
native.pthread_mutex_lock(lock)
native.pthread_mutex_lock(lock)
""",
    "a thread that does not give the interpreter back": """
import sys, threading
threading.Thread(target=sum, args=(iter(int, 1),), daemon=True).start()
sys.setswitchinterval(1000)
while True: pass
""",
    "a timer that is set ever again": """
import signal, threading
def reset():
    while True:
        libc.setitimer(0, (ctypes.c_long * 4)(1000, 0, 1000, 0), None)
threading.Thread(target=reset, daemon=True).start()
while True: pass
""",
    "a child that sets nothing but waits with it": "os.waitpid(os.fork() or libc.pause() or os._exit(0), 0)",
    "except in finally in except": """
while True:
    try:
        while True: pass
    finally:
        continue
""",
    "a generator that does not close": """
def stubborn():
    while True:
        try:
            while True: pass
        except BaseException:
            pass
next(stubborn())
""",
    "an event loop that swallows": """
import asyncio
async def main():
    while True:
        try:
            while True:
                await asyncio.sleep(0)
        except BaseException:
            pass
asyncio.run(main())
""",
    "the trace of its own end": """
import sys
def trace(frame, event, arg):
    while event == 'exception':
        try:
            while True: pass
        except BaseException:
            pass
    return trace
sys.settrace(trace)
def f():
    while True: pass
f()
""",
    "a child that stops it, again and again": """
import signal
parent = os.getpid()
if os.fork() == 0:
    for _ in range(2000):
        os.kill(parent, signal.SIGSTOP)
        libc.usleep(1000)
    os._exit(0)
while True: pass
""",
    "a stop of the whole group": "import signal\nos.killpg(0, signal.SIGSTOP)\nwhile True: pass",
}

# What the worker itself calls after the code, or around it.
LATE = {
    "the end of an object, never over": """
class Long:
    def __del__(self):
        while True:
            try:
                while True: pass
            except BaseException:
                pass
Long();
""",
    "the end of an object makes the next": """
class Again:
    def __del__(self):
        Again()
Again()
while True: pass
""",
    "a callback of the collector": """
import gc
def loop(phase, info):
    while True:
        try:
            while True: pass
        except BaseException:
            pass
gc.callbacks.append(loop)
gc.collect()
""",
    "a callback of a weak reference": """
import weakref
class Thing: pass
def loop(_):
    while True: pass
thing = Thing()
reference = weakref.ref(thing, loop)
del thing
while True: pass
""",
    "the hook for what cannot be raised": """
import sys
def loop(_):
    while True: pass
sys.unraisablehook = loop
class Broken:
    def __del__(self):
        1 / 0
Broken()
""",
    "the hooks for errors and echoes": """
import sys, threading
def loop(*_):
    while True: pass
sys.excepthook = sys.displayhook = threading.excepthook = loop
threading.Thread(target=lambda: 1 / 0).start()
1 / 0
""",
    "an audit hook": """
import sys
def loop(*_):
    while True: pass
sys.addaudithook(loop)
""",
    "an audit hook that swallows": """
import sys
def loop(*_):
    try:
        while True: pass
    except BaseException:
        pass
sys.addaudithook(loop)
""",
    "a representation without end": """
class Long:
    def __repr__(self):
        return ''.join('x' for _ in iter(int, 1))
Long()
""",
    "a format without end": """
class Long:
    def __format__(self, spec):
        while True: pass
print(f'{Long()}')
""",
    "a comparison, a hash, a length, an index without end": """
def loop(*_):
    while True: pass
class Long: __eq__ = __hash__ = __len__ = __index__ = loop
[Long()].index(1)
""",
    "standard output that never finishes": """
import sys
class Slow:
    closed = False
    def write(self, text): return len(text)
    def flush(self):
        while True:
            try:
                while True: pass
            except BaseException:
                pass
sys.stdout = Slow()
""",
    "standard output whose state never ends": """
import sys
class Slow:
    @property
    def closed(self):
        while True: pass
    def __hash__(self): return 1
sys.stdout = sys.stderr = Slow()
""",
    "the codec that writes out errors": """
import codecs
def loop(error):
    while True: pass
codecs.register_error('backslashreplace', loop)
print('\\ud800')
""",
    "an error whose kind never has a name": """
class Kind(type):
    @property
    def __qualname__(cls):
        while True: pass
    __module__ = property(lambda cls: exec('while True: pass'))
class Named(Exception, metaclass=Kind): pass
raise Named
""",
    "the importer": """
import sys
class Finder:
    def find_spec(self, *a):
        while True: pass
sys.meta_path.insert(0, Finder())
import something
""",
    "a module in the place of its own": """
import sys, types
class Slow(types.ModuleType):
    def __getattribute__(self, name):
        while True: pass
sys.modules['__main__'] = Slow('__main__')
import __main__
__main__.x
""",
}


@pytest.fixture
def sandbox(hasty):
    return hasty


@pytest.mark.parametrize("code", BUSY.values(), ids=BUSY)
def test_calls_that_hear_no_signal_are_ended(attack, code):
    assert attack(code).status in ("timeout", "memory")


@pytest.mark.parametrize("code", DEAF.values(), ids=DEAF)
def test_code_that_holds_out_is_ended(attack, code):
    assert attack(code, spoils=True).status in ("timeout", "crashed")


@pytest.mark.parametrize("code", LATE.values(), ids=LATE)
def test_code_that_runs_late_is_ended_too(attack, code):
    attack(code, spoils=True)


COMPILED = {
    "brackets in brackets": "x = " + "(" * 190 + "1" + ")" * 190,
    "a hundred thousand signs": "x = " + "-" * 99_000 + "1",
    "formats in formats": "x = " + "f'{" * 60 + "1" + "}'" * 60,
    "a constant to be computed ahead": "x = lambda: ((2 ** 127) ** 127) ** 127 % 7, 'x' * 4000 * 4000",
    "functions in functions": "".join(" " * i + f"def f{i}():\n" for i in range(95)) + " " * 95 + "pass",
    "comparisons without brackets": "x = " + " < ".join(["1"] * 24_000),
    "lambdas": "x = " + "lambda: " * 12_000 + "1",
    "comprehensions": "x = " + "[" * 60 + "0" + " for _ in [1]]" * 60,
}


@pytest.mark.parametrize("code", COMPILED.values(), ids=COMPILED)
def test_source_that_is_hard_to_compile_is_no_way_around(attack, code):
    attack(code)
