"""Licences: the SPDX identifier of a project, from what its files say.

In this order, the first that answers: `SPDX-License-Identifier` lines in LICENSE files or, where
most source files with such a line agree, in those; the text of LICENSE and COPYING files, known by
phrases that each licence has and the others lack; what package.json, Cargo.toml, pyproject.toml,
setup.cfg, PKG-INFO, *.gemspec or composer.json declare. A project with several licence files is
`A AND B`, as both hold for something in it. None if nothing is recognised: an allow-list then
leaves the project out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable

# (SPDX identifier, phrases that must all be there, phrases that must not), looked for in lower case
# with white space made single. The more special come first.
_TEXTS: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [
    ("AGPL-3.0", ("gnu affero general public license", "version 3, 19 november 2007"), ()),
    ("LGPL-3.0", ("gnu lesser general public license", "version 3, 29 june 2007"), ()),
    ("LGPL-2.1", ("gnu lesser general public license", "version 2.1, february 1999"), ()),
    ("GPL-3.0", ("gnu general public license", "version 3, 29 june 2007"), ()),
    ("GPL-2.0", ("gnu general public license", "version 2, june 1991"), ()),
    ("Apache-2.0", ("apache license", "version 2.0, january 2004"), ()),
    ("Apache-2.0", ("licensed under the apache license, version 2.0",), ()),
    ("MPL-2.0", ("mozilla public license", "version 2.0"), ()),
    ("EPL-2.0", ("eclipse public license - v 2.0",), ()),
    ("EPL-1.0", ("eclipse public license - v 1.0",), ()),
    ("BSL-1.0", ("boost software license - version 1.0",), ()),
    ("CC0-1.0", ("cc0 1.0 universal",), ()),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",), ()),
    ("CC-BY-4.0", ("attribution 4.0 international",), ("sharealike", "noncommercial")),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",), ()),
    ("WTFPL", ("do what the fuck you want to public license",), ()),
    ("PSF-2.0", ("python software foundation license version 2",), ()),
    ("Artistic-2.0", ("the artistic license 2.0",), ()),
    ("Zlib", ("provided 'as-is', without any express or implied warranty",
              "altered source versions must be plainly marked"), ()),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose",
             "provided that the above copyright notice"), ()),
    ("ISC", ("permission to use, copy, modify, and distribute this software for any purpose",
             "provided that the above copyright notice"), ()),
    ("0BSD", ("permission to use, copy, modify, and/or distribute this software for any purpose",),
     ("provided that the above copyright notice",)),
    ("BSD-4-Clause", ("redistributions of source code must retain",
                      "all advertising materials mentioning features"), ()),
    ("BSD-3-Clause", ("redistributions of source code must retain", "endorse or promote products"),
     ()),
    ("BSD-2-Clause", ("redistributions of source code must retain",), ("endorse or promote",)),
    ("MIT", ("permission is hereby granted, free of charge, to any person obtaining",
             "the above copyright notice and this permission notice shall be included"), ()),
    ("MIT-0", ("permission is hereby granted, free of charge, to any person obtaining",), ()),
]  # fmt: skip

_NAMES = {
    "mit": "MIT", "mit license": "MIT", "the mit license": "MIT", "bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "isc": "ISC", "gplv3": "GPL-3.0",
    "gpl-3.0-or-later": "GPL-3.0", "gpl-2.0-or-later": "GPL-2.0", "lgpl-3.0-or-later": "LGPL-3.0",
    "gplv2": "GPL-2.0", "mpl 2.0": "MPL-2.0", "public domain": "Unlicense",
}  # fmt: skip

# No pattern here may go over the same bytes twice: a megabyte of line feeds is a file as well.
_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([^\r\n]*)")
_EXPRESSION = re.compile(rb"[A-Za-z0-9.+\-() ]{1,200}")
_IS_LICENCE = re.compile(r"(^|[-_./])(licen[cs]es?|copying|unlicense)([-_.]|$)", re.IGNORECASE)
_DECLARED = {
    "Cargo.toml": r"^[ \t]*license\s*=\s*\"([^\"]+)\"",
    "pyproject.toml": r"^[ \t]*license\s*=\s*(?:\{\s*text\s*=\s*)?[\"']([^\"'\n]{1,60})[\"']",
    "setup.cfg": r"^license\s*=\s*(.{1,60})$",
    "setup.py": r"\blicense\s*=\s*[\"']([^\"'\n]{1,60})[\"']",
    "PKG-INFO": r"^License(?:-Expression)?:\s*(.{1,60})$",
}


def is_licence_file(path: str) -> bool:
    """Whether a file is named as licence texts are: LICENSE, COPYING.LESSER, LICENSE-MIT."""
    name = path.rpartition("/")[2]
    return bool(_IS_LICENCE.search(name)) and name.rpartition(".")[2].lower() not in (
        "py", "js", "ts", "go", "rs", "java", "rb", "php", "cs", "kt", "c", "h", "cpp",
    )  # fmt: skip


def licence_of_text(text: str) -> str | None:
    """Recognise a licence by its text: an SPDX identifier, or None."""
    plain = " ".join(text.lower().replace("“", '"').replace("”", '"').split())
    for name, all_of, none_of in _TEXTS:
        if all(phrase in plain for phrase in all_of) and not any(p in plain for p in none_of):
            return name
    return None


def project_licence(files: Iterable[tuple[str, bytes]]) -> str | None:
    """Give the SPDX expression of a project from its files (path, content); None if unknown."""
    files = list(files)
    top = [(path, data) for path, data in files if path.count("/") <= 1]
    found: list[str] = []
    for path, data in sorted(top):
        folder = path.rpartition("/")[0].lower()
        if (not folder and is_licence_file(path)) or folder in ("licenses", "licences"):
            name = _tag(data) or licence_of_text(data.decode(errors="replace"))
            if name:
                found.append(name)
    if found:
        return " AND ".join(sorted(set(found)))
    tags = Counter(tag for _, data in files if (tag := _tag(data[:2000])))
    if tags:
        (name, count), *_ = tags.most_common(1)
        if count * 2 > sum(tags.values()):
            return name
    for path, data in sorted(top, key=lambda item: (item[0].count("/"), item[0])):
        if declared := _declared(path.rpartition("/")[2], data):
            return declared
    for path, data in sorted(top):
        if path.lower().startswith("readme") and (
            name := licence_of_text(data.decode(errors="replace"))
        ):
            return name
    return None


def _tag(data: bytes) -> str | None:
    """What the first line with an SPDX tag says, without the end of its comment."""
    for match in _TAG.finditer(data):
        said = match[1].partition(b"*/")[0].partition(b"-->")[0].strip()
        if _EXPRESSION.fullmatch(said):
            return said.decode()
    return None


def _declared(name: str, data: bytes) -> str | None:
    text = data.decode(errors="replace")
    value = None
    if name in ("package.json", "composer.json"):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return None
        value = content.get("license") if isinstance(content, dict) else None
        if isinstance(value, list):
            value = " OR ".join(v for v in value if isinstance(v, str))
        if isinstance(value, dict):
            value = value.get("type")
    elif name.endswith(".gemspec"):
        match = re.search(r"\.licenses?\s*=\s*\[?[\"']([^\"']+)", text)
        value = match[1] if match else None
    elif name in _DECLARED:
        match = re.search(_DECLARED[name], text, re.MULTILINE)
        value = match[1] if match else None
    if not isinstance(value, str) or not value.strip():
        return None
    value = value.strip()
    if value.lower() in _NAMES:
        return _NAMES[value.lower()]
    # An SPDX expression, or nothing that can be compared with an allow-list.
    return (
        value
        if re.fullmatch(r"\(?[A-Za-z0-9][\w.+-]*( (OR|AND|WITH) [\w.+-]+)*\)?", value)
        else None
    )


def is_allowed(licence: str | None, allowed: Iterable[str]) -> bool:
    """Whether an SPDX expression is covered by a list of identifiers.

    Of `A OR B` one must be allowed, of `A AND B` both. `-only` and `-or-later` don't matter.
    """
    names = {_plain(name) for name in allowed}
    if licence is None:
        return False
    return all(
        any(_plain(choice) in names for choice in part.split(" OR "))
        for part in licence.replace("(", "").replace(")", "").split(" AND ")
    )


def _plain(name: str) -> str:
    name = name.strip().split(" WITH ")[0].lower()
    return name.removesuffix("-only").removesuffix("-or-later").removesuffix("+")
