"""Less memory for a step: gradient checkpointing first, then a smaller batch, then a smaller patch.

Checkpointing comes first because its result is the same. It is taken by level, finest first, as
most of the memory is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from ..networks.mednext import MedNeXt, MedNeXtBlock
from .recipe import Checkpointing, Recipe

STRONGER: tuple[Checkpointing, ...] = (None, "finest", "expansion", "block")
SMALLEST_SIDE = 32
SIDE_STEP = 16


def set_checkpointing(network: nn.Module, kind: Checkpointing) -> None:
    """Switches gradient checkpointing of a MedNeXt; other networks stay as they are."""
    for module in network.modules():
        if isinstance(module, MedNeXtBlock):
            module.checkpointing = "expansion" if kind == "finest" else kind
    if kind != "finest":
        return
    for module in network.modules():
        if isinstance(module, MedNeXt):
            for block in _coarse_blocks(module):
                block.checkpointing = None


def _coarse_blocks(network: MedNeXt) -> Iterator[MedNeXtBlock]:
    encoder, decoder = network.encoder, network.decoder
    parts = [*list(encoder.stages)[1:], *encoder.down, *list(decoder.up)[:-1]]
    for part in [*parts, *list(decoder.stages)[:-1]]:
        for module in part.modules():
            if isinstance(module, MedNeXtBlock):
                yield module


def steps_down(network: nn.Module, recipe: Recipe) -> Iterator[tuple[Recipe, str]]:
    """Recipes that need less and less memory, each with a sentence that says what it changes."""
    if any(isinstance(module, MedNeXtBlock) for module in network.modules()):
        for kind in STRONGER[STRONGER.index(recipe.checkpointing) + 1 :]:
            recipe = replace(recipe, checkpointing=kind)
            yield recipe, f"Gradient checkpointing ({kind}) saves memory; each step takes longer."
    while recipe.batch_size > 1:
        recipe = replace(recipe, batch_size=recipe.batch_size // 2)
        yield recipe, f"The batch is {recipe.batch_size} now, to fit the memory."
    while max(recipe.patch_size) > SMALLEST_SIDE:
        sides = list(recipe.patch_size)
        longest = sides.index(max(sides))
        smaller = (sides[longest] - 1) // SIDE_STEP * SIDE_STEP
        sides[longest] = max(smaller, SMALLEST_SIDE)
        recipe = replace(recipe, patch_size=(sides[0], sides[1], sides[2]))
        yield recipe, f"The patch is {sides[0]} x {sides[1]} x {sides[2]} now, to fit the memory."
