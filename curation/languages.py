"""Languages: one table of names for them, and the script that a text is written in.

A document's language is `iso639-3_Script`, as in `deu_Latn`: the ISO 639-3 code of an individual
language and the ISO 15924 code of its script. Everyone else's codes come here to be translated:
fastText's lid.176 labels (which are Wikipedia's), BCP 47 and POSIX locales, two-letter codes, the
three-letter codes of macrolanguages (`est` is `ekk`, `ara` is `arb`; Chinese alone stays whole, as
`zho`) and NTREX's. What the table does not know, such as a programming language, is left as it is.

A script is a fact of the text, so it is counted: each letter has one by its Unicode name, Han
characters are told into simplified and traditional by the character sets that hold them (GB 2312
alone, Big5 alone), and Han beside kana is Japanese. All of it is one table of code points, read by
a native loop for whole batches and by NumPy for one text, which is its twin.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import pyarrow as pa

from curation import _native

# A language, its scripts (the usual one first), and what else it is called; the first two-letter
# name is the one of BCP 47. Separated by commas.
_TABLE = """
aar Latn aa, abk Cyrl ab, ace Latn/Arab, afr Latn af, aka Latn ak, als Latn sq sqi alb,
amh Ethi am, ang Latn, arb Arab ar ara, arg Latn an, ary Arab, arz Arab, asm Beng as,
ast Latn, ava Cyrl av, ave Avst ae, aym Latn ay ayr, azb Arab, azj Latn/Cyrl/Arab az aze,
bak Cyrl ba, bam Latn/Nkoo bm, bar Latn, bcl Latn, bel Cyrl/Latn be, bem Latn, ben Beng bn,
bho Deva bh, bis Latn bi, bjn Latn/Arab, bod Tibt bo tib, bos Latn/Cyrl bs, bpy Beng, bre Latn br,
bul Cyrl bg, bxr Cyrl/Mong bua, cat Latn ca, cbk Latn, ceb Latn, ces Latn cs cze, cha Latn ch,
che Cyrl ce, chu Cyrl/Glag cu, chv Cyrl cv, ckb Arab, cor Latn kw, cos Latn co, cre Cans/Latn cr,
crh Latn/Cyrl, cym Latn cy wel, dan Latn da, deu Latn de ger, diq Latn zza, div Thaa dv, dsb Latn,
dty Deva, dzo Tibt dz, ekk Latn et est, ell Grek el gre, eml Latn, eng Latn en, epo Latn eo,
eus Latn eu baq, ewe Latn ee, fao Latn fo, fij Latn fj, fil Latn, fin Latn fi, fra Latn fr fre,
frr Latn, fry Latn fy, fuc Latn, ful Latn/Adlm ff, fur Latn, fuv Latn, gaz Latn/Ethi om orm,
gla Latn gd, gle Latn ga, glg Latn gl, glv Latn gv, gom Deva/Latn, grc Grek, gsw Latn,
gug Latn gn grn, guj Gujr gu, hat Latn ht, hau Latn/Arab ha, hbs Latn/Cyrl sh, heb Hebr he iw,
her Latn hz, hif Latn/Deva, hin Deva hi, hmn Latn, hmo Latn ho, hrv Latn hr, hsb Latn,
hun Latn hu, hye Armn hy arm, ibo Latn ig, ido Latn io, iii Yiii ii, iku Cans/Latn iu, ile Latn ie,
ilo Latn, ina Latn ia, ind Latn id in, ipk Latn ik, isl Latn is ice, ita Latn it,
jav Latn/Java jv jw, jbo Latn, jpn Jpan ja, kab Latn/Tfng, kal Latn kl, kan Knda kn,
kas Arab/Deva ks, kat Geor ka geo, kau Latn kr, kaz Cyrl/Latn/Arab kk, khk Cyrl/Mong mn mon,
khm Khmr km, kik Latn ki, kin Latn rw, kir Cyrl/Arab ky, kmr Latn/Arab/Cyrl ku kur, kon Latn kg,
kor Hang ko, kpv Cyrl kv kom, krc Cyrl, kua Latn kj, lao Laoo lo, lat Latn la, lez Cyrl, lij Latn,
lim Latn li, lin Latn ln, lit Latn lt, lmo Latn, lrc Arab, ltg Latn, ltz Latn lb, lub Latn lu,
lug Latn lg, lvs Latn lv lav, mag Deva, mah Latn mh, mai Deva, mal Mlym ml, mar Deva mr,
mey Arab/Latn, mhr Cyrl chm, min Latn, mkd Cyrl mk mac, mlt Latn mt, mni Beng/Mtei,
mri Latn mi mao, mrj Cyrl, mwl Latn, mya Mymr my bur, myv Cyrl, mzn Arab, nah Latn, nap Latn,
nau Latn na, nav Latn nv, nbl Latn nr, nde Latn nd, ndo Latn ng, nds Latn, new Deva,
nld Latn nl dut, nno Latn nn, nob Latn nb no nor, npi Deva ne nep, nqo Nkoo, nso Latn, nya Latn ny,
oci Latn oc, oji Cans/Latn oj, ory Orya or ori, oss Cyrl os, pam Latn, pan Guru/Arab pa,
pbt Arab ps pus, pes Arab fa fas per, pfl Latn, pli Deva pi, plt Latn mg mlg, pms Latn,
pnb Arab/Guru, pol Latn pl, por Latn pt, prs Arab, que Latn qu, roh Latn rm,
ron Latn/Cyrl ro rum mo, rue Cyrl, run Latn rn, rus Cyrl ru, sag Latn sg, sah Cyrl, san Deva sa,
scn Latn, sco Latn, shi Tfng/Latn/Arab, shn Mymr, sin Sinh si, skr Arab, slk Latn sk slo,
slv Latn sl, sme Latn se, smo Latn sm, sna Latn sn, snd Arab/Deva sd, som Latn so, sot Latn st,
spa Latn es, srd Latn sc, srp Cyrl/Latn sr, ssw Latn ss, sun Latn/Sund su, swe Latn sv,
swh Latn sw swa swahili, szl Latn, tah Latn ty, tam Taml ta, taq Tfng/Latn, tat Cyrl/Latn tt,
tel Telu te, tgk Cyrl/Arab tg, tgl Latn/Tglg tl, tha Thai th, tir Ethi ti, ton Latn to,
tsn Latn tn, tso Latn ts, tuk Latn/Cyrl tk, tur Latn tr, twi Latn tw, tyv Cyrl,
uig Arab/Cyrl/Latn ug, ukr Cyrl uk, urd Arab ur, uzn Latn/Cyrl/Arab uz uzb, vec Latn,
ven Latn ve, vep Latn, vie Latn vi, vls Latn, vol Latn vo, war Latn, wln Latn wa, wol Latn wo,
wuu Hans/Hant/Hani, xal Cyrl, xho Latn xh, xmf Geor, ydd Hebr yi ji yid, yor Latn yo,
yue Hant/Hans/Hani, zgh Tfng, zha Latn za, zho Hans/Hant/Hani zh cmn chi, zsm Latn/Arab ms msa may,
zul Latn zu
"""

SCRIPTS: dict[str, tuple[str, ...]] = {}  # of a language, the usual one first
_NAMES: dict[str, str] = {}  # any name of a language -> its code
_TWO_LETTERS: dict[str, str] = {}  # code -> BCP 47's shorter name
for _entry in _TABLE.replace("\n", " ").split(","):
    _code, _scripts, *_aliases = _entry.split()
    SCRIPTS[_code] = tuple(_scripts.split("/"))
    _NAMES |= dict.fromkeys((_code, *_aliases), _code)
    if _short := [alias for alias in _aliases if len(alias) == 2]:
        _TWO_LETTERS[_code] = _short[0]

_SCRIPT_WORDS = {"latin": "Latn", "cyrillic": "Cyrl", "arabic": "Arab", "devanagari": "Deva"}
_TRADITIONAL = {"tw", "hk", "mo"}  # regions
_CANONICAL = re.compile("[a-z]{3}_[A-Z][a-z]{3}")
_HAN = {"Hans", "Hant", "Hani", "Jpan"}


@lru_cache(4096)
def canonical(code: str) -> str:
    """Translate anyone's code of a natural language into `iso639-3_Script`.

    A code that names its script keeps it, any other gets the usual one. A bare `als` is
    Wikipedia's and lid.176's Alemannic (`gsw_Latn`); with a script it is ISO's Tosk Albanian.
    Unknown codes and programming languages come back untouched.
    """
    language, *tags = re.split("[-_@.]", code.removeprefix("__label__").lower())
    if language == "als" and not tags:
        return "gsw_Latn"
    script = _script_tag(tags)
    known = _NAMES.get(language)
    if known is None:
        return f"{language}_{script}" if script and re.fullmatch("[a-z]{3}", language) else code
    if script is None:
        traditional = _TRADITIONAL.intersection(tags) and "Hant" in SCRIPTS[known]
        script = "Hant" if traditional else SCRIPTS[known][0]
    return f"{known}_{script}"


def bcp47(code: str) -> str:
    """Give the BCP 47 tag of a canonical code: `deu_Latn` is `de`, `srp_Latn` is `sr-Latn`.

    The script is named only where it is not the usual one. Other codes come back untouched.
    """
    if not _CANONICAL.fullmatch(code):
        return code
    language, script = code.split("_")
    tag = _TWO_LETTERS.get(language, language)
    usual = SCRIPTS.get(language, ("Latn",))[0]
    return tag if script in (usual, "Zyyy") else f"{tag}-{script}"


def in_script(code: str, counts: dict[str, int], least: float = 0.1) -> str | None:
    """Complete a code by the text's scripts: `sr` for a text in Latin letters is `srp_Latn`.

    `counts` is `script_counts` of the text. None if less than the share `least` of the letters is
    in a script the code can stand for: one that it names, or else any that the language has. A
    text without letters fits every code.
    """
    language, possible = _claim(code)
    letters = sum(counts.values())
    if not language or not letters or possible[0] == "Zyyy":
        return canonical(code)
    if _HAN.intersection(possible):  # one reservoir of characters, told apart by a few of them
        share = sum(counts.get(s, 0) for s in _HAN) / letters
        present = (s for s in possible if counts.get(s))
        found = max(present, key=lambda s: counts[s], default=canonical(code)[-4:])
    else:
        found = max(possible, key=lambda s: counts.get(s, 0)) if len(possible) > 1 else possible[0]
        share = counts.get(found, 0) / letters
    return f"{language}_{found}" if share >= least else None


@lru_cache(4096)
def _claim(code: str) -> tuple[str, tuple[str, ...]]:
    """The language that a code names, and the scripts that it can stand for."""
    language, script = canonical(code).rpartition("_")[::2]
    named = script == "Zyyy" or _script_tag(re.split("[-_@.]", code.lower())[1:])
    return language, (script,) if named else SCRIPTS.get(language, (script,))


def _script_tag(tags: list[str]) -> str | None:
    for tag in tags:
        if tag in _SCRIPT_WORDS:
            return _SCRIPT_WORDS[tag]
        if re.fullmatch("[a-z]{4}", tag):
            return tag.title()
    return None


# The first words of a letter's Unicode name, and the script they tell.
_NAME_TABLE = """
LATIN Latn, FULLWIDTH LATIN Latn, GREEK Grek, COPTIC Copt, CYRILLIC Cyrl, ARMENIAN Armn,
HEBREW Hebr, ARABIC Arab, SYRIAC Syrc, THAANA Thaa, NKO Nkoo, SAMARITAN Samr, MANDAIC Mand,
DEVANAGARI Deva, BENGALI Beng, GURMUKHI Guru, GUJARATI Gujr, ORIYA Orya, TAMIL Taml, TELUGU Telu,
KANNADA Knda, MALAYALAM Mlym, SINHALA Sinh, THAI Thai, LAO Laoo, TIBETAN Tibt, MYANMAR Mymr,
GEORGIAN Geor, HANGUL Hang, HALFWIDTH HANGUL Hang, ETHIOPIC Ethi, CHEROKEE Cher, CANADIAN Cans,
OGHAM Ogam, RUNIC Runr, TAGALOG Tglg, KHMER Khmr, MONGOLIAN Mong, LIMBU Limb, TAI LE Tale,
NEW TAI Talu, TAI THAM Lana, TAI VIET Tavt, BUGINESE Bugi, BALINESE Bali, SUNDANESE Sund,
BATAK Batk, LEPCHA Lepc, OL CHIKI Olck, GLAGOLITIC Glag, TIFINAGH Tfng, HIRAGANA Jpan,
KATAKANA Jpan, HALFWIDTH KATAKANA Jpan, BOPOMOFO Hani, CJK Hani, YI Yiii, LISU Lisu, VAI Vaii,
BAMUM Bamu, SYLOTI Sylo, PHAGS-PA Phag, SAURASHTRA Saur, KAYAH Kali, REJANG Rjng, JAVANESE Java,
CHAM Cham, MEETEI Mtei, GOTHIC Goth, DESERET Dsrt, OSAGE Osge, ADLAM Adlm, HANIFI Rohg,
CHAKMA Cakm, NEWA Newa, AVESTAN Avst, HANUNOO Hano, BUHID Buhd, TAGBANWA Tagb
"""
_SCRIPT_OF_NAME = {
    " ".join(words): script
    for *words, script in (entry.split() for entry in _NAME_TABLE.split(","))
}
_ORDER = ["Zyyy", "Hans", "Hant", *sorted({*_SCRIPT_OF_NAME.values()} - {"Hans", "Hant"})]


@cache
def _script_table() -> np.ndarray:
    """uint8 [0x110000]: the place in `_ORDER` of each code point's script; 0 for no letter."""
    table = np.zeros(0x110000, np.uint8)
    place = {script: i for i, script in enumerate(_ORDER)}
    for point in range(0x32400):  # beyond: private use and variation selectors
        char = chr(point)
        if unicodedata.category(char)[0] not in "LM":
            continue
        words = unicodedata.name(char, "").split(" ", 2)
        script = _SCRIPT_OF_NAME.get(words[0]) or _SCRIPT_OF_NAME.get(" ".join(words[:2]))
        if script == "Hani" and 0x4E00 <= point < 0xA000:
            simplified, traditional = _encodes(char, "gb2312"), _encodes(char, "big5")
            if simplified != traditional:
                script = "Hans" if simplified else "Hant"
        table[point] = place.get(script, 0)
    return table


