"""Code that finds the output file, or what the worker is made of, spoils at most its own session."""

import pytest

OUTPUT = {
    "truncates it": "print('x' * 50, flush=True)\nos.ftruncate(1, 0)",
    "grows it": "for size in (2**22, 2**23, 2**30, 2**62): tried(os.ftruncate, 1, size)",
    "grows and truncates it while it is read": """
if os.fork() == 0:
    for i in range(3000):
        tried(os.ftruncate, 1, (i % 2) * 2**22)
    os._exit(0)
""",
    "writes at its far end": "tried(os.pwrite, 1, b'x', 8 * 2**20 - 1)",
    "seals it": """
import fcntl
for seal in (2, 4, 8, 16, 32, 1):
    if tried(lambda: fcntl.fcntl(1, 1033, seal) == 0):
        reached(seal)
""",
    "reads and overwrites what was printed": """
import fcntl
print('first', flush=True)
tried(fcntl.fcntl, 1, fcntl.F_SETFL, 0)
tried(os.lseek, 1, 0, 0)
tried(os.write, 1, b'xxxxx')
print(tried(os.pread, 1, 100, 0))
""",
    "maps it": """
import mmap
page = tried(mmap.mmap, 1, 2**20)
""",
    "locks it": """
import fcntl
tried(fcntl.flock, 1, fcntl.LOCK_EX)
tried(fcntl.lockf, 1, fcntl.LOCK_EX)
tried(fcntl.fcntl, 1, 1024, 1)
""",
    "digs holes into it": "print('x' * 9000, flush=True)\nlibc.fallocate(1, 3, ctypes.c_long(0), ctypes.c_long(4096));",
    "closes it": "os.close(1)\nos.close(2)",
    "puts a file, a pipe, nothing in its place": """
paths = ('f', os.O_CREAT | os.O_RDWR), ('/dev/full', os.O_WRONLY), ('/dev/null', os.O_RDONLY)
for other in (*(os.open(*path) for path in paths), os.pipe()[1]):
    os.dup2(other, 1)
    tried(print, 'x', flush=True)
""",
    "changes its coding": "import sys\nsys.stdout.reconfigure(encoding='utf-16')\nprint('x' * 50)",
    "changes its mode and times": "tried(os.fchmod, 1, 0)\ntried(os.utime, 1)\ntried(os.fchown, 1, os.getuid(), -1)",
    "limits itself to files of no size": """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print('x' * 50)
""",
    "limits itself to no descriptors": "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
    "limits itself to no memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**20, 2**20))",
    "limits itself to no time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (0, 0))",
}


@pytest.mark.parametrize("code", OUTPUT.values(), ids=OUTPUT)
def test_what_the_code_does_to_its_output_stays_there(attack, code):
    attack(code, spoils=True)


REPLACED = {
    "the writer of JSON": """
import json
json.dumps = lambda *a, **k: '{}'
json.loads = lambda *a, **k: {'id': 'x', 'code': ''}
""",
    "the writer of JSON, deeper": "import json.encoder\njson.encoder.JSONEncoder.encode = lambda *a: 'x' * 10**6",
    "what a socket does": """
import socket
socket.socket.sendall = lambda *a: None
socket.socket.recv = lambda *a: b''
""",
    "its process number": "os.getpid = lambda: 1 << 20",
    "what the system offers": """
for name in dir(os):
    if callable(getattr(os, name)) and name[0].islower():
        setattr(os, name, lambda *a, **k: None)
""",
    "the signals": "import signal\nsignal.setitimer = signal.signal = lambda *a: 1 / 0",
    "the parser": "import ast\nast.parse = lambda *a, **k: 1 / 0\nast.Expr = ast.Expression = int",
    "the line cache": "import linecache\nlinecache.cache = None\nlinecache.getline = lambda *a: 1 / 0",
    "the tracebacks": "import traceback\ntraceback.TracebackException = None\n1 / 0",
    "the base of all errors": """
import builtins
builtins.BaseException = builtins.Exception = builtins.SystemExit = int
1 / 0
""",
    "all of the built-in names": "import builtins\nbuiltins.__dict__.clear()",
    "the name of the built-in names": "del __builtins__\nprint('x')",
    "the built-in names by others": "__builtins__ = {}\nprint('x')",
    "its own names": "globals().clear()",
    "all modules": "import sys\nsys.modules.clear()",
    "all modules by nothing": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "the module that it is": """
import sys, types
sys.modules['__main__'] = types.ModuleType('other')
sys.modules['builtins'] = 7
""",
    "the depth of the stack": """
import sys
sys.setrecursionlimit(max(1, 20))
for n in range(19, 0, -1):
    try: sys.setrecursionlimit(n)
    except RecursionError: break
""",
    "the streams by its own": """
import sys
class Mine:
    closed, encoding, errors = False, 7, None
    def __getattr__(self, name): return self
    def __call__(self, *a): return self
sys.stdout = sys.stderr = sys.stdin = sys.__stdout__ = sys.__stderr__ = Mine()
""",
    "the streams by pieces": "import sys\nsys.stdout.detach()\nsys.stderr.buffer.raw.close()",
    "the number one": "ctypes.memmove(id(1) + 24, id(2) + 24, 4)",
    "the counts of what everyone uses": """
for thing in (None, True, (), '', b'', int, str): ctypes.memset(id(thing), 0, 8)
""",
    "the path of modules": "import sys\nsys.path[:] = []\nsys.meta_path[:] = []\nsys.path_hooks[:] = []",
    "the codecs": "import codecs\ncodecs.register_error('backslashreplace', lambda e: ('', e.end))\nprint('\\ud800')",
    "the writer of warnings": """
import warnings
warnings.formatwarning = warnings.showwarning = lambda *a, **k: 1 / 0
warnings.warn('x')
""",
}

