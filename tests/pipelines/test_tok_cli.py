"""`gristmill tok compare` and `inspect`, as a person runs them."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

from pipelines.cli import main
from pipelines.files import write_json
from tok import Encoder, count_words, export_tokenizer, train_tokenizer, weigh

ENGLISH = [text for _, text in sorted(topics.items())][:6]
LINES = {
    "eng_Latn": ["All human beings are born free.", "They don't know.", "And so?"],
    "deu_Latn": ["Alle Menschen sind frei geboren.", "Sie wissen's nicht.", "Na und?"],
    "tha_Thai": ["มนุษย์ทั้งปวงเกิดมามีอิสระ", "พวกเขาไม่รู้ว่ามัน", "แล้วไง?"],
}


def run(folder, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=200,
        env=os.environ | {"COLUMNS": "300", "GRISTMILL_TRACEBACK": ""},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tokenizers, a table of counts, parallel text, and documents with domains."""
    folder = tmp_path_factory.mktemp("tok")
    counts = count_words(ENGLISH, ["web/eng"] * len(ENGLISH), "multilingual")
    pq.write_table(counts, folder / "counts.parquet")
    for size in (300, 600):
        export_tokenizer(train_tokenizer(weigh(counts), size, "multilingual"), folder / f"v{size}")
    rows = [
        {"text": text, "language": language, "line": i, "half": "ab"[i % 2]}
        for language, texts in LINES.items()
        for i, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "parallel.parquet")
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as file:
        for domain, language, text in (
            ("web", "eng_Latn", ENGLISH[0]), ("web", "deu_Latn", "Na und?"),
            ("code", "python", "def f(x):\n    return x\n"),
        ):  # fmt: skip
            row = {"text": text, "language": language, "domain": domain}
            file.write(json.dumps(row) + "\n")
    return folder


