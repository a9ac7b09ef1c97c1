"""The mixture: how many tokens of which pile of documents a phase takes.

A pile is what one source has in one domain and language. A recipe gives each domain its share of a
phase's tokens, and inside a domain shares by source, by language, or both. What is left open is
taken in proportion to what there is. All of it is arithmetic on counts, without a document in
sight, so the question "what if math were 0.3" costs nothing; `packing.stretches` then finds the
documents.

Inside a domain, languages may be weighed by themselves instead of by hand: `temperature` T gives a
language of n tokens a weight of n^(1/T); `unimax` E gives all the same, but none more than E epochs
of what it has (Chung et al., "UniMax", 2023). Shares by source and by language at once are met by
turns of scaling (Deming and Stephan, 1940), from what there is towards both.

No pile gives more than its epochs. Where a share asks for more, `when_short` says who gives
instead, in proportion to their own shares; without it, that is a shortfall, and an error to a plan.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

OTHERS = "*"  # stands for all sources or languages of a domain that are not named


class MixtureError(ValueError):
    """A share that the documents cannot meet; the message names the source and the numbers."""


@dataclass(frozen=True)
class Pile:
    """What one source has for training in one domain and language ("" where it has none)."""

    domain: str
    source: str
    language: str
    documents: int
    tokens: int
    max_epochs: float = 4.0

    @property
    def most(self) -> int:
        """Tokens that all phases together may take."""
        return int(self.max_epochs * self.tokens)


@dataclass(frozen=True)
class Share:
    """A domain's share of a phase, and how it is divided inside.

    sources, languages: name → share of the domain, adding up to 1; `*` is all that are not named.
    temperature or unimax (epochs) may stand in the place of languages.
    """

    share: float
    sources: Mapping[str, float] | None = None
    languages: Mapping[str, float] | None = None
    temperature: float | None = None
    unimax: float | None = None

    def __post_init__(self) -> None:
        given = [self.languages, self.temperature, self.unimax]
        if sum(way is not None for way in given) > 1:
            raise ValueError(
                "a domain has one of languages, temperature and unimax, these are several"
            )
        for name in ("sources", "languages"):
            shares = getattr(self, name)
            if shares is not None and abs(sum(shares.values()) - 1) > 1e-6:
                total = sum(shares.values())
                raise ValueError(f"{name}: shares must add up to 1, these add up to {total:g}")
        for name in ("temperature", "unimax"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, found {value:g}")


@dataclass(frozen=True)
class Phase:
    """A stretch of training: sequence length, budget in tokens, and domain → share."""

    length: int
    tokens: int
    mixture: Mapping[str, float | Share]

    def shares(self) -> dict[str, Share]:
        """The mixture, each domain as a `Share`."""
        return {d: s if isinstance(s, Share) else Share(s) for d, s in self.mixture.items()}


@dataclass(frozen=True)
class Shortfall:
    """What a phase wants and nobody may give: `name` is a domain, or a source or language of it."""

    domain: str
    name: str
    wanted: int
    missing: int


@dataclass
class Wanted:
    """What a phase takes: tokens of each pile (int64 [piles]), by domain, and what is missing."""

    piles: np.ndarray
    domains: dict[str, int]
    shortfalls: list[Shortfall] = field(default_factory=list)


def want(
    piles: Sequence[Pile], phases: Sequence[Phase], when_short: Mapping[str, Sequence[str]]
) -> list[Wanted]:
    """The tokens that each phase takes of each pile; phases in order, epochs counted through.

    when_short: domain (or source, or language) → those of the phase's (or the domain's) mixture
    that give what it cannot. Shortfalls are reported and not raised: see `refuse`. Raises
    MixtureError for a domain, source or language that no document has.
    """
    taken = np.zeros(len(piles), np.int64)
    most = np.array([pile.most for pile in piles], np.int64)
    by_phase = []
    for k, phase in enumerate(phases):
        shares = phase.shares()
        before = taken.copy()
        left = most - before
        of = {d: [i for i, pile in enumerate(piles) if pile.domain == d] for d in shares}
        for domain, mine in of.items():
            if not mine and shares[domain].share > 0:
                known = ", ".join(sorted({pile.domain for pile in piles})) or "none"
                wanted = f"{round(phase.tokens * shares[domain].share):,}"
                raise MixtureError(
                    f"phase-{k}: the mixture wants {wanted} tokens of domain {domain!r}, "
                    f"which no document has; there are {known}"
                )
            _check_names(f"phase-{k}", domain, shares[domain], [piles[i] for i in mine])
        weights = {domain: share.share for domain, share in shares.items()}
        found: dict[str, tuple[np.ndarray, list[Shortfall]]] = {}

        def give(domain: str, tokens: int, now=(shares, of, before, left, found)) -> int:
            shares, of, before, left, found = now
            mine = of[domain]
            found[domain] = _inside(
                [piles[i] for i in mine], left[mine], before[mine], tokens, shares[domain],
                when_short,
            )  # fmt: skip
            return int(found[domain][0].sum())

        wants = apportion(weights, phase.tokens)
        asked, missing = settle(wants, give, weights, when_short)
        tokens = np.zeros(len(piles), np.int64)
        shortfalls = []
        for domain, (part, inside) in found.items():
            tokens[of[domain]] = part
            # A part that fell short explains its domain, unless others gave instead.
            if missing.get(domain):
                short = sum(s.missing for s in inside)
                shortfalls += inside
                if short < missing[domain]:
                    shortfalls.append(
                        Shortfall(domain, domain, wants[domain], missing[domain] - short)
                    )
        taken += tokens
        by_phase.append(Wanted(tokens, asked, shortfalls))
    return by_phase


def _check_names(phase: str, domain: str, share: Share, piles: Sequence[Pile]) -> None:
    for what, given in (("source", share.sources), ("language", share.languages)):
        known = {getattr(pile, what) for pile in piles}
        for name, part in (given or {}).items():
            lacks = name not in known if name != OTHERS else known <= set(given)
            if part > 0 and lacks:
                shown = ", ".join(sorted(known - {""})) or "none"
                raise MixtureError(
                    f"{phase}: domain {domain!r} wants {part:g} of {what} {name!r}, which no "
                    f"document of it has; there are {shown}"
                )


def _inside(
    piles: Sequence[Pile],
    left: np.ndarray,
    taken: np.ndarray,
    tokens: int,
    share: Share,
    when_short: Mapping[str, Sequence[str]],
) -> tuple[np.ndarray, list[Shortfall]]:
    """Divide a domain's tokens among its piles; what each gives (int64) and what is missing.

    left, taken: int64 [piles], what each may still give, and what earlier phases took.
    """
    sizes = np.array([pile.tokens for pile in piles], np.float64)
    domain = piles[0].domain if piles else ""
    groups: list[tuple[list[np.ndarray], list[int]]] = []  # for each way: members, targets
    shortfalls: list[Shortfall] = []
    allowed = np.ones(len(piles), bool)
    languages = _by_name([pile.language for pile in piles], share.languages)
    sources = _by_name([pile.source for pile in piles], share.sources)
    for members, given in ((sources, share.sources), (languages, share.languages)):
        if given is None:
            continue
        named = np.zeros(len(piles), bool)
        for name, part in given.items():
            named[members[name]] |= part > 0
        allowed &= named
    left = np.where(allowed, left, 0)
    for members, given in ((sources, share.sources), (languages, share.languages)):
        if given is None:
            continue

        def give(name: str, most: int, members=members) -> int:
            return min(most, int(left[members[name]].sum()))

        wants = apportion(given, tokens)
        asked, missing = settle(wants, give, given, when_short)
        shortfalls += [Shortfall(domain, n, wants[n], short) for n, short in missing.items()]
        groups.append(([members[name] for name in given], [asked[name] for name in given]))
    if share.temperature is not None or share.unimax is not None:
        names = sorted(languages)
        total = np.array([sizes[languages[n]].sum() for n in names])
        room = np.array([left[languages[n]].sum() for n in names], np.float64)
        if share.temperature is not None:
            weights = total ** (1 / share.temperature)
        else:
            before = np.array([taken[languages[n]].sum() for n in names], np.float64)
            room = np.minimum(room, np.maximum(np.floor(share.unimax * total) - before, 0))
            weights = np.ones(len(names))
        parts = level(weights, room, tokens)
        groups.append(([languages[n] for n in names], parts.tolist()))
    if not groups:
        return level(sizes, left, tokens), []
    given = _meet_all(sizes, left.astype(np.float64), groups)
    whole = _whole(given, left)
    if len(groups) > 1 and not shortfalls:
        wanted = min(sum(targets) for _, targets in groups)
        if wanted - int(whole.sum()) > 1:
            lacking = Shortfall(domain, "sources and languages together", wanted, wanted)
            shortfalls.append(Shortfall(domain, lacking.name, wanted, wanted - int(whole.sum())))
    return whole, shortfalls


def _by_name(names: list[str], given: Mapping[str, float] | None) -> dict[str, np.ndarray]:
    """Places by name; `*` takes the names that `given` does not have."""
    places: dict[str, list[int]] = {name: [] for name in given or ()}
    for i, name in enumerate(names):
        known = given is None or name in given
        places.setdefault(name if known else OTHERS, []).append(i)
    return {name: np.array(at, np.int64) for name, at in places.items()}


def _meet_all(
    sizes: np.ndarray, most: np.ndarray, groups: list[tuple[list[np.ndarray], list[int]]]
) -> np.ndarray:
    """Amounts that meet the targets of all ways of grouping, as near to `sizes` as they allow."""
    amounts = np.minimum(np.maximum(sizes, 1e-9), most)
    for _ in range(500 if len(groups) > 1 else 1):
        off = 0.0
        for members, targets in groups:
            for at, target in zip(members, targets, strict=True):
                off = max(off, abs(amounts[at].sum() - target))
                amounts[at] = _level(np.maximum(amounts[at], 1e-9), most[at], target)
        if off < 0.5:
            break
    # The turns end on the last way; where the others could not be met as well, the least counts.
    for members, targets in groups[:-1]:
        for at, target in zip(members, targets, strict=True):
            if amounts[at].sum() > target + 1:
                amounts[at] *= target / amounts[at].sum()
    return amounts


def _whole(amounts: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Amounts as whole numbers with the same sum, none above `most`: int64."""
    whole = np.minimum(np.floor(amounts + 1e-6).astype(np.int64), most)
    rest = round(float(amounts.sum())) - int(whole.sum())
    for i in np.argsort(whole - amounts, kind="stable"):
        if rest > 0 and whole[i] < most[i] and amounts[i] > 0:
            more = min(rest, int(most[i] - whole[i]), 1)
            whole[i] += more
            rest -= more
    for i in range(len(whole)):  # where all the others are full
        if rest > 0 and amounts[i] > 0:
            more = min(rest, int(most[i] - whole[i]))
            whole[i] += more
            rest -= more
    return whole


