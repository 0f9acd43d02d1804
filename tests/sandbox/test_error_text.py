"""Errors name the failing lines of the code and nothing of the machine."""

import sys

import pytest


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("x = 1\n1 / 0", "line 2: 1 / 0\nZeroDivisionError: division by zero"),
        ("no_such", "line 1: no_such\nNameError: name 'no_such' is not defined"),
        ("x = = 3", "line 1: x = = 3\nSyntaxError: invalid syntax"),
        ("assert 1 > 2, 'why'", "line 1: assert 1 > 2, 'why'\nAssertionError: why"),
        ("raise KeyError", "line 1: raise KeyError\nKeyError"),
        ("class Bad(Exception): pass\nraise Bad('x')", "line 2: raise Bad('x')\nBad: x"),
        ("eval('1 +')", "line 1: eval('1 +')\nSyntaxError: invalid syntax"),
        (
            "import json\njson.loads('{')",
            "line 2: json.loads('{')\njson.decoder.JSONDecodeError: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("a = '\\x0c'\n\n1/0", "line 3: 1/0\nZeroDivisionError: division by zero"),
        ("    x = 1\n    1/0", "line 2: 1/0\nZeroDivisionError: division by zero"),
        ("e = ValueError('a')\ne.add_note('b')\nraise e", "line 3: raise e\nValueError: a\nb"),
        (
            "raise ExceptionGroup('g', [ValueError(1), KeyError('k')])",
            "line 1: raise ExceptionGroup('g', [ValueError(1), KeyError('k')])\n"
            "ExceptionGroup: g (2 sub-exceptions)\n  ValueError: 1\n  KeyError: 'k'",
        ),
    ],
)
def test_the_failing_line_and_the_exception(shown, block, text):
    assert shown(block) == text


def test_the_way_through_an_earlier_block(shown):
    text = shown("table = {}\ndef look(key):\n    return table[key]", "look('missing')")
    assert text == "line 1: look('missing')\nblock 1, line 3, in look: return table[key]\nKeyError: 'missing'"


def test_a_deep_recursion_is_cut(session):
    lines = session.run_sync("def f(n):\n    return f(n + 1)\nf(0)").error.splitlines()
    assert (lines[0], lines[1]) == ("line 3: f(0)", "...")
    assert len(lines) <= 6
    assert lines[-1].startswith("RecursionError")


@pytest.mark.parametrize(
    "block", ["from sympy import no_such", "import sympy\nsympy.sqrt(1, 2, 3, 4)", "import nothing"]
)
def test_no_path_of_the_machine_and_no_frame_of_ours(shown, block):
    text = shown(block)
    assert sys.base_prefix not in text
    assert sys.prefix not in text
    assert "sandbox" not in text


def test_a_warning_names_no_file(shown):
    assert shown("import warnings\nwarnings.warn('careful')") == "UserWarning: careful"


def test_a_text_that_fails_itself(shown):
    block = "class Bad(Exception):\n    def __str__(self):\n        return 1 / 0\nraise Bad"
    assert shown(block) == "line 4: raise Bad\nBad: <its text raised ZeroDivisionError>"


@pytest.mark.parametrize("block", ["raise ValueError('v' * 10**7)", "raise type('E' * 10**6, (Exception,), {})"])
def test_a_huge_text_is_cut_in_the_middle(session, block):
    error = session.run_sync(block).error
    assert len(error) < 300
    assert "characters left out" in error


def test_a_value_that_cannot_be_shown_names_its_line(shown):
    text = shown("x = 1\n10 ** 5000")
    assert text.startswith("line 2: 10 ** 5000\nValueError: Exceeds the limit (4300 digits)")
