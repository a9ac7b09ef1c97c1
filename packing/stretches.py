"""Which documents a phase is made of: a stretch of each pile's endless row of documents.

A pile's documents stand in a row, in an order drawn anew for each turn through them (an epoch), one
turn after the other. A phase takes the tokens that the mixture says from where the phase before
stopped: a stretch from one `Border` to the next. So nothing is lost and nothing comes twice within
a turn, phases follow each other without a gap, and a later phase cannot change an earlier one.

A stretch ends where a piece ends. Before a document that is too long for what is left, if it fits a
sequence; inside a longer one, where it would be cut anyway, after as many full sequences as there
is room for, and the next phase goes on behind them. So no document is cut to measure, and what is
missing is less than one sequence: it is asked of the domain's next pile, so that every domain comes
to its share within one sequence too, and every pile (a few where epochs run out). Epochs that end
inside a piece (1.5 of them, say) end behind it if there is nothing else left to take.

The order is that of 64-bit keys, so the documents of a stretch are those with keys between two
values. To find those values, tokens are first counted by the keys' leading bits (hundreds of
documents to each count, or a few thousand), then only the documents of the count in which a border
falls are sorted: two passes over the census, and memory for a few documents of each border.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields

import numpy as np

from packing import _native
from packing.census import RECORD, Census, ahead
from packing.cutting import cut
from packing.draws import draw

# Documents whose keys have the same leading bits: few, as those of each border are held and sorted,
# but more where there would be many counts, which every segment has of its own.
_FEWEST_IN_A_COUNT, _MOST_IN_A_COUNT = 256, 4096
_MANY_COUNTS = 1 << 16
_MOST_BITS = 20
_TOP = 2**64 - 1


@dataclass(frozen=True, order=True)
class Border:
    """A place in a pile's row: the turn, the document's key and place, and tokens of it."""

    turn: int = 0
    key: int = 0
    place: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Stretch:
    """What a phase takes of a pile: from `start` to `stop`, `tokens` in all."""

    start: Border
    stop: Border
    tokens: int


def _turns(numbers: Sequence[int], seed: int) -> _native.Turns:
    """Turns through the piles: ordered by the keys of the ids at first, then by keys drawn anew."""
    drawn = [draw(seed, f"turn-{number}") for number in numbers]
    return _native.Turns(np.array(numbers, np.int64), np.array(drawn, np.uint64))


class _Weights:
    """Tokens by the leading bits of the keys, for the turns of piles in which borders fall.

    A turn of a pile has a stretch of counts in one array, 2^bits of them.
    """

    def __init__(self, census: Census, seed: int, asked: dict[tuple[int, int], list]):
        """asked: (turn, pile) → stretches of tokens in which a border is looked for."""
        self.census, self.asked = census, asked
        piles = len(census.names)
        self.bits = np.zeros(piles, np.uint64)
        total = sum(count.documents for count in census.counts)
        each = min(max(_FEWEST_IN_A_COUNT, total // _MANY_COUNTS), _MOST_IN_A_COUNT)
        for k, count in enumerate(census.counts):
            self.bits[k] = min(max(count.documents // each, 1).bit_length() - 1, _MOST_BITS)
        self.shift = np.uint64(63) - self.bits
        numbers = sorted({turn for turn, _ in asked})
        self.turns = _turns(numbers, seed)
        # Of the piles in each turn: where their counts begin, -1 where they have none.
        self.first = np.full((len(numbers), piles), -1, np.int64)
        self.at: dict[tuple[int, int], int] = {}
        self.size = 0
        for turn, pile in sorted(asked):
            self.first[numbers.index(turn), pile] = self.at[turn, pile] = self.size
            self.size += 1 << int(self.bits[pile])

    def count(self, pool: Executor) -> np.ndarray:
        """Tokens of each count: int64 [size]."""

        def one(number: int) -> np.ndarray:
            records = self.census.segment(number)
            return self.turns.weigh(records, self.first, self.shift, self.size)

        return sum(
            ahead(pool, one, range(len(self.census.segments))), np.zeros(self.size, np.int64)
        )

    def gather(self, wanted: np.ndarray, pool: Executor) -> tuple[np.ndarray, np.ndarray]:
        """The documents of the wanted counts (bool [size]): records with their turns' keys, and
        their counts' places, in the order of both."""

        def one(number: int) -> tuple[np.ndarray, np.ndarray]:
            records = self.census.segment(number)
            return self.turns.gather(records, self.first, self.shift, wanted)

        parts, places = [np.empty(0, np.uint8)], [np.empty(0, np.int64)]
        for part, at in ahead(pool, one, range(len(self.census.segments))):
            parts.append(part)
            places.append(at)
        records, at = np.concatenate(parts).view(RECORD), np.concatenate(places)
        by = np.lexsort((records["place"], records["key"], at))
        return np.take(records, by), at[by]