def test_comparing_writes_the_same_numbers_everywhere(folder, tmp_path):
    out, _ = run(
        folder, "compare", "v300", "big=v600/tokenizer.json", "--text", "parallel.parquet",
        "--json", tmp_path / "c.json", "--html", tmp_path / "c.html",
    )  # fmt: skip
    result = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert list(result["tokenizers"]) == ["v300", "big"]
    assert result["text"]["reference"] == "eng_Latn" and result["text"]["premium_by"] == "lines"
    page = (tmp_path / "c.html").read_text("utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    for name, path in (("v300", "v300"), ("big", "v600")):
        encoder = Encoder.load(folder / path)
        tokens = {
            language: sum(len(encoder.encode(text)) for text in texts)
            for language, texts in LINES.items()
        }
        made = result["tokenizers"][name]
        for language, number in tokens.items():
            kind = made["by"]["language"][language]
            size = len("".join(LINES[language]).encode())
            assert kind["tokens"] == number
            assert kind["bytes_per_token"] == pytest.approx(size / number)
            assert kind["premium"] == pytest.approx(number / tokens["eng_Latn"])
            for shown in (f"{size / number:.3f}", f"{number / tokens['eng_Latn']:.2f}"):
                assert shown in out and shown in page
        assert made["by"]["language"]["tha_Thai"]["words_are_letters"]
    assert "tokens over eng_Latn tokens for the same lines" in out


def test_kinds_are_told_apart_by_domain_and_by_columns_that_are_named(folder, tmp_path):
    out, _ = run(
        folder, "compare", "v300", "--text", "documents.jsonl", "--text", "parallel.parquet",
        "--group", "half", "--json", tmp_path / "c.json",
    )  # fmt: skip
    by = json.loads((tmp_path / "c.json").read_text("utf-8"))["tokenizers"]["v300"]["by"]
    assert {k: v["documents"] for k, v in by["domain"].items()} == {
        "web": 2, "code": 1, "unknown": 9
    }  # fmt: skip
    assert {k: v["documents"] for k, v in by["half"].items()} == {"a": 6, "b": 3, "unknown": 3}
    for kinds in by.values():
        total = sum(kind["tokens"] for kind in kinds.values())
        assert total == sum(kind["tokens"] for kind in by["language"].values())
    assert "by domain" in out and "by half" in out and "the text is not parallel" in out


def test_a_choice_of_lines_and_another_reference(folder, tmp_path):
    run(
        folder, "compare", "v300", "--text", "parallel.parquet", "--lines", "1-2",
        "--limit", "1", "--reference", "deu_Latn", "--json", tmp_path / "c.json",
    )  # fmt: skip
    result = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert result["text"]["documents"] == 3 and result["text"]["lines"] == [1, 2]
    by = result["tokenizers"]["v300"]["by"]["language"]
    assert by["deu_Latn"]["premium"] == 1
    assert by["tha_Thai"]["bytes"] == len(LINES["tha_Thai"][1].encode())


def test_few_rows_are_printed_unless_all_are_asked_for(folder, tmp_path):
    rows = [{"text": "a b " * (i + 1), "language": f"l{i:02}"} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "many.parquet")
    out, err = run(folder, "compare", "v300", "--text", tmp_path / "many.parquet")
    assert "25 more: --all" in out and "no English in the text" in err
    out, _ = run(folder, "compare", "v300", "--text", tmp_path / "many.parquet", "--all")
    assert "more: --all" not in out and all(f"l{i:02}" in out for i in range(40))


def test_tokenizers_of_one_name_get_different_ones(folder, tmp_path):
    run(
        folder, "compare", "v300", "v300/tokenizer.json", folder / "v600",
        "--text", "parallel.parquet", "--json", tmp_path / "c.json",
    )  # fmt: skip
    result = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert list(result["tokenizers"]) == ["v300", "v300-2", "v600"]


def test_the_tokens_of_a_text_are_shown_with_their_ids(folder, tmp_path):
    text = "def f(x):\n\treturn  中\x1b[31m"
    out, _ = run(folder, "inspect", "v600", "--text", text, "--json", tmp_path / "i.json")
    encoder = Encoder.load(folder / "v600")
    ids = encoder.encode(text)
    tokens = json.loads((tmp_path / "i.json").read_text("utf-8"))["text"]["tokens"]
    assert [token["id"] for token in tokens] == ids
    assert b"".join(bytes.fromhex(token["hex"]) for token in tokens) == text.encode()
    shown = out.splitlines()
    below = [int(number) for line in shown[1:-1:2] for number in line.split()]
    assert below == ids
    assert "\x1b" not in out and "\\x1b" in out and "\\xe4" in out and "⏎" in out
    assert f"{len(ids)} tokens, {len(text.encode())} bytes" in shown[-1]
    (tmp_path / "t.txt").write_text(text, "utf-8", newline="")
    assert run(folder, "inspect", "v600", "--file", tmp_path / "t.txt")[0] == out


def test_a_long_text_is_shown_in_part_unless_all_of_it_is_asked_for(folder, tmp_path):
    (tmp_path / "t.txt").write_text("1 " * 2000)
    few, _ = run(folder, "inspect", "v300", "--file", tmp_path / "t.txt")
    everything, _ = run(folder, "inspect", "v300", "--file", tmp_path / "t.txt", "--all")
    assert "more tokens: --all" in few and "more tokens" not in everything
    assert few.splitlines()[-1] == everything.splitlines()[-1]


def test_a_vocabulary_with_counts_lists_what_was_hardly_trained(folder, tmp_path):
    out, _ = run(
        folder, "inspect", "v600", "--counts", "counts.parquet", "--json", tmp_path / "i.json",
        "--table", tmp_path / "tokens.parquet",
    )  # fmt: skip
    encoder = Encoder.load(folder / "v600")
    expected = Counter(i for text in ENGLISH for i in encoder.encode(text))
    table = pq.read_table(tmp_path / "tokens.parquet").to_pylist()
    assert {row["id"]: row["count"] for row in table if row["count"]} == expected
    summary = json.loads((tmp_path / "i.json").read_text("utf-8"))["vocabulary"]
    assert summary["tokens"] == encoder.vocab_size == len(table)
    assert summary["count"] == sum(expected.values())
    assert f"{summary['never_counted']:,} tokens never occurred" in out
    assert [token["id"] for token in summary["special"]] == [
        row["id"] for row in table if row["special"]
    ]
    assert "13 tokens that no text becomes: no UTF-8 has its bytes" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "v300", "--text", "missing"), "missing: no such file or folder"),
        (("compare", "nowhere", "--text", "parallel.parquet"), "nowhere"),
        (("compare", "bad.json", "--text", "parallel.parquet"), "bad.json: no key 'model'"),
        (("compare", "v300", "--text", "counts.parquet"), "no column 'text'"),
        (("compare", "v300", "--text", "empty.txt"), "empty.txt: the text is empty"),
        (("compare", "v300", "--text", "parallel.parquet", "--reference", "en"), "called eng_Latn"),
        (("compare", "v300", "--text", "parallel.parquet", "--group", "x"), "--group x: "),
        (("compare", "v300", "--text", "documents.jsonl", "--group", "x"), "no document has a"),
        (("compare", "v300", "--text", "parallel.parquet", "--group", "text"), "--group text: "),
        (("compare", "v300", "--text", "plain.parquet", "--reference", "e"), "has a `language`"),
        (("compare", "v300", "--text", "parallel.parquet", "--lines", "9"), "expected FIRST-LAST"),
        (("compare", "v300", "--text", "parallel.parquet", "--lines", "8-9"), "check --text, --l"),
        (("compare", "a=v300", "a=v600", "--text", "parallel.parquet"), "need two names"),
        (("inspect", "nowhere"), "nowhere"),
        (("inspect", "bad.json"), "bad.json: no key 'model'"),
        (("inspect", "v300", "--text", ""), "--text: empty"),
        (("inspect", "v300", "--text", "a", "--file", "empty.txt"), "give one of them"),
        (("inspect", "v300", "--file", "missing.txt"), "missing.txt: no such file"),
        (("inspect", "v300", "--file", "latin.txt"), "latin.txt: no UTF-8 at byte 1"),
        (("inspect", "v300", "--counts", "parallel.parquet"), "no column 'word'"),
        (("inspect", "v300", "--counts", "empty.txt"), "empty.txt: "),
        (("compare", "v300", "parallel.parquet", "--text", "plain.parquet"), "give --text before"),
        (("compare", "v300", "--text", "plain.parquet", "--json", "v300"), "v300: is a folder"),
        (("compare", "v300", "--text", "plain.parquet", "--html", "plain.parquet"), "is read from"),
        (("compare", "v300", "--text", "plain.parquet", "--json", ""), "expected the name of a"),
        (("compare", "v300", "--text", "twice.parquet"), "has several columns 'text'"),
        (("compare", "v300", "--text", "deep.jsonl"), "deep.jsonl, line 1: no JSON"),
        (("compare", "=v300", "--text", "plain.parquet"), "expected name=path"),
        (("compare", "unknown.json", "--text", "plain.parquet"), "`tokenizers` cannot encode with"),
        (("compare", "none.json", "--text", "plain.parquet"), "has ids up to -1"),
        (("inspect", "huge.json"), "has ids up to 2,147,483,647"),
        (("inspect", "unknown.json"), "its model is WordPiece"),
        (("inspect", "v300", "--table", "plain.parquet/t"), "plain.parquet is no folder"),
        (("inspect", "a\x1b[31mb"), "a\ufffd[31mb: no such file"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    folder, monkeypatch, capsys, arguments, message
):
    (folder / "bad.json").write_text('{"version": "1.0"}')
    (folder / "empty.txt").write_bytes(b"")
    pq.write_table(pa.table({"text": ["a b"]}), folder / "plain.parquet")
    (folder / "latin.txt").write_bytes(b"a\xe9")
    pq.write_table(pa.table([["a"], ["b"]], ["text", "text"]), folder / "twice.parquet")
    (folder / "deep.jsonl").write_text("[" * 100_000 + "\n")
    Tokenizer(models.WordPiece({"a": 0}, unk_token="?")).save(str(folder / "unknown.json"))
    Tokenizer(models.BPE()).save(str(folder / "none.json"))
    huge = {"type": "WordLevel", "vocab": {"a": 2**31 - 1}, "unk_token": "a"}
    (folder / "huge.json").write_text(json.dumps({"model": huge}))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["gristmill", "tok", *arguments])
    monkeypatch.delenv("GRISTMILL_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as left:
        main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert left.value.code == 1 and last.startswith("error: ") and message in last


def test_plain_text_without_a_domain_can_be_compared_on(folder, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("a b \0 c " * 20)
    out = tmp_path / "p.html"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "tok", "compare", folder / "v300", "--text",
         tmp_path, "--html", out, "--json", "/dev/stdout"],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr
    said, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert list(said["tokenizers"]["v300"]["by"]) == ["language"] and out.exists()
    assert Path("/dev/stdout").is_symlink()


def test_devices_and_links_are_written_to_and_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to("linked")
    write_json(tmp_path / "link", [1])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "linked").is_file()
    os.mkfifo(tmp_path / "pipe")
    read = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_json(tmp_path / "pipe", [1])
    assert os.read(read, 100) == b"[\n  1\n]\n" and (tmp_path / "pipe").is_fifo()
    os.close(read)


def test_the_command_line_starts_without_loading_what_it_may_not_need(folder):
    heavy = ("pyarrow", "torch", "numpy", "plotly", "tokenizers")
    asked = f"import sys, pipelines.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
