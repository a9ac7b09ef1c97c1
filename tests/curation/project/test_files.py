"""Which files of a project count, from folders, archives and tables, however hostile."""

import io
import os
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.project import files
from curation.project.files import (
    ProjectError,
    ProjectFile,
    SetAside,
    find_projects,
    keep,
    reason_by_path,
    to_text,
)


def read(source, **how):
    return {raw.name: {p: d for p, d, _ in raw.files} for raw in find_projects(source, **how)}


def reasons(source):
    return {p: why for raw in find_projects(source) for p, _, why in raw.files if why}


def make_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                archive.addfile(member)


@pytest.mark.parametrize("end", ["tar.gz", "tar", "tgz", "zip", "whl"])
def test_an_archive_is_read_without_its_top_folder(tmp_path, end):
    name = f"p-1.0.{end}"
    members = [("p-1.0/a.py", b"import b"), ("p-1.0/sub/b.py", b"x = 1")]
    if name.endswith((".zip", ".whl")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path, data in members:
                archive.writestr(path, data)
    else:
        make_tar(tmp_path / name, members, "w" if name.endswith(".tar") else "w:gz")
    assert read(tmp_path / name) == {"p-1.0": {"a.py": b"import b", "sub/b.py": b"x = 1"}}


def test_what_leads_out_of_an_archive_is_nowhere(tmp_path):
    path = tmp_path / "evil.tar.gz"
    make_tar(
        path,
        [
            ("../out.py", b"1"), ("/abs.py", b"2"), ("a/../../up.py", b"3"), ("C:\\x.py", b"4"),
            ("link.py", (tarfile.SYMTYPE, "/etc/passwd")), ("hard.py", (tarfile.LNKTYPE, "ok.py")),
            ("dev.py", (tarfile.CHRTYPE, "")), ("./ok.py", b"5"),
        ],
    )  # fmt: skip
    assert read(path) == {"evil": {"ok.py": b"5"}}
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_not_expanded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.py", b"0" * (files.MAX_FILE_BYTES + 1))
        archive.writestr("ok.py", b"x = 1")
    assert read(path)["bomb"] == {"zeros.py": None, "ok.py": b"x = 1"}
    # An entry that lies about its size.
    data = bytearray(path.read_bytes())
    size = (files.MAX_FILE_BYTES + 1).to_bytes(4, "little")
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    assert reasons(path)["zeros.py"] == "unreadable"
    monkeypatch.setattr(files, "MAX_PROJECT_BYTES", 3)
    with pytest.raises(ProjectError, match=r"bomb\.zip: expands to more than 3 bytes"):
        read(path)


def test_damaged_archives_are_named(tmp_path):
    whole = tmp_path / "p.tar.gz"
    make_tar(whole, [("p/a.py", os.urandom(5000))])
    for name, data in [
        ("cut.tar.gz", whole.read_bytes()[:2000]),
        ("no.zip", b"PK nothing"),
        ("e.tar", b""),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ProjectError, match=f"{name}: cannot be read as an archive"):
            read(tmp_path / name)


def test_a_folder_is_read_without_following_links(tmp_path):
    project = tmp_path / "p"
    (project / "sub" / ".git").mkdir(parents=True)
    (project / "sub" / ".git" / "config").write_text("x")
    (project / "sub" / "a.py").write_text("a")
    (project / "loop").symlink_to(project)
    (project / "out.py").symlink_to("/etc/passwd")
    os.mkfifo(project / "pipe.py")
    assert read(project) == {"p": {"sub/a.py": b"a"}}
    assert set(read(tmp_path, each=True)) == {"p"}


def test_a_folder_of_projects(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text(name)
    make_tar(tmp_path / "c.tar.gz", [("c/x.py", b"c")])
    (tmp_path / "notes.txt").write_text("not a project")
    assert list(read(tmp_path, each=True)) == ["a", "b", "c"]


def test_a_table_gives_a_project_for_each_repo(tmp_path):
    rows = [
        {"repo": "u/a", "path": "x.py", "content": "1"},
        {"repo": "u/a", "path": "../y.py", "content": "2"},
        {"repo": "u/b", "path": "z.py", "content": "3"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=1)
    assert read(tmp_path / "t.parquet") == {"u/a": {"x.py": b"1"}, "u/b": {"z.py": b"3"}}
    pq.write_table(pa.table({"repo": ["a"], "text": ["b"]}), tmp_path / "bad.parquet")
    with pytest.raises(ProjectError, match="no column content, path; expected repo, path, content"):
        read(tmp_path / "bad.parquet")


def test_a_source_that_is_none(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"x")
    for name, message in [("a.rar", "expected a folder, an archive"), ("no", "no such file")]:
        with pytest.raises(ProjectError, match=message):
            read(tmp_path / name)


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILES", 3)
    for n in range(4):
        (tmp_path / f"{n}.py").write_text("")
    with pytest.raises(ProjectError, match="more than 3 files"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("node_modules/x/a.js", "vendored"), ("a/vendor/b.go", "vendored"),
        ("dist/a.js", "generated"),
        ("src/dist/a.js", "generated"), ("build/a.js", "generated"),
        ("src/build/a.py", None), ("Cargo.lock", "lock"), ("web/package-lock.json", "lock"),
        ("a/b.csv", "data"), ("a.min.js", "minified"), ("x_pb2.py", "generated"),
        ("src/a.py", None),
    ],
)  # fmt: skip
def test_reasons_that_the_path_gives(path, reason):
    assert reason_by_path(path) == reason


@pytest.mark.parametrize(
    ("path", "data", "expected"),
    [
        ("a.py", b"x = 1\r\ny = 2\r", "python"),
        ("tool", b"#!/usr/bin/env python3\nx", "python"),
        ("tool", b"#!/bin/sh\nx", "shell"),
        ("a.h", b"#include <vector>\nnamespace a { class B { }; }", "cpp"),
        ("a.h", b"struct a { int b; };", "c"),
        ("a.m", b"#import <A.h>\n@implementation A\n@end", "objective_c"),
        ("a.m", b"x = [1, 2];", "matlab"),
        ("Core", b"#ifndef A\n#define A\nnamespace a {}\n#endif", "cpp"),
        ("README", b"About", "text"),
        ("a.xyz", b"words", SetAside("a.xyz", "unknown_language", 5)),
        ("a.py", b"a\0b", SetAside("a.py", "binary", 3)),
        ("a.py", b" \n", SetAside("a.py", "empty", 2)),
        ("a.go", b"// Code generated by protoc. DO NOT EDIT.\npackage a", "generated"),
        ("a.js", b"var a=1;" * 2000, "minified"),
        ("a.json", b"[1,\n" + b"2,\n" * 3000, "data"),
    ],
)
def test_reasons_that_the_content_gives(path, data, expected):
    kept = keep(path, data)
    if isinstance(expected, SetAside):
        assert kept == expected
    else:
        assert (kept.language if isinstance(kept, ProjectFile) else kept.reason) == expected


def test_encodings_become_utf8():
    assert to_text(b"\xef\xbb\xbfa\r\nb\rc") == "a\nb\nc"
    assert to_text("é".encode("utf-16")) == "é"
    assert to_text("# -*- coding: koi8-r -*-\nя".encode("koi8-r")) == "# -*- coding: koi8-r -*-\nя"
    assert to_text("é = 1".encode("latin-1")) == "é = 1"
    assert to_text("é".encode("utf-16-le")) is None
    assert to_text(b"\xff\xfe\x00") is None
    assert to_text(b"# coding: no-such\nx\xff\n") == "# coding: no-such\nxÿ\n"
    assert to_text(bytes(range(256))) is None
