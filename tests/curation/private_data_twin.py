"""The slow, clear twin of `curation/native/private_data.hpp`: each rule as a regular expression.

Every rule gives all its matches, whatever the others find; `find` lets the one that begins first
stay, then the longer, then the kind that comes first. Offsets are in code points. `ipaddress` is
asked where it knows, so that the two sides share no arithmetic.
"""

import ipaddress
import math
import re
from collections import Counter

KINDS = ("email", "ipv4", "ipv6", "phone", "key", "card", "iban")

IBAN = dict(
    re.findall(
        "([A-Z]{2})([0-9]{2})",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29ES24FI18"
        "FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20"
        "LU20LV21LY25MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SD18"
        "SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20",
    )
)


def at_every_place(pattern, text):
    """Matches from every place of the text, also those that overlap one before."""
    compiled = re.compile(pattern, re.ASCII)
    return filter(None, (compiled.match(text, i) for i in range(len(text))))


def emails(text, public):
    for at in (m.start() for m in re.finditer("@", text)):
        run = re.search(r"[0-9A-Za-z_.+\-À-ɏ]*\Z", text[:at])[0]
        local = run.split("..")[-1].lstrip(".+-")
        if len(run.encode()) > 64 or not local or local.endswith(".") or local == "git":
            continue
        host = re.match(r"[0-9A-Za-z.-]*", text[at + 1 :])[0]
        label = "[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?"
        ends = [
            m.end(1)
            for m in at_every_place(r"(?<![0-9A-Za-z-])([A-Za-z]{2,24})(?=\.|-|\Z)", host)
            if re.fullmatch(rf"(?:{label}\.)+", host[: m.start()])
        ]
        if not ends or len(host) > 254:
            continue
        domain, after = host[: ends[-1]], text[at + 1 + ends[-1] :]
        top = domain.rpartition(".")[2].lower()
        if re.match(r"\(|\.[0-9]", after):
            continue
        if re.fullmatch("png|jpe?g|gif|svg|webp|css|js|html|example|invalid|test|localhost", top):
            continue
        if re.search(r"(\A|\.)(example\.(com|org|net|edu)|openssh\.com)\Z", domain.lower()):
            continue
        yield at - len(local), at + 1 + len(domain)


NOT_PUBLIC = list(
    map(
        ipaddress.ip_network,
        ["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
         "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
         "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "2001:db8::/32", "3fff::/20"],
    )
)  # fmt: skip


def ipv4s(text, public):
    for m in at_every_place(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9A-Za-z])", text):
        before, after = text[: m.start()], text[m.end() :]
        try:
            address = ipaddress.IPv4Address(m[0])
        except ValueError:
            continue
        version = r"(\A|[^A-Za-z])(v|ver|release|rev|build|section)\Z|version\Z"
        words = re.sub(r"[ :=\"'(.]{1,3}\Z", "", before[-40:])
        if (
            max(address.packed) < 32
            or (max(address.packed) < 100 and re.search("[0-9] \\Z", before))
            or re.search(r"[A-Za-z]-\Z|[0-9A-Za-z]/\Z|[=<>~!]= ?\Z", before, re.ASCII)
            or re.match(r"-[A-Za-z.]", after)
            or re.search(version, words, re.ASCII | re.IGNORECASE)
            or (public and any(address in net for net in NOT_PUBLIC if net.version == 4))
        ):
            continue
        yield m.span()


def ipv6s(text, public):
    for m in at_every_place(r"(?<![\w.:-])[0-9A-Fa-f]{4}:[0-9A-Fa-f:]*", text):
        found = m[0][:-1] if re.search("[^:]:$", m[0]) else m[0]
        if re.match(r"\w", text[m.start() + len(found) :], re.ASCII):
            continue
        try:
            address = ipaddress.IPv6Address(found)
        except ValueError:
            continue
        if len(re.findall("[0-9A-Fa-f]+", found)) < 3:
            continue
        if public and any(address in net for net in NOT_PUBLIC if net.version == 6):
            continue
        other = [ipaddress.ip_network(n) for n in ("fc00::/7", "fe80::/10")]
        if address in ipaddress.ip_network("2000::/3") or (
            not public and any(address in net for net in other)
        ):
            yield m.start(), m.start() + len(found)


JOINT = re.compile(r"(?:\)[ .-]?|[ .-]?\(|[ .-])(?=[0-9])")
END = r"(?!\w|,[0-9])"  # of a telephone number in groups
LEFT = r"(?<![\w.\-+/=&%#])"
RIGHT = r"(?!\w|[.-][0-9])"


