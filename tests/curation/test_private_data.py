"""Private data: the native search against its twin, what is and is not found, and the step."""

import json
import random
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.formatters import PIIFormatter
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import _native
from curation.document import SCHEMA, make_batch
from curation.private_data import KINDS, PrivateDataFilter

sys.path.insert(0, str(Path(__file__).parent))
import private_data_twin as twin

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
NUMBERS = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9])")
BODY = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7"  # no key of anyone


def search(text, kinds=KINDS, public=True):
    """What the native search finds: (text found, kind)."""
    wanted = sum(1 << KINDS.index(kind) for kind in kinds)
    found = _native.find_private(pa.array([text], pa.large_string()), wanted, public)
    data = text.encode()
    return [
        (data[start:end].decode(), KINDS[kind])
        for _, start, end, kind in zip(*(column.tolist() for column in found), strict=True)
    ]


def step(*texts, settings=None, **columns):
    batch = make_batch(
        {"text": t, "source": "s", "domain": "web", "uri": str(i)}
        | {name: values[i] for name, values in columns.items()}
        for i, t in enumerate(texts)
    )
    out = PrivateDataFilter(**(settings or {}))(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    assert out.drop_columns("reject").schema == batch.schema
    out.validate(full=True)
    return out


FOUND = {
    "email": [
        "john.doe@gmail.com", "a_b-c+tag@mail.co.uk", "x@y-z.museum", "9@9.org", "josé@correo.es",
        "Éric.Dupont@orange.fr",
    ],
    "ipv4": ["81.2.69.142", "1.0.0.200", "223.255.255.1"],
    "ipv6": [
        "2001:4860:4860::8888", "2a00:1450:4001:082b:0000:0000:0000:200e", "2606:4700:0:0::1",
        "2001:67C:2564::",
    ],
    "phone": [
        "+1 415 555 2671", "+14155552671", "+49 (0)30 1234 5678", "+44 20 7946 0958",
        "+86-138-0013-8000", "+420 123 456 789", "(212) 555-1234", "(212)555-1234", "212-555-1234",
        "212.555.1234", "03-1234-5678", "090-1234-5678", "010-12345678",
    ],
    "key": [
        "AKIA" + "ABCD2345" * 2, "AIza" + "aB3-_" * 7, f"ghp_{BODY}{BODY[:9]}",
        f"github_pat_{BODY}_{BODY}", f"glpat-{BODY}", f"xoxb-12345-{BODY}", f"sk_live_{BODY}",
        f"sk-{BODY}", f"sk-proj-{BODY}", f"sk-ant-api03-{BODY}", f"hf_{BODY}{BODY[:7]}",
        f"npm_{BODY}{BODY[:9]}", f"eyJ{BODY}.eyJ{BODY}.{BODY}", f"SG.{BODY[:22]}.{BODY}{BODY[:16]}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n{BODY}==\n-----END RSA PRIVATE KEY-----",
    ],
    "card": [
        "4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "5555 5555 5555 4444",
        "3782 822463 10005", "378282246310005", "6011000990139424", "2223003122003222",
        "30569309025904", "3530111333300000",
    ],
    "iban": [
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32",
        "NO93 8601 1117 947", "MT84MALT011000012345MTLCAST001S",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, vs in FOUND.items() for v in vs])
def test_it_is_found_as_it_stands_in_sentences(kind, value):
    frames = ("{}", "Write to {}.", "<b>{}</b>", "“{}”, or else", "见{}。", "x: {}\nnext", "({})")
    for frame in frames:
        if frame == "({})" and value.startswith("("):
            continue
        assert search(frame.format(value)) == [(value, kind)], frame


@pytest.mark.parametrize(
    "text",
    [
        # Versions, sections, requirements, user agents, drawings, networks that are nobody's.
        "version 81.2.69.142, v81.2.69.142, AssemblyVersion(\"81.2.69.142\")", "See 12.6.2.2. Then",
        "pkg==81.2.69.142 pkg >= 81.2.69.142", "Chrome/81.2.69.142", "a-81.2.69.142.zip",
        "1.81.2.69.142", "81.2.69.142.5", "81.2.69.256", "081.2.69.142", "81.2.69.142-.5",
        "0 1 1.87.4 1.94.56.7 1.8",
        "127.0.0.1 10.20.30.40 192.168.100.200 255.255.255.0 192.0.2.55 224.0.0.251 172.20.1.99",
        "std::vector abc::def 2023:10:11 2001:db8::1 20:01:02:03:04:05 fe80::1:2 12:34:56",
        # Dates, prices, ISBNs, ranges, tables, numbers of machines.
        "2024-01-02 01-02-2003 01.02.2003 2012-2013", "ISBN 978-0-306-40615-7, 0-306-40615-2",
        "+250 000 000 and +2147483647 and +3.14159265358 and 1e+1234567890 and +0530",
        "+922337203685477,5808 +922337203685477.5808", "$1,234,567.89",
        "fax 12.05.2020 tel 2012-2013 iPhone 6 12345678",
        "hotel 1234567 hôtel 1234567 telescope 1234567", "00 01 02 03 04 05 06 07",
        "123-456-7890 212-155-1234 x212-555-1234 212-555-12345 1212-555-1234 212-555.1234",
        # Numbers with a wrong checksum, or that go on.
        "4111 1111 1111 1112", "4111 1111 1111 1116",
        "41111111111111111", "0.4111111111111111", "9 4111 1111 1111 1111",
        "1234567890123456", "DE89370400440532013001", "XX89370400440532013000",
        "DE89 3704 0044 0532 0130 0", "aDE89370400440532013000",
        # Things with an @ that are no addresses, or addresses that are reserved.
        "react@16.8.0 icon@2x.png x@w.transpose(1) git@github.com:a/b.git @app.route a@b a@b.c",
        "name@example.com me@mail.example.org a@b.invalid chacha20-poly1305@openssh.com a.@b.com",
        "content@entry.10.content.1",
        # Names and words where a key could be.
        "sk-fading-circle-of-many-dots hf_" + "a" * 29 + " my_ghp_" + BODY * 2,
        "password = \"your_password\" password = 'changeme' token = \"{{ token123456 }}\"",
        "password: str, token = get_token(\"abc12345\"), if password == \"hunter2X9\":",
        "secret=\"${SECRET_123}\" pwd = \"<password1>\" publicKeyToken=\"1fc8b3b9a1e18e3b\"",
        "API_TOKEN=abcdefghijklmnopqrst api_token=" + BODY,
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN CERTIFICATE-----\n{BODY * 3}\n-----END CERTIFICATE-----",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_left(text):
    assert search(text) == []


def test_any_grouping_is_a_telephone_after_a_word_for_one():
    for cue in ("Tel. ", "Phone: ", "fax ", "电话：", "手机 ", "тел. ", "Téléphone : "):
        assert search(f"{cue}030 123 45 67, 12") == [("030 123 45 67", "phone")], cue
        assert search(f"{cue}13800138000") == [("13800138000", "phone")], cue
    assert search("030 123 45 67 13800138000") == []


def test_a_secret_is_the_value_and_not_the_name():
    for text in (
        'password = "hunter2X9"', "db_password='hunter2X9'", '"apiKey": "hunter2X9"',
        "{'client_secret' => 'hunter2X9'}", 'token := "hunter2X9"',
    ):  # fmt: skip
        assert search(text) == [("hunter2X9", "key")], text
    assert search(f"# keys\nAWS_SECRET_ACCESS_KEY={BODY}\n") == [(BODY, "key")]
    assert search('pwd = "abcd1234", pwd = "abcd1233"') == [("abcd1234", "key")]  # 3 bits a byte
    assert search(f"export API_TOKEN={BODY}") == [(BODY, "key")]


def test_addresses_that_are_not_public_are_found_when_asked_for():
    text = "10.20.30.40, fd00:1:2::3 and fe80::1:2 but not 12.6.2.2"
    found = search(text, public=False)
    assert found == [("10.20.30.40", "ipv4"), ("fd00:1:2::3", "ipv6"), ("fe80::1:2", "ipv6")]


MARKS = [
    "@", ".", "..", "-", "--", "+", "_", ":", "::", "=", "==", "=>", ":=", " ", "  ", "\n", "\t",
    "(", ")", ",", "'", '"', "/", "0", "1", "4", "12", "200", "555", "2024", "0123", "a", "Z", "v",
    "é", "漢", "：", "\x00", "😀", "tel", "Tel. ", "Fax: ", "电话", "тел", "тел: ", "version ",
    "git@", "a@", "com", ".com", ".example.com", ".png", "password", "API_TOKEN", "secret = ",
    "sk-", "eyJ", "SG.", "ghp_", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
    "GB82", "2001:", "fd00:", BODY, "hunter2X9",
]  # fmt: skip
VALUES = [value for values in FOUND.values() for value in values]


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(MARKS + VALUES),
            st.text("0123456789+-. ()", max_size=6),
            st.text("aA1@.:-_=/", max_size=4),
        ),
        max_size=10,
    ).map("".join),
    st.booleans(),
    st.sets(st.sampled_from(KINDS), min_size=1).map(sorted),
)
def test_the_native_search_is_its_twin(text, public, kinds):
    for wanted in (KINDS, kinds):
        expected = [(text[s:e], kind) for s, e, kind in twin.find(text, wanted, public)]
        assert search(text, wanted, public) == expected


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_the_native_search_is_its_twin_on_what_is_nearly_private(data):
    value = data.draw(st.sampled_from(VALUES))
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(value)))
        cut = data.draw(st.integers(0, 2))
        value = value[:at] + data.draw(st.sampled_from([*MARKS, ""])) + value[at + cut :]
    text = data.draw(st.sampled_from(MARKS)) + value
    assert search(text) == [(text[s:e], kind) for s, e, kind in twin.find(text)]