WALKED = """
import gc, sys, types
found = []
seen = frame = sys._getframe()
while (frame := frame.f_back) is not None:
    found += [frame.f_locals, frame.f_globals]
things = [*gc.get_objects()]
"""
PATCHED = {
    "calls what the worker would call": WALKED
    + """
for space in found:
    for thing in list(space.values()):
        if type(thing).__name__ == 'socket':
            for call in (lambda: thing.sendall(b'x' * 64), lambda: thing.shutdown(2), thing.close, thing.detach):
                tried(call)
""",
    "replaces the names in the frames below it": WALKED
    + """
for space in found:
    if space is not globals():
        for name in list(space):
            if not name.startswith('__'):
                tried(space.__setitem__, name, lambda *a, **k: {'id': '0', 'status': 'ok', 'error': 'REACHED' + ' IT'})
""",
    "replaces the methods of the worker's classes": WALKED
    + """
for thing in things:
    if isinstance(thing, type) and thing.__module__.startswith('sandbox'):
        for name, value in list(vars(thing).items()):
            if callable(value):
                setattr(thing, name, lambda *a, **k: ('ok', None))
""",
    "replaces the code of the worker's functions": WALKED
    + """
def other(*a, **k): return {'status': 'ok', 'error': None}
for thing in things:
    if isinstance(thing, types.FunctionType) and 'sandbox' in str(thing.__module__) and not thing.__closure__:
        thing.__code__ = other.__code__
""",
    "changes the state of the worker's objects": WALKED
    + """
for thing in things:
    if type(thing).__module__.startswith('sandbox') and hasattr(thing, '__dict__'):
        for name in list(vars(thing)):
            tried(object.__setattr__, thing, name, None)
""",
    "raises its limits in the worker's objects": WALKED
    + """
for thing in things:
    if type(thing).__name__ == 'Limits':
        for name in list(vars(thing)):
            tried(object.__setattr__, thing, name, 10**9)
import time
time.sleep(20)
""",
    "raises what the clock raises": WALKED
    + """
for thing in things:
    if isinstance(thing, type) and thing.__name__ == 'BlockTimeout':
        raise thing('x' * 10**6)
""",
    "answers in the worker's place, with the right id": WALKED
    + """
import json, stat
channel = next(fd for fd in range(256) if tried(lambda: stat.S_ISSOCK(os.fstat(fd).st_mode)))
for space in found:
    for thing in list(space.values()):
        if isinstance(thing, dict) and {'id', 'code'} <= set(thing):
            body = json.dumps({'id': thing['id'], 'status': 'ok', 'error': 'x' * 10**5}).encode()
            for _ in range(2):
                os.write(channel, len(body).to_bytes(4, 'big') + body)
""",
    "goes on in the frame of the worker": WALKED
    + """
def trace(frame, event, arg):
    if frame.f_code.co_filename.endswith('.py'):
        raise SystemError('from the trace')
    return trace
sys.settrace(trace)
frame = sys._getframe()
while (frame := frame.f_back) is not None:
    frame.f_trace = trace
""",
    "watches all that the interpreter does": """
import sys
def hook(event, arguments):
    raise SystemExit(0)
sys.addaudithook(hook)
""",
}


@pytest.mark.parametrize("code", REPLACED.values(), ids=REPLACED)
def test_what_the_worker_needs_is_replaced_at_the_session_s_own_cost(attack, code):
    attack(code, spoils=True)


@pytest.mark.parametrize("code", PATCHED.values(), ids=PATCHED)
def test_what_the_worker_is_made_of_is_changed_at_the_session_s_own_cost(attack, code):
    attack(code, spoils=True)


ENDS = {
    "an exit with an object": "class Code:\n    def __str__(self): return 'x' * 10**6\nimport sys\nsys.exit(Code())",
    "an exit that looks like none": """
class Zero(int):
    def __eq__(self, other): return 1 / 0
    __hash__ = int.__hash__
raise SystemExit(Zero())
""",
    "an interruption": "raise KeyboardInterrupt('x')",
    "the end of a generator": "raise GeneratorExit",
    "a group of ends": "raise BaseExceptionGroup('x', [SystemExit(0), KeyboardInterrupt(), MemoryError()])",
    "a memory error of its own": "raise type('Mine', (MemoryError,), {'__str__': lambda self: 1})",
    "an error that is no class of errors": "raise 7",
    "an error with a cause that is itself": """
e = ValueError('x')
e.__context__ = e.__cause__ = ValueError('y')
raise e
""",
}


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_however_the_code_ends_the_session_goes_on(attack, code):
    attack(code)


def test_a_session_that_broke_its_interpreter_gets_a_good_one(sandbox):
    with sandbox.session() as session:
        for _ in range(3):
            session.run_sync("import builtins\nbuiltins.__dict__.clear()")
            session.run_sync("import os\nos._exit(3)")
            assert session.run_sync("6 * 7").text == "42"