class _Finder:
    """Finds the border at a number of tokens into a pile's row."""

    def __init__(self, weights: _Weights, pool: Executor):
        self.census, self.weights = weights.census, weights
        counts = weights.count(pool)
        self.sums: dict[tuple[int, int], np.ndarray] = {}  # before each count of a turn of a pile
        wanted = np.zeros(weights.size, bool)
        for (turn, pile), stretches in weights.asked.items():
            at = weights.at[turn, pile]
            n = 1 << int(weights.bits[pile])
            sums = np.concatenate([[0], np.cumsum(counts[at : at + n])])
            self.sums[turn, pile] = sums
            for low, high in stretches:
                a, b = np.searchsorted(sums, [low, high], side="right") - 1
                wanted[at + max(int(a), 0) : at + min(int(b), n - 1) + 1] = True
        self.records, self.at = weights.gather(wanted, pool)

    def find(self, pile: int, goal: int, since: Border, length: int) -> tuple[Border, int]:
        """The last border at or before `goal` tokens of a pile's row; it and its tokens.

        since: where the phase began; length: of its sequences.
        """
        size = self.census.counts[pile].tokens
        turn, tokens = divmod(goal, size)
        if not tokens:
            return Border(turn), goal
        sums = self.sums[turn, pile]
        bucket = int(np.searchsorted(sums, tokens, side="right")) - 1
        at = self.weights.at[turn, pile] + bucket
        low, high = np.searchsorted(self.at, [at, at + 1])
        documents = self.records[low:high]
        ends = int(sums[bucket]) + np.cumsum(documents["tokens"].astype(np.int64))
        k = int(np.searchsorted(ends, tokens, side="right"))
        document = documents[k]
        n = int(document["tokens"])
        before = int(ends[k]) - n
        here = Border(turn, int(document["key"]), int(document["place"]))
        begun = since.offset if (since.turn, since.key, since.place) == (
            here.turn, here.key, here.place
        ) else 0  # fmt: skip
        offset = begun
        if n - begun > length:
            spans = self.census.spans(document["place"].reshape(1))
            atomic = [
                (s - begun, m)
                for s, m in zip(spans.start.tolist(), spans.length.tolist(), strict=True)
            ]
            for start, piece in cut(n - begun, length, atomic):
                if before + begun + start + piece > tokens:
                    break
                offset = begun + start + piece
        border = Border(turn, here.key, here.place, offset)
        return border, turn * size + before + offset


