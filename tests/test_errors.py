"""What says that memory ran out, among the errors of Python and torch."""

from __future__ import annotations

import pytest
import torch

from reproduce.errors import out_of_memory


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("Cannot allocate memory"), False),
    ],
)
def test_which_errors_say_that_memory_ran_out(error: BaseException, said: bool) -> None:
    assert out_of_memory(error) is said


def test_torch_on_a_cpu_says_so_in_words_alone() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(1 << 58)
    assert out_of_memory(caught.value)
