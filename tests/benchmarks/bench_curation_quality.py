"""The quality filters against datatrove's, and their speed in other scripts.

English: our filters on record batches, datatrove's document by document, as each gets them in its
pipelines. `gopher` is quality and repetition together on every document: datatrove's two then share
one segmentation into words, as they do in its pipelines; ours do it twice. Alone, each of
datatrove's has to make its own. LengthFilter and SymbolFilter have no peer. Other scripts: ours
only, as its segmentation has other paths there.
"""

from collections.abc import Callable

from curation.c4 import C4Filter
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.length import LengthFilter
from curation.symbols import SymbolFilter

MB = 1_000_000
OURS = {
    "gopher": (GopherQualityFilter(), GopherRepetitionFilter()),
    "gopher_quality": (GopherQualityFilter(),),
    "gopher_repetition": (GopherRepetitionFilter(),),
    "c4": (C4Filter(),),
    "fineweb": (FineWebFilter(),),
    "symbols": (SymbolFilter(),),
    "length": (LengthFilter(),),
}
TARGETS = {"gopher": 100, "c4": 100, "fineweb": 100}
LANGUAGES = ("rus_Cyrl", "zho_Hans", "tha_Thai", "deu_Latn", "arb_Arab", "hin_Deva", "jpn_Jpan")


def run(bench) -> None:
    """Measure, print two tables, note the claims."""
    texts = bench.texts("eng_Latn", 200_000 if bench.options.quick else 4 * MB)
    size = sum(len(text.encode()) for text in texts)
    batches = bench.batches(texts, "eng_Latn")
    jobs: dict[str, Callable] = {}
    theirs = peers()
    for name, steps in OURS.items():
        jobs[f"ours {name}"] = lambda steps=steps: [step(b) for b in batches for step in steps]
        if name in theirs:
            jobs[f"datatrove {name}"] = lambda name=name: datatrove(theirs[name], texts)
    for name, steps in OURS.items():  # what both load and build once
        for step in steps:
            step(batches[0][:1])
        datatrove(theirs.get(name, ()), texts[:1])
    seconds = bench.measure(jobs)
    rows = []
    for name in OURS:
        ours, peer = seconds[f"ours {name}"], seconds.get(f"datatrove {name}")
        cells = [f"{size / MB / peer:.2f}", f"{peer / ours:.0f}"] if peer else ["", ""]
        rows.append([name, f"{size / MB / ours:.0f}", *cells])
        if peer and name in TARGETS:
            bench.claim(f"{name}_vs_datatrove", peer / ours, TARGETS[name])
    title = f"quality filters, English, {len(texts)} documents, {size / MB:.1f} MB"
    bench.table(title, "filter|ours MB/s|datatrove MB/s|times", rows)

    rows = []
    for language in LANGUAGES[:3] if bench.options.quick else LANGUAGES:
        texts = bench.texts(language, 2 * MB)
        size = sum(len(text.encode()) for text in texts)
        batches = bench.batches(texts, language)
        names = ("gopher", "c4", "fineweb", "symbols")
        seconds = bench.measure(
            {
                name: lambda steps=OURS[name], batches=batches: [
                    step(b) for b in batches for step in steps
                ]
                for name in names
            }
        )
        rows.append([language, *(f"{size / MB / seconds[name]:.0f}" for name in names)])
    bench.table("ours, other languages, MB/s", "language|gopher|c4|fineweb|symbols", rows)


def peers() -> dict[str, tuple]:
    """datatrove's filters, none where they or spaCy are missing."""
    try:
        import spacy  # noqa: F401
        from datatrove.pipeline import filters
    except ImportError:
        return {}
    quality, repetition = filters.GopherQualityFilter(), filters.GopherRepetitionFilter()
    return {
        "gopher": (quality, repetition),
        "gopher_quality": (quality,),
        "gopher_repetition": (repetition,),
        "c4": (filters.C4QualityFilter(),),
        "fineweb": (filters.FineWebQualityFilter(char_duplicates_ratio=0.1),),
    }


def datatrove(steps: tuple, texts: list[str]) -> None:
    """Every step on every document, made anew as some of them edit it."""
    from datatrove.data import Document
    from datatrove.utils.text import split_into_parts

    split_into_parts.cache_clear()
    for text in texts:
        for step in steps:
            step.filter(Document(text=text, id=""))