def prefixes(text, begin):
    """What a number in groups of digits may be cut to, at most 15 digits: (end, groups)."""
    groups, i = [], begin
    while True:
        groups.append(re.match("[0-9]+", text[i:])[0])
        i += len(groups[-1])
        if sum(map(len, groups)) > 15:
            return
        if re.match(END, text[i:], re.ASCII):
            yield i, list(groups)
        joint = JOINT.match(text, i)
        if not joint:
            return
        i = joint.end()


def phones(text, public):
    for m in at_every_place(r"(?<![\w+])\+(?=[1-9])", text):
        good = []
        for end, groups in prefixes(text, m.end()):
            digits = "".join(groups)
            thousands = len(groups[0]) <= 3 and all(len(g) == 3 for g in groups[1:])
            bounds = ("2147483647", "2147483648", "4294967295", "4294967296")
            if not (
                len(digits) < 9
                or (digits[0] in "17" and len(digits) != 11)
                or (thousands and len(digits) == 9)
                or (len(groups) == 1 and (len(digits) < 10 or digits in bounds))
                or (len(groups) <= 2 and re.match("[.][0-9]", text[m.end() + len(groups[0]) :]))
            ):
                good.append(end)
        if good:
            yield m.start(), good[-1]
    words = "tel|phone|telephone|fax|mobile|telefax|whatsapp|telefon|telefono|telefone"
    accented = "[тТ]ел(ефон)?|[tT]él(éphone)?|[tT]eléfono"
    cue = rf"((?<![A-Za-z\x80-\U0010ffff])((?i:{words})|{accented})|电话|電話|手机|手機|传真|傳真)"
    for m in re.finditer("(?<![0-9])[0-9]+", text):
        before = text[max(0, m.start() - 20) : m.start()]
        if not re.search(cue + "[ :.#(：]{1,4}\\Z", before, re.ASCII):
            continue
        good = []
        for end, groups in prefixes(text, m.start()):
            sizes = [len(g) for g in groups]
            year = [g[:2] in ("19", "20") for g in groups]
            date = (
                (sizes == [4, 4] and all(year))
                or (len(sizes) == 3 and max(sizes[:2]) <= 2 and sizes[2] == 4)
                or (len(sizes) == 3 and sizes[0] == 4 and max(sizes[1:]) <= 2)
            )
            if sum(sizes) >= 7 and not date:
                good.append(end)
        if good:
            yield m.start() - before.endswith("("), good[-1]
    code = "[2-9][0-9]{2}"
    for pattern in (
        rf"(?<!\w)(\({code}\) ?{code}[-. ][0-9]{{4}})",
        rf"{LEFT}({code}-{code}-[0-9]{{4}}|{code}[.]{code}[.][0-9]{{4}})",
        rf"{LEFT}1-({code}-{code}-[0-9]{{4}})",
        rf"{LEFT}1[.]({code}[.]{code}[.][0-9]{{4}})",
    ):
        for m in at_every_place(pattern + RIGHT, text):
            if not re.search(r"555[-. ]01..\Z", m[1]):
                yield m.span(1)
    trunk = "0[1-9][0-9]{0,3}-[0-9]{2,4}-[0-9]{3,4}|0[1-9][0-9]{1,2}-[0-9]{7,8}"
    for m in at_every_place(f"{LEFT}({trunk}){RIGHT}", text):
        if 10 <= len(m[1].replace("-", "")) <= 11:
            yield m.span()


def luhn(digits):
    doubled = [int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(digits))]
    return sum(sum(map(int, str(d))) for d in doubled) % 10 == 0


def cards(text, public):
    issuers = {
        14: r"3(6|8|0[0-5])",
        15: r"3[47]",
        16: r"4|5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|6011|65|64[4-9]|352[89]|35[3-8]|62",
        19: r"62|65|6011|4",
    }
    for pattern in (
        "(?<![0-9])[0-9]{14,19}",
        r"(?<![0-9])[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}",
        r"(?<![0-9])3[47][0-9]{2}([ -])[0-9]{6}\1[0-9]{5}",
    ):
        for m in at_every_place(LEFT + pattern + RIGHT, text):
            digits = re.sub("[ -]", "", m[0])
            row = re.search("[0-9] \\Z", text[: m.start()]) or re.match(" [0-9]", text[m.end() :])
            if " " in m[0] and row:
                continue
            if len(digits) in issuers and re.match(issuers[len(digits)], digits) and luhn(digits):
                yield m.span()


