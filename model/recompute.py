"""Tensors that are made again in the backward pass instead of being kept for it.

Section 3.2.3 of the DeepSeek-V3 report recomputes every RMSNorm and the up-projections of latent
attention: their results are large, and cheap to make from what is kept anyway. Here a layer says
how a result is made (`made_by`), and while `remaking` is open autograd keeps that recipe wherever
it would keep the result. The recipe runs the same operations on the same numbers, so gradients are
equal to the last bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

Recipe = Callable[[], Tensor]
# By address: the recipe, and the tensor itself, so that nothing else can take its address.
_recipes: ContextVar[dict[int, tuple[Recipe, Tensor]] | None] = ContextVar("recipes", default=None)


@dataclass
class _Remade:
    """What autograd keeps: a recipe, and which view of its result was meant."""

    recipe: Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@contextmanager
def remaking() -> Iterator[None]:
    """While open, autograd saves recipes in place of the tensors that `made_by` was told of."""
    recipes: dict[int, tuple[Recipe, Tensor]] = {}

    def pack(saved: Tensor) -> Tensor | _Remade:
        found = recipes.get(saved.untyped_storage().data_ptr())
        if found is None:
            return saved
        return _Remade(found[0], saved.size(), saved.stride(), saved.storage_offset())

    def unpack(kept: Tensor | _Remade) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return kept.recipe().as_strided(kept.size, kept.stride, kept.offset)

    token = _recipes.set(recipes)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        _recipes.reset(token)
        recipes.clear()  # autograd keeps the hooks, which must not keep the results


def is_remaking() -> bool:
    """Whether `remaking` is open."""
    return _recipes.get() is not None


def made_by(recipe: Recipe, result: Tensor) -> Tensor:
    """Give `result` back; while `remaking` is open, `recipe` is kept instead of it.

    The recipe must give the same numbers in the same layout, from tensors that stay as they are
    until the backward pass, and must not hold `result`.
    """
    recipes = _recipes.get()
    if recipes is not None:
        recipes[result.untyped_storage().data_ptr()] = recipe, result
    return result


def recipe_of(result: Tensor) -> Recipe:
    """How `result` is made again, for recipes that begin with it; itself where nothing says how."""
    found = (_recipes.get() or {}).get(result.untyped_storage().data_ptr())
    return found[0] if found else lambda: result
