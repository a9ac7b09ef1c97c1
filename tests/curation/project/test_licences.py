"""SPDX identifiers from licence texts, tags and what packages declare."""

from importlib.metadata import distributions

import pytest

from curation.project.licences import is_allowed, licence_of_text, project_licence

MIT = b"""MIT License\n\nCopyright (c) A\n\nPermission is hereby granted, free of charge, to any
person obtaining a copy of this software ... The above copyright notice and this permission notice
shall be included in all copies"""


def test_licence_texts_of_installed_packages():
    """What the text says agrees with what the package's metadata declares in SPDX."""
    agreed, other = 0, []
    for package in distributions():
        declared = package.metadata.get("License-Expression")
        named = [f for f in package.files or () if "licens" in str(f).lower()]
        texts = [f for f in named if "dist-info" in str(f)]
        if not declared or " " in declared or len(texts) != 1 or not texts[0].locate().is_file():
            continue
        found = licence_of_text(texts[0].read_text("utf-8"))
        if found is not None and declared.removesuffix("-only").removesuffix("-or-later") == found:
            agreed += 1
        else:
            other.append((package.name, declared, found))
    if agreed + len(other) < 10:
        pytest.skip("fewer than ten installed packages declare a licence in SPDX")
    assert len(other) <= 0.05 * agreed, other


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"LICENSE": MIT}, "MIT"),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": b"Apache License\nVersion 2.0, January 2004"},
         "Apache-2.0 AND MIT"),
        ({"LICENSES/X.txt": b"SPDX-License-Identifier: 0BSD\n"}, "0BSD"),
        ({"a.c": b"// SPDX-License-Identifier: GPL-2.0-only\n", "b.c": b"x"}, "GPL-2.0-only"),
        ({"package.json": b'{"license": "ISC"}'}, "ISC"),
        ({"package.json": b'{"license": {"type": "MIT"}}'}, "MIT"),
        ({"package.json": b"[" * 100_000}, None),
        ({"Cargo.toml": b'[package]\nlicense = "MIT OR Apache-2.0"'}, "MIT OR Apache-2.0"),
        ({"pyproject.toml": b'[project]\nlicense = {text = "BSD"}'}, "BSD-3-Clause"),
        ({"x.gemspec": b'  s.licenses = ["MIT"]'}, "MIT"),
        ({"README.md": b"# A\n" + MIT}, "MIT"),
        ({"src/license.py": MIT, "a/b/LICENSE": MIT}, None),
        ({"setup.py": b"license='See LICENSE file, please'"}, None),
    ],
)  # fmt: skip
def test_the_licence_of_a_project(files, expected):
    assert project_licence(files.items()) == expected


@pytest.mark.parametrize(
    ("licence", "allowed", "expected"),
    [
        ("MIT", ["mit"], True), ("GPL-2.0-only", ["GPL-2.0"], True), (None, ["MIT"], False),
        ("MIT OR GPL-3.0", ["MIT"], True), ("MIT AND GPL-3.0", ["MIT"], False),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", ["MIT", "BSD-3-Clause"], True),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0"], True),
    ],
)  # fmt: skip
def test_allow_lists(licence, allowed, expected):
    assert is_allowed(licence, allowed) is expected