def _level(weights: np.ndarray, most: np.ndarray, total: float) -> np.ndarray:
    """min(most, x · weights) for the x at which they add up to `total`; all of `most` if less."""
    total = min(float(total), float(most.sum()))
    if total <= 0:
        return np.zeros(len(weights))
    ratio = np.divide(most, weights, out=np.zeros(len(weights)), where=weights > 0)
    by = np.argsort(ratio, kind="stable")
    full = np.cumsum(most[by]) - most[by]  # of those that are full before this one
    open_weight = np.cumsum(weights[by][::-1])[::-1]
    reached = full + ratio[by] * open_weight >= total
    if not reached.any():
        return most.astype(np.float64)
    k = int(np.argmax(reached))
    return np.minimum(most, weights * ((total - full[k]) / max(open_weight[k], 1e-300)))


def level(weights: np.ndarray, most: np.ndarray, total: int) -> np.ndarray:
    """Divide `total` in proportion to `weights`, none above `most`: int64, adding up to it."""
    return _whole(_level(weights, np.asarray(most, np.float64), total), np.asarray(most, np.int64))


def apportion(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Divide `total` by shares into whole numbers that add up to it (largest remainders first)."""
    exact = {name: total * share for name, share in shares.items()}
    parts = {name: int(value) for name, value in exact.items()}
    rest = round(sum(exact.values())) - sum(parts.values())
    for name in sorted(exact, key=lambda name: parts[name] - exact[name])[: max(rest, 0)]:
        parts[name] += 1
    return parts


def settle(
    wants: Mapping[str, int],
    give: Callable[[str, int], int],
    weights: Mapping[str, float],
    when_short: Mapping[str, Sequence[str]],
) -> tuple[dict[str, int], dict[str, int]]:
    """Ask each for what is wanted of it, and others for what it cannot give.

    give(name, tokens) → how many of them there are. Returns what each is asked in the end, and
    what is missing where nobody gives instead. What an heir lacks goes to the heirs left.
    """
    asked = dict(wants)
    heirs = {name: [o for o in when_short.get(name, ()) if weights.get(o)] for name in wants}
    missing: dict[str, int] = {}
    full: set[str] = set()
    origin = {name: name for name in wants}
    ask = list(wants)
    while ask:
        name = ask.pop(0)
        got = give(name, asked[name])
        short, asked[name] = asked[name] - got, got
        if short <= 0:
            continue
        full.add(name)
        able = [o for o in heirs[name] if o not in full]
        if not able:
            missing[origin[name]] = missing.get(origin[name], 0) + short
            continue
        parts = apportion(_normed({o: weights[o] for o in able}), short)
        for other, more in parts.items():
            asked[other] += more
            if not heirs[other]:
                origin[other] = origin[name]
            heirs[other] += [o for o in heirs[name] if o not in heirs[other] and o != other]
            if other not in ask:
                ask.append(other)
    return asked, missing


def _normed(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def refuse(piles: Sequence[Pile], phases: Sequence[Phase], wanted: Sequence[Wanted]) -> None:
    """Raise MixtureError for the first shortfall, with the numbers of the sources behind it."""
    taken = np.zeros(len(piles), np.int64)
    for k, (phase, part) in enumerate(zip(phases, wanted, strict=True)):
        for short in part.shortfalls:
            mine = [i for i, pile in enumerate(piles) if pile.domain == short.domain]
            if short.name != short.domain:
                mine = [
                    i for i in mine if short.name in (piles[i].source, piles[i].language)
                ] or mine
            share = phase.shares()[short.domain].share
            what = f"domain {short.domain!r}"
            if short.name != short.domain:
                what += f", {short.name!r}"
            raise MixtureError(
                f"phase-{k}: {what} cannot meet its share: of {short.wanted:,} tokens "
                f"{short.missing:,} are missing (domain's share {share:g} of {phase.tokens:,}): "
                f"{_each(piles, mine, taken)}. Lower the share or the budget, raise max_epochs, "
                f"add documents, or let others give: "
                f"plan.when_short: {{{short.name}: [NAME, …]}}"
            )
        taken += part.piles


def _each(piles: Sequence[Pile], mine: Iterable[int], taken: np.ndarray) -> str:
    """What the sources of some piles have and may still give, the largest five."""
    sources: dict[str, list[int]] = {}
    for i in mine:
        entry = sources.setdefault(piles[i].source, [0, 0, i])
        entry[0] += piles[i].tokens
        entry[1] += piles[i].most - int(taken[i])
    return "; ".join(
        f"source {source!r} has {tokens:,} tokens and may give {more:,} more at max_epochs "
        f"{piles[i].max_epochs:g}"
        for source, (tokens, more, i) in sorted(sources.items(), key=lambda x: -x[1][1])[:5]
    )
