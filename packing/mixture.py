"""The mixture: which documents a phase is made of, exactly by tokens.

A recipe gives each domain its share of a phase's tokens. Inside a domain, sources give in
proportion to what they have, up to their epoch caps. A source is a pile of documents, shuffled by
(seed, pass): phases take from it until it is empty, then the next pass begins. A document that is
too long for what is left of a share is passed over and stays in the pile for the next phase, so
shares are met to within the shortest document that could not be used, and nothing is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from packing.draws import draw_many


class MixtureError(ValueError):
    """A share that the documents cannot meet; the message names the source and the numbers."""


@dataclass
class Pile:
    """The training documents of one source in one domain.

    rows: int64 [documents], their places in the table of all documents; tokens: int64 [documents].
    """

    source: str
    domain: str
    rows: np.ndarray
    tokens: np.ndarray
    ids: list[str]
    seed: int
    max_epochs: float
    taken: int = 0
    passes: int = 0
    left: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def available(self) -> int:
        """Tokens that may still be taken before the epoch cap."""
        return max(int(self.max_epochs * self.tokens.sum()) - self.taken, 0)

    def take(self, want: int) -> np.ndarray:
        """Take about `want` tokens, never more; returns rows, repeated when epochs repeat."""
        chosen = []
        while want > 0 and len(self.tokens):
            if not len(self.left):
                self.left = np.argsort(
                    draw_many(self.seed, f"pass-{self.passes}", self.ids), kind="stable"
                )
                self.passes += 1
            sizes = self.tokens[self.left]
            if sizes.sum() <= want:
                took, self.left = self.left, np.empty(0, np.int64)
            else:
                fits = np.zeros(len(sizes), bool)
                whole = int(np.searchsorted(np.cumsum(sizes), want, side="right"))
                fits[:whole] = True
                room = want - int(sizes[:whole].sum())
                for i in np.flatnonzero(sizes[whole:] <= room) + whole:
                    if sizes[i] <= room:
                        fits[i] = True
                        room -= int(sizes[i])
                took, self.left = self.left[fits], self.left[~fits]
                want = 0
            amount = int(self.tokens[took].sum())
            want -= amount
            self.taken += amount
            chosen.append(took)
        return self.rows[np.concatenate(chosen)] if chosen else np.empty(0, np.int64)


def _shares(piles: list[Pile], want: int) -> list[int]:
    """Split `want` tokens over piles in proportion to their size, none above what it has left."""
    shares = [0] * len(piles)
    open_piles = [i for i, pile in enumerate(piles) if pile.available]
    rest = want
    while open_piles and rest > 0:
        size = sum(int(piles[i].tokens.sum()) for i in open_piles)
        full = [
            i
            for i in open_piles
            if rest * int(piles[i].tokens.sum()) >= size * (piles[i].available - shares[i])
        ]
        if not full:
            parts = [rest * int(piles[i].tokens.sum()) // size for i in open_piles]
            parts[0] += rest - sum(parts)
            for i, part in zip(open_piles, parts, strict=True):
                shares[i] += part
            return shares
        for i in full:
            rest -= piles[i].available - shares[i]
            shares[i] = piles[i].available
        open_piles = [i for i in open_piles if i not in full]
    return shares


def select(
    piles: list[Pile], tokens: int, shares: Mapping[str, float], phase: str, slack: int = 0
) -> dict[str, np.ndarray]:
    """Choose the documents of a phase: rows by domain.

    tokens: the phase's budget. shares: domain → share, summing to 1. Raises MixtureError when a
    domain has too little under its epoch caps, or comes to less than its share by more than a
    hundredth and more than `slack` tokens.
    """
    chosen = {}
    for domain, share in shares.items():
        mine = [pile for pile in piles if pile.domain == domain]
        want = round(tokens * share)
        available = sum(pile.available for pile in mine)
        if not mine:
            known = sorted({pile.domain for pile in piles})
            raise MixtureError(
                f"{phase}: the mixture wants {want:,} tokens of domain {domain!r}, "
                f"which no document has; there are {', '.join(known) or 'none'}"
            )
        if available < want:
            each = "; ".join(
                f"source {pile.source!r} has {int(pile.tokens.sum()):,} tokens "
                f"and may give {pile.available:,} more at max_epochs {pile.max_epochs:g}"
                for pile in sorted(mine, key=lambda pile: -pile.available)[:5]
            )
            raise MixtureError(
                f"{phase}: domain {domain!r} cannot meet its share {share:g} = {want:,} tokens, "
                f"it has {available:,} left: {each}. Lower the share or the budget, "
                f"raise max_epochs, or add documents"
            )
        rows = []
        got = 0
        for pile, part in zip(mine, _shares(mine, want), strict=True):
            before = pile.taken
            rows.append(pile.take(part))
            got += pile.taken - before
        # What some could not use for want of a short document, others may have.
        for pile in sorted(mine, key=lambda pile: -pile.available):
            if got < want and pile.available:
                before = pile.taken
                rows.append(pile.take(min(want - got, pile.available)))
                got += pile.taken - before
        if want - got > max(slack, want // 100):
            raise MixtureError(
                f"{phase}: domain {domain!r} came to {got:,} of {want:,} tokens, though it has "
                f"{available:,}: its documents are longer than what was left of the share, and no "
                "document is cut to measure. Raise the budget or the share, or drop long documents"
            )
        chosen[domain] = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return chosen
