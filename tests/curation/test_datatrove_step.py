"""datatrove's classes as steps: the library itself, on batches of ours."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import PIIFormatter, SymbolLinesFormatter

from curation.datatrove_step import REFUSED, DatatroveStep, _run, known_classes
from curation.document import SCHEMA, make_batch

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
PROSE = "\n".join(
    f"The {a} was with the {b} that the people of the {c} have to be wary of, and so it went."
    for a in ("river", "mountain", "old road") for b in ("storm", "frost") for c in ("town", "east")
)  # fmt: skip


def needs(*packages):
    for package in packages:
        pytest.importorskip(package, reason=f"datatrove's class needs {package}")


def documents(*texts, **columns):
    return make_batch(
        {"text": t, "source": "s", "domain": "web", "uri": f"https://a.b/{i}"}
        | {name: values[i] for name, values in columns.items()}
        for i, t in enumerate(texts)
    )


def check(step, batch):
    out = step(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns("reject").schema == batch.schema
    untouched = ["text", "metadata", "spans"]
    assert out.drop_columns(["reject", *untouched]) == batch.drop_columns(untouched)
    out.validate(full=True)
    return out


def test_a_filter_gives_its_own_verdict_and_reason():
    needs("spacy")
    step = DatatroveStep("GopherQualityFilter", {"min_doc_words": 30})
    texts = [PROSE, "Too short to be of use.", "# " * 60, PROSE.replace("the", "das"), "", "\n"]
    own = GopherQualityFilter(min_doc_words=30)
    verdicts = [own.filter(Document(text=t, id="x")) for t in texts]
    expected = [None if v is True else f"datatrove:GopherQualityFilter:{v[1]}" for v in verdicts]
    batch = documents(*texts)
    out = check(step, batch)
    assert out["reject"].to_pylist() == expected
    assert expected[0] is None and expected[1].endswith(":gopher_short_doc")
    assert out["text"] == batch["text"] and out["metadata"] == batch["metadata"]


def test_a_filter_may_edit_the_text_of_what_it_keeps():
    needs("spacy")
    text = "Home | Login\n" + PROSE + "\nThis site uses cookies to be of use to you.\nMenu"
    spans = [{"start": 0, "end": 4, "kind": "k", "path": None}]
    rejected = "Home\n{ curly } and more words here.\n"
    batch = documents(text, rejected, PROSE, spans=[spans, spans, spans])
    out = check(DatatroveStep("C4QualityFilter"), batch)
    document = Document(text=text, id="x")
    assert C4QualityFilter().filter(document) is True
    assert out["text"].to_pylist() == [document.text, rejected, PROSE] == [PROSE, rejected, PROSE]
    assert out["spans"].to_pylist() == [None, spans, spans]
    assert out["reject"].to_pylist() == [None, "datatrove:C4QualityFilter:curly_bracket", None]


def test_a_filter_that_gives_no_reason_has_dropped():
    out = check(
        DatatroveStep("RegexFilter", {"regex_exp": "fr[oa]g"}), documents("a frog", "a dog")
    )
    assert out["reject"].to_pylist() == ["datatrove:RegexFilter:dropped", None]


def test_a_reason_is_one_line():
    out = check(DatatroveStep("C4ParagraphFilter"), documents("one"))
    assert out["reject"].to_pylist() == ["datatrove:C4ParagraphFilter:< 3 paragraphs"]


def test_formatters_edit_and_never_reject():
    text = "Title\n=====\n***\nWords.\n"
    out = check(DatatroveStep("SymbolLinesFormatter", {"replace_char": "\n"}), documents(text, "a"))
    assert out["text"].to_pylist() == [SymbolLinesFormatter(replace_char="\n").format(text), "a"]
    assert out["reject"].null_count == 2
    needs("ftfy")
    out = check(DatatroveStep("FTFYFormatter"), documents("schÃ¶n", "plain"))
    assert out["text"].to_pylist() == ["schön", "plain"]


def test_what_replaces_by_turns_does_not_depend_on_the_documents_before():
    text = "a@b.org c@d.org e@f.org"
    step = DatatroveStep("PIIFormatter")
    once = check(step, documents("x", text))["text"][1]
    again = check(step, documents("one@two.org", text))["text"][1]
    assert once == again
    assert once.as_py() == PIIFormatter().format(text)


def test_extractors_take_the_text_out_of_html():
    needs("trafilatura")
    body = "".join(f"<p>{line}</p>" for line in PROSE.split("\n"))
    page = f"<html><body><nav><a href='/'>Home</a></nav><article>{body}</article></body></html>"
    step = DatatroveStep("Trafilatura", {"favour_precision": False})
    out = check(step, documents(page, "", "<html></html>", page))
    first, second, third, again = out["text"].to_pylist()
    assert first.split("\n") == PROSE.split("\n") and again == first
    assert (second, third) == ("", "<html></html>")
    reasons = out["reject"].to_pylist()
    assert reasons[0] is None and reasons[3] is None
    assert {reason.rsplit(":", 1)[0] for reason in reasons[1:3]} == {"datatrove:Trafilatura"}


class Annotate(BaseFilter):
    """A filter of datatrove's kind that writes metadata: of its own, those that do so download."""

    name = "annotate"

    def filter(self, doc):
        doc.metadata["seen"] = [doc.metadata.get("url"), doc.metadata.get("k")]
        doc.metadata["score"] = np.float32(0.5)
        return True


