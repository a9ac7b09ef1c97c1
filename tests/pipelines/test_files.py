"""Files are whole or not there, and known by what is in them."""

import pytest

from pipelines.files import atomic, checksum, fingerprint, read_json, remove_temporaries, write_json


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_killed_run_left_half_written_is_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".a.txt.123.partial").write_text("half")
    (tmp_path / "deep" / "a.txt").write_text("whole")
    (tmp_path / "deep" / ".scratch.partial" / "in").mkdir(parents=True)
    (tmp_path / "deep" / ".scratch.partial" / "in" / ".b.partial").write_text("half")
    remove_temporaries(tmp_path)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_a_fingerprint_is_of_the_content_and_not_of_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})


def test_json_that_is_damaged_names_its_file(tmp_path):
    path = tmp_path / "x.json"
    assert read_json(path) is None
    write_json(path, {"ä": 1})
    assert read_json(path) == {"ä": 1}
    before = checksum(path)
    path.write_text(path.read_text()[:-3])
    assert checksum(path) != before
    with pytest.raises(ValueError, match=r"x\.json: damaged"):
        read_json(path)
