"""The language of each label of a batch: that of the document which its token stands in.

A loss by language needs no batches of one language: the loader's `document_ids` say which piece of
its row a token is of, the plan which document the piece is of, and the document's table its
language. Meant for validation sets, whose documents are looked up once, all together.
"""

from pathlib import Path

import numpy as np
import torch

from packing.loader import Loader
from packing.trace import name_documents

UNKNOWN = "unknown"


class LabelLanguages:
    """`names`: the languages of a loader's documents, sorted; calling it gives a batch's numbers.

    A document without a language has the name "unknown".
    """

    def __init__(self, loader: Loader, stems: list[Path]) -> None:
        """stems: the plan's shards, in its order. Raises ValueError if they are damaged."""
        self._loader = loader
        pieces = [p for position in range(len(loader)) for p in loader.pieces(position)]
        documents = {(piece["shard"], piece["document"]) for piece in pieces}
        found = name_documents(stems, documents)
        language = {key: row["language"] or UNKNOWN for key, row in found.items()}
        self.names: tuple[str, ...] = tuple(sorted(set(language.values())))
        number = {name: i for i, name in enumerate(self.names)}
        self._number = {key: number[name] for key, name in language.items()}

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Numbers of languages, places in `names`, int64 [b, L]; -1 where there is no label."""
        out = torch.full_like(batch["labels"], -1)
        for row, position in enumerate(batch["sequence_index"].tolist()):
            pieces = self._loader.pieces(position)
            numbers = [self._number[piece["shard"], piece["document"]] for piece in pieces]
            # The label of a place is the next token; past the last piece is padding.
            following = batch["document_ids"][row, 1:].long()
            out[row, :-1] = torch.from_numpy(np.array([*numbers, -1], np.int64))[following]
        return out.masked_fill(batch["labels"] < 0, -1)
