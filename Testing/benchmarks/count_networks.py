"""Writes the table of all networks: parameters and multiply-accumulates (`results/networks.md`)."""

from __future__ import annotations

from pathlib import Path

from mednext_engine.networks.flops import CLASSES, PATCH, count_all

RESULTS = Path(__file__).with_name("results") / "networks.md"


def table() -> str:
    """The networks in Markdown."""
    size = " x ".join(map(str, PATCH))
    lines = [
        "# Networks",
        "",
        f"1 input channel, {CLASSES} classes, no deep-supervision heads. GMAC: 10^9 "
        f"multiply-accumulates of the convolutions for {size} voxels, a transposed one counted "
        "per input voxel (the papers' GFLOPs).",
        "",
        "| network | key | kernel | parameters | GMAC | |",
        "|---|---|---|---|---|---|",
    ]
    for row in count_all():
        origin = "published" if row["paper"] else "our own"
        lines.append(
            f"| {row['name']} | `{row['key']}` | {row['kernel_size']} | {row['parameters']:,} "
            f"| {row['gmacs']:.1f} | {origin} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(table(), encoding="utf-8")
    print(table())
