"""Docstrings from source that is parsed and never run."""

import doctest

import pytest

from curation.sample.docstrings import (
    is_documentation_module,
    module_docstrings,
    without_sessions,
)
from curation.sample.packages import find_package


def test_docstrings_come_in_the_order_in_which_they_stand_without_indentation():
    source = '''"""Module."""
class A:
    """Class.

        Indented.
    """
    def method(self):
        """Method."""
        def inner():
            """Nobody reads this."""
    class B:
        """Inner class."""
if True:
    async def f():
        """Async."""
else:
    try:
        def g(): "Short."
    except ValueError:
        def h(): """Handler."""
'''
    assert module_docstrings(source) == [
        "Module.",
        "Class.\n\nIndented.",
        "Method.",
        "Inner class.",
        "Async.",
        "Short.",
        "Handler.",
    ]


def test_a_module_is_never_run(tmp_path):
    trap = tmp_path / "ran"
    source = f'"""Doc."""\nopen({str(trap)!r}, "w")\nraise SystemExit(1)\n'
    assert module_docstrings(source) == ["Doc."]
    assert not trap.exists()


@pytest.mark.parametrize(
    "source",
    [
        "",
        '"""unfinished',
        'print """Python 2"""',
        '"""nul"""\0',
        '"""   """',
        '"""' + "(" * 5000,
        'def f():\n  """lone \\ud800 surrogate"""',
        'x = """not a docstring"""',
    ],
)
def test_source_without_a_readable_docstring_gives_nothing(source):
    assert module_docstrings(source) == []


def test_documentation_modules_give_their_long_strings():
    long = "Computes the sum. " * 20
    source = f'add_docstr(f, r"""\n    {long}end\n    """.format(**args))\nshort = """no"""\n'
    assert [t.strip() for t in module_docstrings(source, long_strings=True)] == [long + "end"]
    assert is_documentation_module("torch/_torch_docs.py")
    assert not is_documentation_module("torch/nn/linear.py")


def test_sessions_go_with_their_output_and_prose_stays():
    text = """Adds two numbers.

    >>> add(1,
    ...     2)
    3

    It is exact.
    >>> add(0.1, 0.2)
    0.30000000000000004
    next line of output

    The end."""
    assert without_sessions(text) == "Adds two numbers.\n\n    It is exact.\n\n    The end."


def test_no_session_that_doctest_would_find_is_left_in_real_documentation():
    package = find_package("sympy")
    parser, found = doctest.DocTestParser(), 0
    for path in package.under("sympy/core/", suffixes=[".py"]):
        for text in module_docstrings(package.read(path)):
            found += ">>>" in text
            assert parser.get_examples(without_sessions(text)) == []
    assert found > 200
