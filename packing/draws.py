"""Random choices that belong to things, not to moments.

Every choice in this room is a function of a seed and of the name of what is chosen for: a
document's id, a sequence's number. So it is the same whatever the number of workers, the order of
the files or the number of restarts, and nothing has to be saved to go on.
"""

import numpy as np
import xxhash


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


class Permutation:
    """A shuffle of 0 … n-1 that can be asked for any position without making the rest.

    A Feistel network over the smallest even number of bits that holds n, walked until the value
    falls below n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002): a bijection
    whatever the round function is. At most four steps are expected for each position.
    """

    _ROUNDS = 6

    def __init__(self, n: int, seed: int, name: str):
        """n: how many positions; seed and name: which of the shuffles."""
        self.n = n
        self._half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
        self._keys = [draw(seed, "permutation", name, r) for r in range(self._ROUNDS)]

    def __getitem__(self, position: int) -> int:
        """The value at a position; raises IndexError outside 0 … n-1."""
        if not 0 <= position < self.n:
            raise IndexError(f"position {position} is outside 0 … {self.n - 1}")
        value = position
        while True:
            value = self._encrypt(value)
            if value < self.n:
                return value

    def _encrypt(self, value: int) -> int:
        mask = (1 << self._half) - 1
        left, right = value >> self._half, value & mask
        for key in self._keys:
            # SplitMix64's mixing: every bit of the right half moves every bit of the sum.
            x = (right + key) * 0x9E3779B97F4A7C15 % 2**64
            x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
            left, right = right, left ^ ((x ^ (x >> 31)) & mask)
        return (left << self._half) | right
