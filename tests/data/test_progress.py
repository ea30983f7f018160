from __future__ import annotations

import os

from reproduce.data.progress import LeftOut, described, from_meta, left_out, to_meta


def test_what_was_left_out_is_a_sentence_with_a_few_names() -> None:
    one, two = left_out("files", 3, {"not UTF-8": ["a.txt"], "blank": ["c", "b"], "unread": []})
    assert str(one) == "1 of 3 files is not UTF-8 and is left out: a.txt"
    assert str(two) == "2 of 3 files are blank and are left out: b, c"
    many = left_out("files", 3_000, {"not UTF-8": [f"{number:04}.txt" for number in range(1_234)]})[0]
    assert str(many) == (
        "1,234 of 3,000 files are not UTF-8 and are left out: 0000.txt, 0001.txt, 0002.txt and 1,231 more"
    )
    assert str(LeftOut("training documents", "without text", 1, 3_001)) == (
        "1 of 3,001 training documents is without text and is left out"
    )


def test_a_name_that_is_no_text_can_be_shown_and_stored() -> None:
    (one,) = left_out("files", 2, {"not UTF-8": [os.fsdecode(b"caf\xe9.txt")]})
    assert str(one).endswith(r"caf\xe9.txt")
    str(one).encode()


def test_the_description_says_what_is_lost_and_not_what_is_usual() -> None:
    left = [*left_out("files", 3, {"not UTF-8": ["a"]}), *left_out("files", 9, {"of another type": ["b"]}, lost=False)]
    assert described("text files of x", left) == "text files of x, without 1 of 3 files (not UTF-8)"
    assert described("text files of x", []) == "text files of x"


def test_meta_keeps_all_of_it() -> None:
    left = left_out("files", 3, {"not UTF-8": ["a"], "blank": ["b", "c"]})
    assert [str(one) for one in from_meta({"left_out": to_meta(left)})] == [str(one) for one in left]
    assert from_meta({"schema": 1}) == []