def test_the_native_search_is_its_twin_on_real_texts():
    path = DATA / "multilingual" / "train-00001-of-00004.parquet"
    if not path.exists():
        pytest.skip(f"no {path}")
    texts = [t for t in pq.read_table(path, columns=["text"])["text"].to_pylist() if "@" in t]
    seen = 0
    for text in random.Random(3).sample(texts, 50):
        for at in range(0, min(len(text), 12_000), 3000):
            part = text[at : at + 3000]
            expected = [(part[s:e], kind) for s, e, kind in twin.find(part)]
            assert search(part) == expected
            seen += len(expected)
    assert seen > 30


def test_it_is_what_datatrove_finds_but_for_versions_and_reserved_names():
    path = DATA / "multilingual" / "train-00000-of-00004.parquet"
    if not path.exists():
        pytest.skip(f"no {path}")
    peer = PIIFormatter()
    agreed, theirs = 0, []
    for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
        if "@" not in text:
            continue
        hosts = {value.rpartition("@")[2] for value, _ in search(text, ["email"])}
        for host in (m[0].rpartition("@")[2] for m in peer.emails_replacer.regex.finditer(text)):
            # Where theirs goes on, as in lists.debian.org-listen, it is the same address.
            if any(host.startswith(own) for own in hosts):
                agreed += 1
            else:
                theirs.append(host)
        numbers = {value for value, _ in search(text, ["ipv4"])}
        for m in filter(lambda m: peer.ip_replacer.validator(m[0]), NUMBERS.finditer(text)):
            parts = [int(part) for part in m[0].split(".")]
            if m[0] in numbers:
                agreed += 1
            elif max(parts) >= 32 and parts[0] < 224:  # else a section, or multicast
                theirs.append(m[0])
    named = re.compile(r"(.*\.)?(example(\.com|\.org|\.net|\.edu)?|openssh\.com)|[0-9.]+", re.I)
    assert [value for value in theirs if not named.fullmatch(value)] == []
    assert agreed > 1500 and len(theirs) < 150


