"""How other projects write a code, in both directions: text or a list of numbers <-> a row of `int32[N, L]`.

    <a_12><b_7>                                  LC-Rec, LETTER, MiniOneRec and most of their descendants
    <|sid_begin|><s_a_12><s_b_7><|sid_end|>      OpenOneRec
    [12, 7]                                      OpenOneRec's mapping tables, and the `.sem_ids` of RPG

Codes of one file may differ in length, as long as none is the beginning of another: behind such a code nobody could
tell whether the item is complete.
"""

from __future__ import annotations

import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmrec.errors import ArtifactError, DataError
from llmrec.indexes.base import END

LETTERS = string.ascii_lowercase
MOST_CODE = 10**9 - 1
BEGIN, ENDING = "<|sid_begin|>", "<|sid_end|>"

PLAIN = r"<[a-z]_\d{1,9}>"
MARKED = r"<s_[a-z]_\d{1,9}>"
WHOLE_CODE = rf"^({PLAIN}( ?{PLAIN})*|{MARKED}( ?{MARKED})*|<\|sid_begin\|> ?{MARKED}( ?{MARKED})* ?<\|sid_end\|>)$"
ONE_TOKEN = r"<(?:s_)?([a-z])_(\d+)>"
BESIDES_TOKENS = r"<\|sid_begin\|>|<\|sid_end\|>| "

Codes = NDArray[np.int32]


def require_letters(levels: int) -> None:
    """Raise `ArtifactError` where there are more levels than letters to write them with."""
    if levels > len(LETTERS):
        raise ArtifactError(f"an index of {levels} levels; at most {len(LETTERS)} can be written.")


class Spelled:
    """The codes of a file as it writes them, with what a message about one of them needs.

    Args:
        codes: `N` texts, or `N` lists of whole numbers.
        item_ids: `N` ids.
        where: the file.
    """

    def __init__(self, codes: pa.ChunkedArray, item_ids: pa.ChunkedArray, where: str) -> None:
        self.codes, self.item_ids, self.where = codes, item_ids, where

    def parse(self) -> Codes:
        """The numbers, `int32[N, L]`, `END` behind a shorter code.

        Raises:
            DataError: a code is malformed, or the beginning of another.
        """
        if pa.types.is_list(self.codes.type):
            lengths, numbers = self._numbers_of_lists()
        else:
            lengths, numbers = self._numbers_of_texts()
        codes = np.full((len(lengths), int(lengths.max(initial=0))), END, np.int32)
        codes[np.arange(codes.shape[1]) < lengths[:, None]] = numbers
        self._refuse_beginnings(codes)
        return codes

    def _numbers_of_texts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        well_formed = pc.fill_null(pc.match_substring_regex(self.codes, WHOLE_CODE), False)
        self._refuse(_mask(pc.invert(well_formed)), "tokens such as '<a_12><b_7>' and nothing else")
        tokens = pc.replace_substring_regex(self.codes, BESIDES_TOKENS, "")
        letters = pc.replace_substring_regex(tokens, ONE_TOKEN, r"\1")
        in_order = pc.is_in(letters, value_set=pa.array([LETTERS[:levels] for levels in range(1, len(LETTERS) + 1)]))
        self._refuse(_mask(pc.invert(in_order)), "one number a level, and the levels a, b, c ... in this order")
        spaced = pc.utf8_rtrim_whitespace(pc.replace_substring_regex(tokens, ONE_TOKEN, r"\2 "))
        numbers = pc.list_flatten(pc.split_pattern(spaced, " ")).cast(pa.int64())
        return np.asarray(pc.utf8_length(letters).to_numpy(), np.int64), np.asarray(numbers.to_numpy(), np.int64)

    def _numbers_of_lists(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        expected = f"a list of 1 to {len(LETTERS)} whole numbers from 0 to {MOST_CODE}"
        if not pa.types.is_integer(self.codes.type.value_type):
            raise DataError(
                f"the codes are lists of {self.codes.type.value_type}.",
                where=self.where,
                column="sid",
                fix=f"Expected {expected}.",
            )
        lengths = np.asarray(pc.fill_null(pc.list_value_length(self.codes), 0).to_numpy(), np.int64)
        self._refuse((lengths < 1) | (lengths > len(LETTERS)), expected)
        flat = pc.list_flatten(self.codes)
        bad = _mask(pc.fill_null(pc.or_(pc.less(flat, 0), pc.greater(flat, MOST_CODE)), True))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        wrong = np.zeros(len(lengths), bool)
        wrong[rows[bad]] = True
        self._refuse(wrong, expected)
        return lengths, np.asarray(flat.cast(pa.int64()).to_numpy(), np.int64)

    def _refuse_beginnings(self, codes: Codes) -> None:
        if not (codes == END).any():
            return
        order = np.lexsort(codes.T[::-1])  # END is the smallest, so a code stands right before those that it begins
        first, second = codes[order[:-1]], codes[order[1:]]
        begins = ((first == second) | (first == END)).all(axis=1) & (first != second).any(axis=1)
        if (found := np.flatnonzero(begins)).size:
            short, long = int(order[found[0]]), int(order[found[0] + 1])
            raise DataError(
                f"the code {self._show(short)} of item '{self._id(short)}' is the beginning of the code "
                f"{self._show(long)} of item '{self._id(long)}'.",
                where=self.where,
                row=short,
                column="sid",
                fix="Give all items codes of one length, or end shorter ones with a number that no other has there.",
            )

    def _refuse(self, wrong: NDArray[np.bool_], expected: str) -> None:
        if (bad := np.flatnonzero(wrong)).size:
            row = int(bad[0])
            raise DataError(
                f"item '{self._id(row)}' has the code {self._show(row)} ({len(bad)} such codes); expected {expected}.",
                where=self.where,
                row=row,
                column="sid",
                fix="Correct or drop these rows.",
            )

    def _show(self, row: int) -> str:
        text = repr(self.codes[row].as_py())
        return text if len(text) <= 80 else f"{text[:80]}..."

    def _id(self, row: int) -> str:
        return str(self.item_ids[row].as_py())


def token_texts(
    codes: Codes,
    opening: str = "<",
    closing: str = ">",
    *,
    before: str = "",
    between: str = "",
    after: str = "",
    letters: bool = True,
) -> pa.Array:
    """The codes as tokens, `N` strings.

    Args:
        codes: `int32[N, L]`, at most 26 levels.
        opening: how a token begins: `<` for `<a_12>`, `<s_` for `<s_a_12>`. closing: how it ends.
        before: stands before the first token. between: between two tokens. after: behind the last one.
        letters: whether a token names its level, or is a number alone.
    """
    columns = []
    for level in range(codes.shape[1]):
        numbers = pa.array(codes[:, level], mask=codes[:, level] == END).cast(pa.string())
        name = f"{LETTERS[level]}_" if letters else ""
        columns.append(pc.binary_join_element_wise(f"{opening}{name}", numbers, closing, ""))
    joined = pc.binary_join_element_wise(*columns, between, null_handling="skip")
    return pc.binary_join_element_wise(before, joined, after, "")


def number_lists(codes: Codes) -> pa.Array:
    """The codes as lists of numbers, `N` of `list<int64>`."""
    here = codes != END
    offsets = np.concatenate([[0], here.sum(axis=1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[here], pa.int64()))


def _mask(values: pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), bool)
