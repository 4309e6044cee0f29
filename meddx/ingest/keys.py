"""Keys of two sources in; digests to find them by, pseudonyms to show, and why none of them meet, out."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PART = "\x1f"  # stands between the parts of a key of several columns; no text of an archive holds it
EXAMPLES = 5
_SALT = secrets.token_bytes(16)  # of this process only: nobody can try all ids against a pseudonym


def key_texts(table: pa.Table, columns: Sequence[str]) -> pa.Array:
    """string [n]: the key of each row, null where one of its parts is missing.  The columns are texts."""
    parts = [_one(table.column(name).cast(pa.string())) for name in columns]
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, PART, null_handling="emit_null")


def _one(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def digests(texts: pa.Array) -> np.ndarray:
    """S16 [n]: a 128-bit digest of each text, so equal digests mean equal texts; empty for null."""
    joined = b"".join(
        hashlib.blake2b(text.encode(), digest_size=16).digest() if text is not None else bytes(16) for text in texts.to_pylist()
    )
    return np.frombuffer(joined, "S16")


def pseudonym(key: str) -> str:
    """A keyed digest and the shape of a key, such as `3fa9c1d0 (6 digits)`: it tells what a key looks like and never which it is."""
    digest = hashlib.blake2b(key.encode(), digest_size=4, key=_SALT).hexdigest()
    return f"{digest} ({shape(key)})"


def shape(key: str) -> str:
    """`2 letters, 6 digits` for AB123456; runs beyond the fourth are only counted."""
    kinds = [(kind, sum(1 for _ in run)) for kind, run in itertools.groupby(key, _kind)]
    told = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds[:4]]
    return ", ".join(told + ([f"{len(kinds) - 4} more runs"] if len(kinds) > 4 else []))


def _kind(mark: str) -> str:
    if mark.isdigit():
        return "digit"
    return "letter" if mark.isalpha() else "blank" if mark.isspace() else "sign"


CAUSES: tuple[tuple[str, Callable[[str], str], str], ...] = (
    ("surrounding spaces", lambda key: key.strip(), "write the keys without blanks around them"),
    ("leading zeros, such as 0012 and 12", lambda key: re.sub(r"^0+(?=.)", "", key), "write the key in the same way in both sources"),
    ("a decimal part, such as 12.0 and 12", lambda key: re.sub(r"\.0*$", "", key), "export the key as a whole number or as text"),
    ("upper and lower case", lambda key: key.casefold(), "write the key in the same case in both sources"),
)


def cause_of_no_match(ours: Iterable[str], theirs: Iterable[str]) -> tuple[str, str] | None:
    """(what tells the keys of the two sides apart, what to do) for the rule under which most keys meet; None when none does."""
    ours, theirs = list(ours), list(theirs)
    best: tuple[int, str, str] = (0, "", "")
    for what, rule, advice in CAUSES:
        met = _met(ours, theirs, rule)
        if met > best[0]:
            best = (met, what, advice)
    if best[0]:
        return f"{best[1]}: without that {best[0]:,} keys would meet", best[2]

    def all_rules(key: str) -> str:
        for _, rule, _ in CAUSES:
            key = rule(key)
        return key

    met = _met(ours, theirs, all_rules)
    if met:
        return f"several things at once (blanks, leading zeros, a decimal part, case): without them {met:,} keys would meet", CAUSES[1][2]
    return None


def _met(ours: Sequence[str], theirs: Sequence[str], rule: Callable[[str], str]) -> int:
    def whole(key: str) -> str:
        return PART.join(rule(part) for part in key.split(PART))

    return len({whole(key) for key in ours} & {whole(key) for key in theirs})