def find_stretches(
    census: Census,
    wants: Sequence[np.ndarray],
    most: Sequence[int],
    lengths: Sequence[int],
    seed: int,
    pool: Executor,
) -> list[dict[int, Stretch]]:
    """The stretch of each pile (by its number in the census) that each phase takes.

    wants: by phase, the tokens of each pile (int64 [piles]); most: the tokens that all phases may
    take of each; lengths: of the phases' sequences, in tokens.
    """
    domains: dict[str, list[int]] = {}
    for pile in sorted(range(len(census.names)), key=lambda k: census.names[k]):
        domains.setdefault(census.names[pile][0], []).append(pile)
    asked: dict[tuple[int, int], list[tuple[int, int]]] = {}
    limits: list[dict[int, tuple[int, int]]] = []
    nominal = np.zeros(len(census.names), np.int64)
    for k, want in enumerate(wants):
        nominal += want
        slack = 2 * sum(lengths[: k + 1]) + lengths[k]  # how far carrying may have moved it
        limits.append({})
        for pile in np.flatnonzero(want).tolist():
            size = census.counts[pile].tokens
            low = max(int(nominal[pile]) - slack, 0)
            high = int(nominal[pile]) + slack
            # Epochs may end inside a piece; where nobody else has any left, it is taken whole.
            rounded = min(int(most[pile]) + lengths[k] - 1, -(-int(most[pile]) // size) * size)
            limits[k][pile] = (min(high, int(most[pile])), min(high, rounded))
            high = limits[k][pile][1]
            for turn in range(low // size, -(-high // size)):
                stretch = (max(low - turn * size, 0), min(high - turn * size, size))
                asked.setdefault((turn, pile), []).append(stretch)
    finder = _Finder(_Weights(census, seed, asked), pool)

    at = {pile: (Border(), 0) for pile in range(len(census.names))}
    phases = []
    for want, length, limit in zip(wants, lengths, limits, strict=True):
        found = {}
        for piles in domains.values():
            piles = [pile for pile in piles if want[pile]]
            start = {pile: at[pile] for pile in piles}
            missing = 0
            # Twice: what the last ones could not give, the first may have.
            for again, share in enumerate((want, np.zeros_like(want))):
                for pile in piles:
                    missing += int(share[pile])
                    have = at[pile][1]
                    goal = min(have + missing, limit[pile][again])
                    if goal > have:
                        at[pile] = finder.find(pile, goal, start[pile][0], length)
                        missing -= at[pile][1] - have
            for pile in piles:
                tokens = at[pile][1] - start[pile][1]
                found[pile] = Stretch(start[pile][0], at[pile][0], tokens)
        phases.append(found)
    return phases


@dataclass(frozen=True)
class Parts:
    """Documents, or stretches of them: their places, first tokens, and how many: arrays [parts].

    place: uint64; start, tokens: int32.
    """

    place: np.ndarray
    start: np.ndarray
    tokens: np.ndarray


def join(parts: Sequence[Parts]) -> Parts:
    """Parts one after the other; at least one."""
    if len(parts) == 1:
        return parts[0]
    names = [entry.name for entry in fields(Parts)]
    return Parts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Selection:
    """The documents of one phase, picked out of any records of the census."""

    def __init__(self, stretches: dict[int, Stretch], piles: int, seed: int):
        self._whole = np.zeros(piles, np.int64)  # turns that are taken from end to end: how many
        # By turn of which a part is taken: of each pile, from where and up to where.
        partial: dict[int, np.ndarray] = {}
        nothing = np.array([1, 0, 0, 0, 0, 0], np.uint64)  # from key 1 to key 0
        for pile, stretch in stretches.items():
            a, b = stretch.start, stretch.stop
            for turn in range(a.turn, b.turn + 1):
                ends = turn == b.turn
                if ends and b == Border(b.turn):
                    continue
                low = a if turn == a.turn else Border(turn)
                if low == Border(turn) and not ends:
                    self._whole[pile] += 1
                    continue
                high = b if ends else Border(turn, _TOP, _TOP)
                bounds = partial.setdefault(turn, np.tile(nothing, (piles, 1)))
                bounds[pile] = [low.key, low.place, low.offset, high.key, high.place, high.offset]
        turns = sorted(partial)
        self._turns = _turns(turns, seed)
        self._bounds = np.concatenate(
            [np.empty((0, 6), np.uint64), *(partial[turn] for turn in turns)]
        )

    def pick(self, records: np.ndarray) -> tuple[Parts, np.ndarray]:
        """What the phase takes of records (as bytes), in their order, turn after turn.

        Also how many documents of each pile: int64 [piles].
        """
        *parts, documents = self._turns.pick(records, self._whole, self._bounds)
        return Parts(*parts), documents
