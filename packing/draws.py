"""Random choices that belong to things, not to moments.

Every choice in this room is a function of a seed and of the name of what is chosen for: a
document's id, a sequence's number. So it is the same whatever the number of workers, the order of
the files or the number of restarts, and nothing has to be saved to go on.

Single draws hash the name (`draw`). Where millions of documents are drawn for, their ids are hashed
already: `id_keys` folds the digits of each into 64 bits, and `draws` mixes those with the seed and
the purpose, in a few nanoseconds a document.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from packing.columns import numbers


def draw(seed: int, *name: str | int) -> int:
    """A 64-bit number for a thing: xxh3-64 of its name under the seed."""
    return xxhash.xxh3_64_intdigest("\x1f".join(map(str, name)).encode(), seed=seed % 2**64)


def draw_fraction(seed: int, *name: str | int) -> float:
    """A number in [0, 1) for a thing."""
    return (draw(seed, *name) >> 11) / (1 << 53)


def draw_many(seed: int, purpose: str, names: list[str]) -> np.ndarray:
    """`draw(seed, purpose, name)` for each name: uint64 [names]."""
    prefix = f"{purpose}\x1f"
    seed %= 2**64
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter(
        (digest((prefix + name).encode(), seed=seed) for name in names), np.uint64, len(names)
    )


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's mixing of uint64 numbers: every bit in moves every bit out (a bijection).

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), figure 5.
    """
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


# Odd, and otherwise of no meaning: the binary digits of pi.
_FOLDS = np.array(
    [0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89], np.uint64
)
_BLOCK = 1 << 14  # names at a time, so that what lies between two steps stays in the cache


def id_keys(ids: pa.Array) -> np.ndarray:
    """64 bits of each document's id: uint64 [ids].

    ids: strings without nulls; their 32 hexadecimal digits, as four little-endian words, are each
    multiplied by a constant, added up and mixed. An id of another length stands for its xxh3-128.
    """
    ids = ids.cast(pa.large_binary())
    sizes = numbers(pc.binary_length(ids))
    if len(sizes) and (sizes.min() != 32 or sizes.max() != 32):
        other = [
            i if len(i) == 32 else xxhash.xxh3_128_hexdigest(i).encode() for i in ids.to_pylist()
        ]
        ids = pa.array(other, pa.large_binary())
    if not len(ids):
        return np.empty(0, np.uint64)
    start = np.frombuffer(ids.buffers()[1], np.int64, 1, ids.offset * 8)[0]
    words = np.frombuffer(ids.buffers()[2], "<u8", 4 * len(ids), start).reshape(-1, 4)
    keys = np.empty(len(ids), np.uint64)
    for at in range(0, len(ids), _BLOCK):
        block = words[at : at + _BLOCK]
        total = block[:, 0] * _FOLDS[0]
        for k in (1, 2, 3):
            total += block[:, k] * _FOLDS[k]
        keys[at : at + _BLOCK] = mix(total)
    return keys


def draws(keys: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """A 64-bit number for each document: uint64, of the shape of its `keys` (`id_keys`)."""
    under = np.uint64(draw(seed, purpose))
    drawn = np.empty(len(keys), np.uint64)
    for at in range(0, len(keys), _BLOCK):
        drawn[at : at + _BLOCK] = mix(keys[at : at + _BLOCK] + under)
    return drawn


def fractions(drawn: np.ndarray) -> np.ndarray:
    """Draws as numbers in [0, 1): float64, of the same shape."""
    return (drawn >> np.uint64(11)).astype(np.float64) / (1 << 53)


class Permutation:
    """A shuffle of 0 … n-1 that can be asked for any position without making the rest.

    A Feistel network over the smallest even number of bits that holds n, walked until the value
    falls below n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): a bijection
    whatever the round function is, walked back by the same rounds in the other order. At most four
    steps are expected for each position.
    """

    _ROUNDS = 6

    def __init__(self, n: int, seed: int, name: str):
        """n: how many positions; seed and name: which of the shuffles."""
        self.n = n
        self._half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
        self._keys = [draw(seed, "permutation", name, r) for r in range(self._ROUNDS)]

    def __getitem__(self, position: int) -> int:
        """The value at a position; raises IndexError outside 0 … n-1."""
        return int(self.many(np.array([position]))[0])

    def index(self, value: int) -> int:
        """The position of a value; raises IndexError outside 0 … n-1."""
        return int(self.index_many(np.array([value]))[0])

    def many(self, positions: np.ndarray) -> np.ndarray:
        """The values at positions: int64, of the same shape; raises IndexError as above."""
        return self._walk(positions, "position", self._encrypt)

    def index_many(self, values: np.ndarray) -> np.ndarray:
        """The positions of values: int64, of the same shape; raises IndexError as above."""
        return self._walk(values, "value", self._decrypt)

    def _walk(self, given: np.ndarray, what: str, step) -> np.ndarray:
        given = np.asarray(given, np.int64)
        if given.size and not 0 <= int(given.min()) <= int(given.max()) < self.n:
            bad = next(int(x) for x in (given.min(), given.max()) if not 0 <= x < self.n)
            raise IndexError(f"{what} {bad} is outside 0 … {self.n - 1}")
        values = step(given.astype(np.uint64).ravel())
        outside = np.flatnonzero(values >= self.n)
        while len(outside):
            again = step(values[outside])
            values[outside] = again
            outside = outside[again >= self.n]
        return values.astype(np.int64).reshape(given.shape)

    def _encrypt(self, values: np.ndarray) -> np.ndarray:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in self._keys:
            left, right = right, left ^ (mix(right + np.uint64(key)) & mask)
        return (left << half) | right

    def _decrypt(self, values: np.ndarray) -> np.ndarray:
        half, mask = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = values >> half, values & mask
        for key in reversed(self._keys):
            left, right = right ^ (mix(left + np.uint64(key)) & mask), left
        return (left << half) | right