def _encodes(char: str, charset: str) -> bool:
    try:
        return bool(char.encode(charset))
    except UnicodeEncodeError:
        return False


def script_counts(text: str) -> dict[str, int]:
    """Count the letters (and combining marks) of a text by script, most first.

    All Han characters and kana of a text count as one script: `Jpan` if at least a tenth of them
    are kana, else `Hans` or `Hant` by the greater number of characters that only one of them has,
    else `Hani`.
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    found = np.bincount(_script_table()[points], minlength=len(_ORDER))
    return _by_script(np.flatnonzero(found).tolist(), found.tolist())


def all_script_counts(texts: pa.Array) -> list[dict[str, int]]:
    """Count the scripts of each text of an Arrow array of strings, at several hundred MB/s."""
    found = _native.script_counts(texts, _script_table(), len(_ORDER))
    present: list[list[int]] = [[] for _ in range(len(found))]
    for row, script in zip(*map(np.ndarray.tolist, np.nonzero(found)), strict=True):
        present[row].append(script)
    return [_by_script(*pair) for pair in zip(present, found, strict=True)]


def _by_script(present: list[int], found: Sequence[int]) -> dict[str, int]:
    """Name the counts, and make one of those that write with Han characters."""
    counts = {_ORDER[i]: int(found[i]) for i in present if i}
    if _HAN.isdisjoint(counts):
        if len(counts) < 2:
            return counts
    else:
        parts = {script: counts.pop(script, 0) for script in ("Hans", "Hant", "Hani", "Jpan")}
        total = sum(parts.values())
        if parts["Jpan"] * 10 >= total:
            script = "Jpan"
        elif parts["Hans"] == parts["Hant"]:
            script = "Hani"
        else:
            script = "Hans" if parts["Hans"] > parts["Hant"] else "Hant"
        counts[script] = total
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def script_of(text: str) -> str:
    """Name the script (ISO 15924) of most letters of a text; `Zyyy` if it has none."""
    if text.isascii():
        return "Latn" if re.search("[A-Za-z]", text) else "Zyyy"
    return next(iter(script_counts(text)), "Zyyy")
