"""Which volume is obviously meant for which channel, by name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

# Names that mean the same, in lower case; the first is what the others are read as.
_SAME = (
    ("t1ce", "t1c", "t1gd", "t1post", "t1ge", "t1wce"),
    ("t1", "t1w"),
    ("t2", "t2w"),
    ("flair", "t2flair", "t2f", "fl"),
    ("ct", "cta", "cect"),
    ("pet", "suv"),
    ("adc",),
    ("dwi",),
)
_READ = {name: group[0] for group in _SAME for name in group}


_WORD = r"[a-z]+\d*[a-z]*|\d+"


def words_of(name: str) -> set[str]:
    """The words of a volume's or channel's name, synonyms read as one."""
    words = re.findall(_WORD, name.casefold())
    joined = ["".join(pair) for pair in itertools.pairwise(words)]
    return {_READ.get(word, word) for word in (*words, *(j for j in joined if j in _READ))}


def match_channels(channels: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """For each channel the index of the one volume that is obviously meant, else None.

    One channel and one volume need no name. Otherwise exactly one volume must carry the channel's
    word, and a volume goes to one channel only.
    """
    if len(channels) == 1 and len(names) == 1:
        return [0]
    spoken = [words_of(name) for name in names]
    found: list[int | None] = []
    for channel in channels:
        wanted = words_of(channel)
        fitting = [i for i, words in enumerate(spoken) if wanted and wanted <= words]
        if "t1" in wanted and "t1ce" not in wanted:
            fitting = [i for i in fitting if "t1ce" not in spoken[i]]
        if "t2" in wanted and "flair" not in wanted:
            fitting = [i for i in fitting if "flair" not in spoken[i]]
        found.append(fitting[0] if len(fitting) == 1 else None)
    return [i if i is not None and found.count(i) == 1 else None for i in found]


def cases_of(channels: Sequence[str], names: Sequence[str]) -> dict[str, list[int | None]]:
    """Volumes that belong together, by what is left of their names without the channel's words.

    `["A_T1", "A_T2", "B_T1", "Atlas"]` for T1 and T2 gives `{"a": [0, 1], "b": [2, None]}`: for
    each case and channel the index of its volume; None where no volume, or more than one, is meant.
    A volume whose name holds no channel belongs to no case.
    """
    members: dict[str, list[list[int]]] = {}
    for index, name in enumerate(names):
        fitting = [n for n, c in enumerate(channels) if match_channels([c, ""], [name])[0] == 0]
        if fitting:
            # Of T1 and "T1 fat", "T1 fat" is meant by the name that has both words.
            best = max(fitting, key=lambda n: len(words_of(channels[n])))
            case = _without(name, words_of(channels[best]))
            members.setdefault(case, [[] for _ in channels])[best].append(index)
    return {
        case: [found[0] if len(found) == 1 else None for found in by_channel]
        for case, by_channel in members.items()
    }


def _without(name: str, words: set[str]) -> str:
    """The words of `name` other than those, in their order."""
    spoken = re.findall(_WORD, name.casefold())
    kept: list[str] = []
    skip = False
    for word, following in itertools.zip_longest(spoken, spoken[1:], fillvalue=""):
        if skip or _READ.get(word, word) in words:
            skip = False
        elif _READ.get(word + following) in words:
            skip = True
        else:
            kept.append(word)
    return " ".join(kept)
