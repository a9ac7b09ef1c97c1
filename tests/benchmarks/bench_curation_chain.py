"""The whole chain, ours and datatrove's: language, Gopher, C4, FineWeb, private data, signatures.

English documents go through both as in a pipeline: what a step drops, no later step sees. `chain`
is that; `all steps` gives every document to every step, so that a filter which drops more does not
look fast. datatrove's language filter would download its model: it is given our file of the same
model (lid.176, compressed) by a stand-in that asks fastText for lists, as its way of asking fails
with NumPy 2. Its MinHash signs what is left; both sides leave out reading and writing.
"""

import tempfile

from curation.c4 import C4Filter
from curation.dedup import DocumentDedup
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter
from curation.language import LanguageFilter
from curation.private_data import PrivateDataFilter

MB = 1_000_000


def run(bench) -> None:
    """Measure, print a table, note the claim."""
    texts = bench.texts("eng_Latn", 120_000 if bench.options.quick else 4 * MB)
    size = sum(len(text.encode()) for text in texts)
    batches = bench.batches(texts)
    jobs = {
        "ours chain": lambda: ours(batches, drop=True),
        "ours all steps": lambda: ours(batches, drop=False),
    }
    theirs = peers()
    if theirs:
        jobs["datatrove chain"] = lambda: datatrove(theirs, texts, drop=True)
        jobs["datatrove all steps"] = lambda: datatrove(theirs, texts, drop=False)
        datatrove(theirs, texts[:2], drop=False)
    ours([batch[:2] for batch in batches[:1]], drop=False)
    seconds = bench.measure(jobs)
    left = {name: job() for name, job in jobs.items()}
    rows = []
    for name in ("chain", "all steps"):
        mine, peer = seconds[f"ours {name}"], seconds.get(f"datatrove {name}")
        cells = [f"{size / MB / peer:.2f}", f"{peer / mine:.0f}"] if peer else ["", ""]
        counts = [left[f"ours {name}"], left.get(f"datatrove {name}", "")]
        rows.append([name, f"{size / MB / mine:.1f}", *cells, *map(str, counts)])
        if peer:
            bench.claim(f"{name.replace(' ', '_')}_vs_datatrove", peer / mine, 30)
    title = f"the chain, English, {len(texts)} documents, {size / MB:.1f} MB"
    bench.table(title, "|ours MB/s|datatrove MB/s|times|ours keep|datatrove keeps", rows)


STEPS = (
    LanguageFilter(keep=("eng_Latn",)),
    GopherRepetitionFilter(),
    GopherQualityFilter(),
    C4Filter(),
    FineWebFilter(),
    PrivateDataFilter(),
)
SIGN = DocumentDedup()


def ours(batches: list, drop: bool) -> int:
    """Documents left."""
    kept = 0
    for batch in batches:
        for step in STEPS:
            batch = step(batch)
            place = batch.schema.get_field_index("reject")
            if place >= 0:
                reject = batch.column(place)
                batch = batch.remove_column(place)
                if drop:
                    batch = batch.filter(reject.is_null())
        SIGN.sign(batch)
        kept += len(batch)
    return kept


class _Model:
    """lid.176 as datatrove asks for it: one text, all labels."""

    def __init__(self) -> None:
        import fasttext

        from curation.language import model_path

        self._model = fasttext.load_model(str(model_path()))

    def predict(self, text: str, k: int) -> tuple:
        labels, scores = self._model.predict([text], k=k)
        return labels[0], scores[0]


def peers() -> dict:
    """datatrove's steps; none where it or spaCy is missing."""
    try:
        import spacy  # noqa: F401
        from datatrove.pipeline import filters
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
        from datatrove.pipeline.formatters import PIIFormatter
    except ImportError:
        return {}
    filters.LanguageFilter._requires_dependencies = []  # it asks for a fork of fastText by name
    language = filters.LanguageFilter(languages=["en"])
    language.model._model = _Model()
    with tempfile.TemporaryDirectory() as folder:
        sign = MinhashDedupSignature(folder, MinhashConfig())
    return {
        "filters": (
            language,
            filters.GopherRepetitionFilter(),
            filters.GopherQualityFilter(),
            filters.C4QualityFilter(),
            filters.FineWebQualityFilter(char_duplicates_ratio=0.1),
        ),
        "private": PIIFormatter(),
        "sign": sign,
    }


def datatrove(steps: dict, texts: list[str], drop: bool) -> int:
    """Documents left."""
    from datatrove.data import Document
    from datatrove.utils.text import split_into_parts

    split_into_parts.cache_clear()
    kept = 0
    for text in texts:
        document = Document(text=text, id="")
        for step in steps["filters"]:
            result = step.filter(document)
            if drop and (result is False or (isinstance(result, tuple) and not result[0])):
                break
        else:
            kept += 1
            document.text = steps["private"].format(document.text)
            grams = steps["sign"].get_shingles(document.text)
            if grams.size:
                steps["sign"].get_signature(grams)
    return kept
