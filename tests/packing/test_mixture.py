"""The arithmetic of the mixture: shares, epochs, and who gives when one is short."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packing.mixture import MixtureError, Phase, Pile, Share, apportion, level, refuse, want


def pile(domain, source, language, tokens, cap=4.0):
    return Pile(domain, source, language, max(tokens // 100, 1), tokens, cap)


PILES = [
    pile("web", "wiki", "eng_Latn", 10_000),
    pile("web", "wiki", "deu_Latn", 1_000),
    pile("web", "blog", "eng_Latn", 4_000),
    pile("web", "blog", "swe_Latn", 200),
    pile("math", "proofs", "eng_Latn", 500),
    pile("code", "repos", "python", 3_000),
]


def tokens_by(wanted, what, piles=PILES, domain=None):
    """What a phase wants, added up by domain, source or language."""
    total = {}
    for p, n in zip(piles, wanted.piles.tolist(), strict=True):
        if domain in (None, p.domain):
            total[getattr(p, what)] = total.get(getattr(p, what), 0) + n
    return total


def one(mixture, tokens=1000, piles=PILES, when_short=(), **phase):
    (wanted,) = want(piles, [Phase(64, tokens, mixture)], dict(when_short))
    return wanted


def slow_level(weights, most, total):
    """Token by token to whoever has the least for its weight and is not full."""
    got = [0] * len(weights)
    for _ in range(min(total, sum(most))):
        open_ = [i for i in range(len(got)) if got[i] < most[i]]
        i = min(open_, key=lambda i: ((got[i] + 1) / weights[i], i))
        got[i] += 1
    return got


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), min_size=1, max_size=8),
    st.integers(0, 300),
)
def test_tokens_are_divided_as_one_by_one_and_none_gets_more_than_it_has(piles, total):
    weights, most = (np.array(column) for column in zip(*piles, strict=True))
    got = level(weights.astype(float), most, total)
    assert got.sum() == min(total, most.sum()) and (got <= most).all() and (got >= 0).all()
    slow = np.array(slow_level(weights.tolist(), most.tolist(), total))
    assert np.abs(got - slow).max() <= len(piles)  # by how whole numbers are rounded


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=1), st.integers(0, 10**13))
def test_shares_in_whole_numbers_add_up(weights, total):
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    parts = apportion(shares, total)
    assert sum(parts.values()) == total
    assert all(abs(parts[name] - total * share) < 2 for name, share in shares.items())


def test_a_domain_takes_of_its_piles_in_proportion_to_what_they_have():
    wanted = one({"web": 0.76, "code": 0.24}, 2000)
    assert wanted.piles.tolist() == [1000, 100, 400, 20, 0, 480] and not wanted.shortfalls


def test_shares_by_source_by_language_and_both_are_met():
    sources = {"wiki": 0.25, "blog": 0.75}
    languages = {"eng_Latn": 0.6, "deu_Latn": 0.3, "swe_Latn": 0.1}
    wanted = one({"web": Share(1, sources=sources)})
    assert tokens_by(wanted, "source", domain="web") == {"wiki": 250, "blog": 750}
    wanted = one({"web": Share(1, languages=languages)})
    assert tokens_by(wanted, "language", domain="web") == {
        "eng_Latn": 600, "deu_Latn": 300, "swe_Latn": 100,
    }  # fmt: skip
    both = {"eng_Latn": 0.75, "deu_Latn": 0.15, "swe_Latn": 0.1}
    wanted = one({"web": Share(1, sources=sources, languages=both)})
    for what, shares in (("source", sources), ("language", both)):
        got = tokens_by(wanted, what, domain="web")
        assert all(abs(got[name] - 1000 * share) <= 2 for name, share in shares.items())
    assert not wanted.shortfalls


def test_sources_and_languages_that_cannot_both_be_met_are_a_shortfall():
    # Swedish is in the blog alone, which is to give less than Swedish is to have.
    share = Share(
        1, sources={"wiki": 0.9, "blog": 0.1}, languages={"eng_Latn": 0.5, "swe_Latn": 0.5}
    )
    wanted = one({"web": share}, 200)
    (short,) = wanted.shortfalls
    assert short.name == "sources and languages together" and short.missing > 50
    assert wanted.piles.sum() <= 200


def test_a_star_stands_for_all_that_are_not_named_and_what_is_named_alone_gives_alone():
    wanted = one({"web": Share(1, languages={"eng_Latn": 0.5, "*": 0.5})}, 600)
    got = tokens_by(wanted, "language", domain="web")
    assert got == {"eng_Latn": 300, "deu_Latn": 250, "swe_Latn": 50}
    wanted = one({"web": Share(1, languages={"deu_Latn": 1})}, 600)
    assert tokens_by(wanted, "language", domain="web")["deu_Latn"] == 600


def test_temperature_flattens_languages_and_stops_at_their_epochs():
    wanted = one({"web": Share(1, temperature=2)}, 1000)
    got = tokens_by(wanted, "language", domain="web")
    roots = {"eng_Latn": 14_000**0.5, "deu_Latn": 1000**0.5, "swe_Latn": 200**0.5}
    for language, root in roots.items():
        assert abs(got[language] - 1000 * root / sum(roots.values())) <= 2
    wanted = one({"web": Share(1, temperature=1e6)}, 9000)  # all alike
    assert tokens_by(wanted, "language", domain="web") == {
        "eng_Latn": 4200, "deu_Latn": 4000, "swe_Latn": 800,
    }  # fmt: skip


def test_unimax_gives_all_the_same_but_no_language_more_epochs_in_all_phases():
    # The paper's way, by hand: ascending by size, an equal share of what remains, capped.
    left, names, expected = 3000, ["swe_Latn", "deu_Latn", "eng_Latn"], {}
    sizes = {"swe_Latn": 200, "deu_Latn": 1000, "eng_Latn": 14_000}
    for k, name in enumerate(names):
        expected[name] = min(left / (len(names) - k), 2 * sizes[name])
        left -= expected[name]
    phases = [Phase(64, 3000, {"web": Share(1, unimax=2)})] * 2
    first, second = want(PILES, phases, {})
    assert tokens_by(first, "language", domain="web") == expected
    got = tokens_by(second, "language", domain="web")
    assert got["swe_Latn"] == 0 and got["deu_Latn"] == 700  # what is left of their two epochs


def test_a_share_that_cannot_be_met_is_an_error_with_the_numbers():
    phases = [Phase(64, 5000, {"math": 0.5, "web": 0.5})]
    wanted = want(PILES, phases, {})
    assert tokens_by(wanted[0], "domain")["math"] == 2000
    with pytest.raises(MixtureError) as error:
        refuse(PILES, phases, wanted)
    for part in ("phase-0", "'math'", "2,500", "500 are missing", "'proofs' has 500", "2,000 more"):
        assert part in str(error.value)


def test_what_one_is_short_of_goes_to_the_named_others_in_proportion():
    mixture = {"math": 0.5, "web": 0.3, "code": 0.2}
    wanted = one(mixture, 6000, when_short={"math": ["web", "code"]})
    assert tokens_by(wanted, "domain") == {"web": 2400, "math": 2000, "code": 1600}
    assert not wanted.shortfalls
    # And what one of them lacks for it, the other gives.
    wanted = one(mixture, 50_000, when_short={"math": ["code", "web"]})
    assert tokens_by(wanted, "domain") == {"web": 36_000, "math": 2000, "code": 12_000}
    share = Share(1, sources={"wiki": 0.2, "blog": 0.8})
    wanted = one({"web": share}, 40_000, when_short={"blog": ["wiki"]})
    assert tokens_by(wanted, "source", domain="web") == {"wiki": 23_200, "blog": 16_800}
    assert not wanted.shortfalls


def test_phases_share_the_epochs_and_a_later_one_changes_no_earlier_one():
    phases = [Phase(64, 1500, {"math": 1}), Phase(128, 400, {"math": 1})]
    first, second = want(PILES, phases, {})
    assert first.piles.sum() == 1500 and second.piles.sum() == 400 and not second.shortfalls
    again, third = want(PILES, [phases[0], Phase(128, 600, {"math": 1})], {})
    assert again.piles.tolist() == first.piles.tolist()
    assert [s.missing for s in third.shortfalls] == [100]


def test_names_that_no_document_has_are_refused_with_those_there_are():
    for mixture, message in (
        ({"poems": 1.0}, "'poems', which no document has; there are code, math, web"),
        ({"web": Share(1, sources={"wiki": 0.5, "bog": 0.5})}, "'bog'.*there are blog, wiki"),
        ({"web": Share(1, languages={"fra_Latn": 1})}, "'fra_Latn'.*there are deu_Latn, eng_"),
        ({"math": Share(1, sources={"proofs": 0.5, "*": 0.5})}, r"source '\*'"),
    ):
        with pytest.raises(MixtureError, match=message):
            one(mixture)


def test_shares_that_make_no_sense_are_refused():
    for bad, message in (
        ({"sources": {"a": 0.5, "b": 0.4}}, "sources: shares must add up to 1.*0.9"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"temperature": 2, "unimax": 1}, "one of languages, temperature and unimax"),
    ):
        with pytest.raises(ValueError, match=message):
            Share(0.5, **bad)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_every_share_is_met_or_reported_and_no_pile_gives_more_than_its_epochs(data):
    names = st.sampled_from("abc")
    entries = data.draw(
        st.dictionaries(st.tuples(st.sampled_from(["x", "y", "z"]), names, names),
                        st.tuples(st.integers(1, 500), st.sampled_from([0.5, 1, 2.5])),
                        min_size=3)
    )  # fmt: skip
    piles = [pile(*name, size, cap) for name, (size, cap) in entries.items()]
    domains = sorted({p.domain for p in piles})
    phases = []
    for _ in range(data.draw(st.integers(1, 3))):
        inner = data.draw(st.sampled_from([{}, {"temperature": 3.0}, {"unimax": 1.0}]))
        mixture = {d: Share(1 / len(domains), **inner) for d in domains}
        phases.append(Phase(8, data.draw(st.integers(1, 1500)), mixture))
    when_short = data.draw(st.sampled_from([{}, {domains[0]: domains[1:]}]))
    wanted = want(piles, phases, {k: v for k, v in when_short.items() if v})
    total = sum(part.piles for part in wanted)
    assert all(n <= p.most for n, p in zip(total.tolist(), piles, strict=True))
    for phase, part in zip(phases, wanted, strict=True):
        missing = sum(s.missing for s in part.shortfalls)
        assert part.piles.min() >= 0 and missing >= 0
        assert part.piles.sum() + missing == phase.tokens
