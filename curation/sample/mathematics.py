"""The mathematics part of the sample: documentation that does mathematics, and worked problems.

SymPy's and mpmath's docstrings are a handbook of formulas, algorithms and worked sessions; NumPy's,
NetworkX's and the mathematical modules of PyTorch and the standard library add numerics, linear
algebra, graphs and statistics, much of it in LaTeX. A document is one module's docstrings. The
other part is generated (`problems.py`): arithmetic and algebra in words, with the steps written out
and every answer checked.
"""

import itertools
from collections.abc import Iterator

from .docstrings import is_documentation_module, module_docstrings
from .packages import Package, find_package, keyed_order
from .problems import SOURCE, problem_document

# (MB at the default size, package, files or folders); the generated problems take the rest.
SOURCES = (
    (
        0.1,
        "python",
        ("statistics.py", "fractions.py", "_pydecimal.py", "random.py", "numbers.py", "heapq.py"),
    ),
    (0.4, "mpmath", ("mpmath/",)),
    (
        1.0,
        "torch",
        (
            *("torch/distributions/", "torch/fft/", "torch/linalg/", "torch/special/"),
            *("torch/_torch_docs.py", "torch/_tensor_docs.py", "torch/functional.py"),
        ),
    ),
    (1.8, "networkx", ("networkx/",)),
    (1.7, "numpy", ("numpy/",)),
    (5.0, "sympy", ("sympy/",)),
)
GENERATED_WEIGHT = 4.5


def math_documents(package: Package, files: tuple[str, ...], seed: int) -> Iterator[dict]:
    """One document per module of a package's docstrings, interpreter sessions included."""
    for path in keyed_order(seed, package.under(*files, suffixes=[".py"])):
        source = package.read(path)
        if source is None:
            continue
        texts = module_docstrings(source, long_strings=is_documentation_module(path))
        if texts:
            yield package.document("math", path, "\n\n".join(texts), language="eng_Latn")


def problem_documents(seed: int) -> Iterator[dict]:
    """An endless stream of documents of generated problems, in the order of their index."""
    for index in itertools.count():
        yield {
            "text": problem_document(seed, index),
            "source": SOURCE,
            "domain": "math",
            "language": "eng_Latn",
            "uri": f"gristmill://{SOURCE}/{seed}/{index:06d}",
            "license": "CC0-1.0",
            "metadata": None,
        }


def math_sources(seed: int) -> list[tuple[float, Iterator[dict]]]:
    """Documentation and generated problems as (weight, documents), for `budget.fill`."""
    documentation = [
        (weight, math_documents(find_package(name), files, seed)) for weight, name, files in SOURCES
    ]
    return [*documentation, (GENERATED_WEIGHT, problem_documents(seed))]
