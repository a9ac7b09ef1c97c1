"""Projects as documents of the curation schema."""

import json

import pytest

from curation.document import SCHEMA
from curation.project.documents import (
    ProjectSettings,
    batches,
    documents,
    heading,
    read_project,
)
from curation.project.files import RawProject

FILES = {
    "README.md": "# It\n",
    "LICENSE": "Permission is hereby granted, free of charge, to any person obtaining a copy."
    " The above copyright notice and this permission notice shall be included in all copies.",
    "p/__init__.py": "from .b import f\n",
    "p/a.py": "é = 1",
    "p/b.py": "from .a import é\r\n",
    "tests/test_b.py": "import p.b\n",
    "yarn.lock": "x",
    "web/a.ts": "export const a = 1\n",
}


def project(settings, files=FILES):
    raw = [(path, text.encode(), "lock" if "lock" in path else "") for path, text in files.items()]
    raw = [(path, None if why else data, why) for path, data, why in raw]
    return read_project(RawProject("it", iter(raw)), settings)


def test_a_small_project_is_one_document_in_order():
    settings = ProjectSettings()
    it = project(settings)
    (row,) = documents(it, settings)
    assert row["text"] == (
        "<!-- README.md -->\n# It\n\n"
        + "# p/a.py\né = 1\n\n# p/b.py\nfrom .a import é\n\n# p/__init__.py\nfrom .b import f\n\n"
        + "# tests/test_b.py\nimport p.b\n\n// web/a.ts\nexport const a = 1\n\n"
    )
    data = row["text"].encode()
    files = [span for span in row["spans"] if span["kind"] == "file"]
    for span in files:
        text = data[span["start"] : span["end"]].decode()
        assert text.rstrip("\n") == FILES[span["path"]].rstrip()
    about = [row[key] for key in ("license", "language", "uri", "domain")]
    assert about == ["MIT", "python", "it", "code"]
    assert len(row["parents"]) == len(files) == 6
    assert json.loads(row["metadata"])["files"] == 6
    (batch,) = batches([row])
    assert batch.schema == SCHEMA
    statistics = it.statistics()
    assert statistics["edges"] == statistics["edges_in_order"] == 3
    assert statistics["aside"] == {"licence": 1, "lock": 1}


def test_ids_are_of_the_files_and_their_order():
    rows = {
        order: next(documents(project(s), s))
        for order in ("dependencies", "random")
        for s in [ProjectSettings(order=order, seed=3)]
    }
    assert rows["random"]["id"] != rows["dependencies"]["id"]
    assert sorted(rows["random"]["parents"]) == sorted(rows["dependencies"]["parents"])
    again = next(documents(project(ProjectSettings()), ProjectSettings()))
    assert again == rows["dependencies"]


def test_a_large_project_is_cut_between_files_and_a_large_file_between_lines():
    files = {f"m{n}.py": f"import m{n - 1}\n" + "x = 1\n" * 20 for n in range(1, 6)}
    files |= {"m0.py": "é = 1\n" * 100}
    settings = ProjectSettings(max_bytes=300)
    rows = list(documents(project(settings, files), settings))
    assert all(len(row["text"].encode()) <= 300 + len("# m0.py\n\n") for row in rows)
    for path, text in files.items():
        pieces = [
            row["text"].encode()[s["start"] : s["end"]].decode()
            for row in rows
            for s in row["spans"]
            if s["path"] == path and s["kind"] == "file"
        ]
        assert "".join(dict.fromkeys(pieces)) == text or path == "m0.py"
    cut = [row["text"] for row in rows if "# m0.py" in row["text"]]
    assert "".join(text.removeprefix("# m0.py\n")[:-1] for text in cut) == files["m0.py"]
    assert len({row["id"] for row in rows}) == len(rows)


def test_pieces_of_a_large_file_have_its_holes():
    source = "".join(f"def é{n}(x):\n    return x + {n}\n" for n in range(8))
    settings = ProjectSettings(max_bytes=120)
    rows = list(documents(project(settings, {"m.py": source}), settings))
    assert len(rows) == 2
    holes = [
        row["text"].encode()[span["start"] : span["end"]].decode()
        for row in rows
        for span in row["spans"]
        if span["kind"] == "body"
    ]
    assert sorted(holes) == sorted(f"return x + {n}" for n in range(8))


def test_without_repetition_every_file_stands_in_one_document():
    files = {f"m{n}.py": "import m0\n" + "x = 1\n" * 20 for n in range(1, 6)} | {"m0.py": "y = 1\n"}
    for repeat, times in ((0.0, 1), (0.25, 3)):
        settings = ProjectSettings(max_bytes=300, repeat=repeat)
        rows = documents(project(settings, files), settings)
        paths = [span["path"] for row in rows for span in row["spans"] if span["kind"] == "file"]
        assert paths.count("m0.py") == times


def test_a_licence_that_is_not_allowed_gives_nothing():
    settings = ProjectSettings(licenses=("Apache-2.0",))
    assert list(documents(project(settings), settings)) == []


def test_empty_projects_and_wrong_settings():
    settings = ProjectSettings()
    assert list(documents(project(settings, {}), settings)) == []
    with pytest.raises(ValueError, match="expected dependencies or random"):
        ProjectSettings(order="alphabetical")
    with pytest.raises(ValueError, match="at least 1"):
        ProjectSettings(max_bytes=0)


def test_headings_are_comments():
    assert heading("a.py", "python") == "# a.py\n"
    assert heading("a.rs", "rust") == "// a.rs\n"
    assert heading("a.html", "html") == "<!-- a.html -->\n"
    assert heading("a.css", "css") == "/* a.css */\n"
    assert heading("a.sql", "sql") == "-- a.sql\n"