def ibans(text, public):
    for m in at_every_place(r"(?<!\w)([A-Z]{2})[0-9]{2}", text):
        size = int(IBAN.get(m[1], 0))
        if not size:
            continue
        spaced = text[m.end() : m.end() + 1] == " "
        length = size + (size - 1) // 4 if spaced else size
        found = text[m.start() : m.start() + length]
        symbols = found.replace(" ", "")
        shape = "(?:[A-Z0-9]{4} )*[A-Z0-9]{1,4}" if spaced else "[A-Z0-9]*"
        if len(symbols) != size or not re.fullmatch(shape, found):
            continue
        if re.match(r"\w", text[m.start() + length :], re.ASCII):
            continue
        if int("".join(str(int(c, 36)) for c in symbols[4:] + symbols[:4])) % 97 == 1:
            yield m.start(), m.start() + length


TOKENS = [
    r"(AKIA|ASIA)[0-9A-Za-z]{16}(?![0-9A-Za-z])",
    r"AIza[\w-]{35}(?![\w-])",
    r"GOCSPX-[\w-]{28}(?![\w-])",
    r"gh[pousr]_[0-9A-Za-z]{36,255}(?![0-9A-Za-z])",
    r"github_pat_[\w-]{22,255}(?![\w-])",
    r"glpat-[\w-]{20,64}(?![\w-])",
    r"xox[abeprs]-[\w-]{16,255}(?![\w-])",
    r"[sr]k_(live|test)_[0-9A-Za-z]{16,255}(?![0-9A-Za-z])",
    r"whsec_[0-9A-Za-z]{32,64}(?![0-9A-Za-z])",
    r"hf_[0-9A-Za-z]{30,40}(?![0-9A-Za-z])",
    r"npm_[0-9A-Za-z]{36}(?![0-9A-Za-z])",
    r"pypi-[\w-]{85,255}(?![\w-])",
    r"shpat_[0-9A-Za-z]{32}(?![0-9A-Za-z])",
    r"dop_v1_[0-9A-Za-z]{64}(?![0-9A-Za-z])",
    r"sk-(?=[\w-]*[0-9])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,255}(?![\w-])",
    r"SG\.[\w-]{22}\.[\w-]{43}(?![\w-])",
    r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{16,}(?![\w-])",
]
ARMOUR = r"(?<!-)-----BEGIN ([A-Z0-9 ]{0,64})-----((?:(?!-----)[\s\S]){40,32768})-----END \1-----"
ENVIRONMENT = (
    r"(?<![^\n \x00])([A-Z0-9_]{1,48})=([0-9A-Za-z][0-9A-Za-z+/=_~-]{15,127})(?![^\n\r \x00])"
)
QUOTED = r"([\"']?[ \t]{0,8}(?::=?|=>?)[ \t]{0,8})([\"'])((?:(?!\2)[!-\[\]-~]){8,128})\2"
SECRET = ("password", "passwd", "pwd", "passphrase", "secret", "apikey", "accesskey", "secretkey",
          "privatekey", "token")  # fmt: skip


def entropy(value):
    return -sum(c / len(value) * math.log2(c / len(value)) for c in Counter(value).values())


def secret_name(name):
    plain = re.sub("[_.-]", "", name[-48:]).lower()
    return plain.endswith(SECRET) and not plain.endswith("publickeytoken")


def keys(text, public):
    for pattern in TOKENS:
        for m in at_every_place(r"(?<![\w-])" + pattern, text):
            yield m.span()
    for m in at_every_place(ARMOUR, text):
        if m[1].endswith(("PRIVATE KEY", "PRIVATE KEY BLOCK")):
            yield m.span()
    for m in at_every_place(QUOTED, text):
        name = re.search(r"[0-9A-Za-z_.-]*\Z", text[: m.start()])[0]
        value = m[3]
        if (
            secret_name(name)
            and re.search("[0-9]", value)
            and re.search("[A-Za-z]", value)
            and not re.search(r"[{}<>()\[\]]|\A[$%]|://", value)
            and entropy(value) >= 3 - 1e-9
        ):
            yield m.span(3)
    for m in at_every_place(ENVIRONMENT, text):
        value = m[2]
        classes = all(re.search(c, value) for c in ("[0-9]", "[a-z]", "[A-Z]"))
        if secret_name(m[1]) and classes and entropy(value) >= 3.5 - 1e-9:
            yield m.span(2)


RULES = dict(zip(KINDS, (emails, ipv4s, ipv6s, phones, keys, cards, ibans), strict=True))


def find(text, kinds=KINDS, public=True):
    """(start, end, kind) of what is private, in code points."""
    found = {
        (start, -end, KINDS.index(kind))
        for kind in kinds
        for start, end in RULES[kind](text, public)
    }
    kept = []
    for start, end, kind in sorted(found):
        if not kept or start >= kept[-1][1]:
            kept.append((start, -end, KINDS[kind]))
    return kept
