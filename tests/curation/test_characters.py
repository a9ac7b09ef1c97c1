"""The table of characters that the native code reads."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from curation import _native

NATIVE = Path(__file__).parents[2] / "curation" / "native"
sys.path.insert(0, str(NATIVE))
from make_characters import properties, table  # noqa: E402


def test_the_table_is_what_unicodedata_says():
    written = (NATIVE / "characters.inc").read_text("utf-8")
    if f"Unicode {unicodedata.unidata_version}." not in written:
        pytest.skip(f"the table is of another Unicode than {unicodedata.unidata_version}")
    assert table() == written


def test_the_native_code_reads_it_as_it_was_written():
    flags, lower = _native.characters()
    names = list(properties("a"))
    for char in "aZ9_ \n\u2028\u00a0é\u0301ßΣİ漢〇กไ٣•…,$\x00\ufffd\ue000\U0001f600\U000e01ef":
        assert lower[ord(char)] == ord(char.lower() if len(char.lower()) == 1 else char)
        found = {name for bit, name in enumerate(names) if flags[ord(char)] >> bit & 1}
        if unicodedata.category(char) != "Cn":
            assert found == {name for name, yes in properties(char).items() if yes}
    assert flags.shape == lower.shape == (0x110000,)
    assert flags.dtype == np.uint16 and lower.dtype == np.uint32
