"""The web part of the sample: English prose, standing in for pages of the web.

It is the prose that comes with software. The Python language reference (`pydoc_data`, a document a
topic), what packages say of themselves (the long description on their index page), their readme,
news and licence files, and docstrings, gathered by module with the interpreter sessions taken out.
It is as mixed as a crawl: careful reference pages beside one-line stubs, the same licence text in
twenty places, tables and markup among the sentences. `language` stays null for curation to fill.

Packages are named one by one: gristmill's dependencies and theirs, each with an open licence. What
else lies in the environment is left alone, so that the sample is a function of these versions.
"""

import ast
import re
from collections.abc import Iterator

from .docstrings import is_documentation_module, module_docstrings, without_sessions
from .mathematics import SOURCES as MATHEMATICS
from .packages import PYTHON, Package, SampleError, find_package, keyed_order

# (MB at the default size, package). Packages with a weight of their own are required.
SOURCES = (
    (0.5, "django"),
    (0.3, "sympy"),
    (0.6, "datasets"),
    (0.3, "pydantic"),
    (0.4, "tensorboard"),
    (0.2, "pyarrow"),
    (0.2, "numpy"),
    (0.3, "gramps"),
    (2.6, "python"),
    (4.0, "torch"),
)

# Dependencies of dependencies, and small ones: used where they are installed.
CARRIED = (
    *("asgiref", "click", "datatrove", "dill", "fasttext", "filelock", "fsspec", "grpcio"),
    *(
        "huggingface_hub",
        "jinja2",
        "loguru",
        "markdown",
        "markdown-it-py",
        "mpmath",
        "multiprocess",
    ),
    *("narwhals", "networkx", "orjson", "packaging", "pandas", "pillow", "plone.app.locales"),
    *("plotly", "pygments", "pyyaml", "rich", "safetensors", "sqlparse", "tokenizers"),
    *("tqdm", "typer", "tzdata", "werkzeug", "xxhash"),
)
_CARRIED_WEIGHT = {"pandas": 2.6, "huggingface_hub": 0.9, "narwhals": 0.3}

# Modules written by programs, for tests, or with few words in much code (Gramps, torch.compile).
_LEFT_OUT = (
    *("plotly/graph_objs/", "plotly/graph_objects/", "plotly/validators/", "pydoc_data/"),
    *("gramps/", "torch/testing/", "torch/_", "torchgen/"),
)
_TOPICS = "pydoc_data/topics.py"
_TEXT_FILE = re.compile(
    r"(?:^|/)(?:[^/]+\.(?:rst|md)|[A-Z][A-Z_-]+(?:\.[A-Za-z0-9_-]+)*\.txt|"
    r"(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS|CHANGES|README|NEWS)[^/]*)$"
)
_NOT_TEXT = (".py", ".html", ".json", ".js", ".h", ".png", ".svg")


def read_topics(source: str) -> dict[str, str]:
    """The help topics of the standard library, {topic: text}, from the source of `pydoc_data`.

    The module is parsed, not imported; an interpreter that ships none gives an empty dictionary.
    """
    for node in ast.parse(source).body:
        names = [t.id for t in getattr(node, "targets", ()) if isinstance(t, ast.Name)]
        if names == ["topics"]:
            return dict(sorted(ast.literal_eval(node.value).items()))
    return {}


def prose_documents(package: Package, seed: int) -> Iterator[dict]:
    """Documents of a package's prose: description, topics, text files, docstrings by module."""
    if package.description.strip():
        yield package.document("web", "METADATA#description", package.description.strip())
    if package.name == PYTHON and _TOPICS in package.files:
        for topic, text in read_topics(package.read(_TOPICS) or "").items():
            yield package.document("web", f"{_TOPICS}#{topic}", text)
    mathematics = tuple(f for _, name, files in MATHEMATICS if name == package.name for f in files)
    for path in keyed_order(seed, package.files):
        if _TEXT_FILE.search(path) and not path.endswith(_NOT_TEXT):
            text = package.read(path)
        elif path.endswith(".py") and not path.startswith((*_LEFT_OUT, *mathematics)):
            text = _module_prose(package, path)
        else:
            continue
        if text is not None:
            yield package.document("web", path, text)


def prose_sources(seed: int) -> list[tuple[float, Iterator[dict]]]:
    """The packages with prose as (weight, documents), for `budget.fill`."""
    sources = []
    for name in CARRIED:
        try:
            package = find_package(name)
        except SampleError:
            continue
        sources.append((_CARRIED_WEIGHT.get(name, 0.1), prose_documents(package, seed)))
    return sources + [
        (weight, prose_documents(find_package(name), seed)) for weight, name in SOURCES
    ]


def _module_prose(package: Package, path: str) -> str | None:
    source = package.read(path)
    if source is None:
        return None
    texts = module_docstrings(source, long_strings=is_documentation_module(path))
    return "\n\n".join(filter(None, map(without_sessions, texts))) or None