def test_metadata_goes_in_and_changes_come_back():
    rows = documents("x", "y", metadata=['{"k": "é"}', None], language=["eng_Latn", None])
    rows = rows.to_pylist()
    assert [_run("Annotate", Annotate(), "filters", row) for row in rows] == [None, None]
    assert [json.loads(row["metadata"]) for row in rows] == [
        {"k": "é", "seen": ["https://a.b/0", "é"], "score": 0.5},
        {"seen": ["https://a.b/1", None], "score": 0.5},
    ]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_downloads_takes_functions_or_draws_is_refused_with_the_reason(name):
    with pytest.raises(ValueError, match=f"datatrove's {name} is not used here: it .*; expected"):
        DatatroveStep(name)


def test_every_class_of_datatrove_is_known_or_refused():
    assert REFUSED.keys() < known_classes().keys()
    assert {"GopherRepetitionFilter", "FineWebQualityFilter"} < known_classes().keys()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("os.system", {}, "datatrove's os.system is not known; expected one of C4ParagraphFilter"),
        ("BaseFilter", {}, "datatrove's BaseFilter is not known"),
        ("RegexFilter", {}, "datatrove's RegexFilter cannot be used: .*regex_exp"),
        ("RegexFilter", {"regex_exp": "("}, "datatrove's RegexFilter cannot be used: "),
        ("RegexFilter", {"pattern": "x"}, "no argument 'pattern' here, expected one of regex_exp"),
        ("RegexFilter", {"regex_exp": {1}}, "RegexFilter: arguments: expected what JSON holds"),
        ("C4QualityFilter", {"exclusion_writer": 1}, "has no argument 'exclusion_writer' here"),
        ("Trafilatura", {"timeout": 3}, "has no argument 'timeout' here"),
        ("Trafilatura", {"deduplicate": True}, "deduplicate drops what earlier documents"),
        ("GopherQualityFilter", {"language": "xx_unknown"}, "GopherQualityFilter cannot be used: "),
    ],
)
def test_what_cannot_be_made_is_refused_before_a_run(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        DatatroveStep(name, arguments)


def test_a_list_in_a_recipe_is_what_datatrove_wants():
    needs("spacy")
    step = DatatroveStep("FineWebQualityFilter", {"stop_chars": [".", "!"]})
    assert check(step, documents(PROSE))["reject"].to_pylist() == [None]


def test_the_fingerprint_has_the_versions_that_verdicts_depend_on():
    said = DatatroveStep("RegexFilter", {"regex_exp": "x"}).fingerprint()
    assert said.startswith(f"datatrove {version('datatrove')} spacy ")


def test_a_failing_filter_names_the_document():
    batch = documents("fine", "***")
    step = DatatroveStep("SymbolLinesFormatter", {"replace_char": 1})
    message = f"document {batch['id'][1]}: datatrove's SymbolLinesFormatter failed: TypeError"
    with pytest.raises(RuntimeError, match=message):
        step(batch)


def test_real_documents_get_the_verdicts_of_the_library():
    path = DATA / "multilingual" / "train-00000-of-00004.parquet"
    if not path.exists():
        pytest.skip(f"no {path}")
    needs("spacy")
    table = pq.read_table(path, columns=["text", "language"])
    rows = zip(table["text"].to_pylist(), table["language"].to_pylist(), strict=True)
    texts = [text[:4000] for text, language in rows if language == "eng_Latn"][:60]
    own = GopherQualityFilter()
    verdicts = [own.filter(Document(text=t, id="x")) for t in texts]
    reasons = DatatroveStep("GopherQualityFilter")(documents(*texts))["reject"].to_pylist()
    assert reasons == [
        None if v is True else f"datatrove:GopherQualityFilter:{v[1]}" for v in verdicts
    ]
    assert 0 < reasons.count(None) < 60
