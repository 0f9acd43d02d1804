"""Blocks behave like the cells of a notebook."""

import pytest


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("2 ** 10", "1024"),
        ("'a' + 'b'", "'ab'"),
        ("3 + 4; 5 * 6", "30"),
        ("print(1)\n2", "1\n2"),
        ("None", "[no output]"),
        ("x = 5", "[no output]"),
        ("", "[no output]"),
        ("# only a comment", "[no output]"),
        ("7;", "[no output]"),
        ("7 ; # quiet", "[no output]"),
        ("'ends with ;'", "'ends with ;'"),
        ("for i in range(3):\n    i", "[no output]"),
        ("(\n    1 +\n    2\n)", "3"),
        ("'é' * 2;", "[no output]"),
        ("__name__", "'__main__'"),
        ("    x = 3\n    if x:\n        x += 1\n    x", "4"),
        ("\n\n\ty = 2\n\tprint(y)", "2"),
        ("\ufeffx = 5\nx", "5"),
        ("import asyncio\nawait asyncio.sleep(0, 5)", "5"),
        ("import asyncio\nx = await asyncio.sleep(0, 6)\nx", "6"),
        ("from sympy import *\nx = symbols('x')\nfactor(x**2 - 1)", "(x - 1)*(x + 1)"),
    ],
)
def test_the_last_expression_is_shown(shown, block, text):
    assert shown(block) == text


def test_variables_functions_and_imports_stay(shown):
    assert shown("import math\nx = 3", "def area(r):\n    return math.floor(r * x)", "area(2)") == "6"


def test_an_error_keeps_what_was_printed_and_defined_before(session):
    result = session.run_sync("kept = 1\nprint('before')\n1 / 0\nkept = 2")
    assert (result.status, result.output) == ("error", "before\n")
    assert session.run_sync("kept").text == "1"


def test_the_underscore_is_the_last_value_shown(shown):
    assert shown("40", "_ + 2") == "42"


def test_sessions_share_nothing(sandbox, session):
    session.run_sync("secret = 1\nopen('mine.txt', 'w').write('x')")
    with sandbox.session() as other:
        assert other.run_sync("'secret' in dir(), __import__('os').listdir()").text == "(False, [])"


def test_output_of_every_kind_is_kept_in_order(shown):
    block = "import os, sys\nprint(1)\nprint(2, file=sys.stderr)\nos.write(1, b'3\\n')\nos.system('echo 4');"
    assert shown(block) == "1\n2\n3\n4"


def test_input_meets_the_end_of_a_file(session):
    result = session.run_sync("input('n? ')")
    assert (result.output, result.error) == ("n? ", "line 1: input('n? ')\nEOFError: EOF when reading a line")


def test_exit_ends_the_block_and_not_the_session(session):
    assert session.run_sync("x = 1\nexit()\nx = 2").status == "ok"
    assert session.run_sync("x").text == "1"
    assert session.run_sync("import sys\nsys.exit('no')").error == "line 2: sys.exit('no')\nSystemExit: no"


def test_streams_are_mended_for_the_next_block(shown):
    assert shown("import sys, os\nsys.stdout.close()\nsys.stderr = None\nos.close(2)", "print(6 * 7)") == "42"


def test_a_logger_keeps_its_stream(shown):
    assert shown("import logging\nlogging.warning('one')", "logging.warning('two')") == "WARNING:root:two"


def test_classes_can_be_pickled(shown):
    assert shown("import pickle\nclass P: pass", "type(pickle.loads(pickle.dumps(P()))) is P") == "True"


def test_the_source_of_a_function_can_be_read(shown):
    assert shown("def f():\n    return 1", "import inspect\nprint(inspect.getsource(f))") == "def f():\n    return 1"


def test_only_the_original_echoes_and_answers_after_a_fork(session):
    assert session.run_sync("import os\nos.fork() > 0").text == "True"
    assert session.run_sync("import time\ntime.sleep(0.1)\nprint('next')").text == "next"


def test_what_is_no_text_becomes_text(session):
    assert session.run_sync(r"print('\ud800')").output == "\\ud800\n"
    assert session.run_sync(r"raise ValueError('\ud800')").error.endswith("ValueError: \\ud800")


def test_a_long_block_of_any_script_is_run(session):
    assert session.run_sync("len('" + "𝔸" * 99_000 + "')").text == "99000"


def test_a_block_that_is_too_long_is_refused(session):
    result = session.run_sync("#" * 200_000)
    assert (result.status, result.output) == ("refused", "")
    assert "200000 characters" in result.error