def test_hostile_text_is_searched_in_linear_time():
    # Not timed: where a rule looks at all that is left from each place, this takes minutes.
    for part in (
        "a@", "sk-", "1.", "+1", "eyJaaaaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "::", "2001:",
        "password='", "Tel: 1 ", "4111 ", "secret=\"secret='", "0123-", "_", "-", "eyJaaaaaaaaaaa",
    ):  # fmt: skip
        assert search(part * (4_000_000 // len(part))) == []


def test_the_step_masks_counts_and_keeps_the_rest():
    text = "Ask john@gmail.com or 邮箱foo@bar.cn at 81.2.69.142."
    out = step(text, "nothing here", text, metadata=['{"a": 1}', None, None])
    assert out["text"].to_pylist() == [
        masked := "Ask name@example.com or 邮箱name@example.com at 192.0.2.1.",
        "nothing here",
        masked,
    ]
    counts = {"private_data": {"email": 2, "ipv4": 1}}
    metadata = [m and json.loads(m) for m in out["metadata"].to_pylist()]
    assert metadata == [{"a": 1} | counts, None, counts]
    assert out["reject"].null_count == 3
    again = PrivateDataFilter()(out.drop_columns("reject"))
    assert again.equals(out)  # the placeholders are nobody's


def test_every_placeholder_is_left_when_masking_again():
    text = " / ".join(v for values in FOUND.values() for v in values)
    masked = step(text)["text"][0].as_py()
    assert search(masked) == []
    assert masked.count("@example.com") == len(FOUND["email"])


def test_a_recipe_chooses_the_text_for_each_kind_or_leaves_it():
    settings = {"email": "<EMAIL>", "ipv4": None, "phone": ""}
    out = step("a@b.org 81.2.69.142 +14155552671!", settings=settings)
    assert out["text"][0].as_py() == "<EMAIL> 81.2.69.142 !"


def test_documents_with_too_many_are_rejected_when_a_limit_is_set():
    out = step("a@b.org", "a@b.org c@d.org", "", settings={"max_found": 1})
    assert out["reject"].to_pylist() == [None, "private_data:too_many", None]


def test_spans_move_with_the_text_and_take_in_a_replaced_place_whole():
    text = "é a@b.org tail 81.2.69.142."
    bounds = [(0, 2), (3, 10), (5, 6), (3, 3), (10, 15), (0, len(text.encode())), (18, 27)]
    spans = [{"start": s, "end": e, "kind": "k", "path": "p"} for s, e in bounds]
    out = step(text, "plain", spans=[spans, None])
    masked = out["text"][0].as_py().encode()
    inside = [masked[s["start"] : s["end"]].decode() for s in out["spans"][0].as_py()]
    email, address = "name@example.com", "192.0.2.1"
    assert inside == ["é", email, email, "", " tail", masked.decode(), address]
    assert out["spans"][1].as_py() is None
    assert {s["path"] for s in out["spans"][0].as_py()} == {"p"}


def test_messages_are_masked_and_counted_too():
    talk = [
        {"role": "user", "content": "I am a@b.org"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": None},
    ]
    out = step("x", "y", "z", messages=[None, talk, []])
    assert out["messages"].to_pylist() == [
        None,
        [{"role": "user", "content": "I am name@example.com"}, *talk[1:]],
        [],
    ]
    assert out["metadata"].to_pylist() == [None, '{"private_data": {"email": 1}}', None]
    sliced = PrivateDataFilter()(out.drop_columns("reject").slice(1, 1))
    assert sliced["messages"].to_pylist() == out["messages"].to_pylist()[1:2]


def test_a_batch_that_is_part_of_another_is_masked_alike():
    texts = ["a@b.org", "plain", "x c@d.org", ""]
    whole = make_batch({"text": t, "source": "s", "domain": "web"} for t in texts)
    filtered = PrivateDataFilter()
    assert filtered(whole.slice(1, 3)).equals(filtered(whole).slice(1, 3))
    assert filtered(whole.slice(0, 0)).num_rows == 0


def test_metadata_that_is_no_object_is_named():
    with pytest.raises(
        ValueError, match=r"document [0-9a-f]{32}: metadata: expected a JSON object"
    ):
        step("a@b.org", metadata=["[1]"])
