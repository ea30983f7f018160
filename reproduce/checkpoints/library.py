"""What stops `transformers`, in one sentence, and its own words kept away from the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from reproduce.errors import OfeError, out_of_memory


@contextlib.contextmanager
def explained(name: str, *, trust_remote_code: bool, part: str = "") -> Iterator[None]:
    """Turn what stops `transformers` into an `OfeError` about the checkpoint `name`, or a `part` of it."""
    try:
        yield
    except OfeError:
        raise
    except Exception as error:  # any error of any loader: the library passes on those of every format
        if out_of_memory(error):
            hint = "pass --dtype bfloat16, or a smaller --batch"
            raise OfeError(f"{name} does not fit into the memory", hint=hint) from error
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "trust_remote_code" in str(error) and not trust_remote_code:
            raise OfeError(
                f"{name} brings code of its own, which would have to be run",
                hint="read that code, and pass --trust-remote-code if you trust it",
                exit_code=2,
            ) from error
        again = "copy the checkpoint again from where it came"
        if "ignore_mismatched_sizes" in str(error):  # an option of the library, which would make such weights random
            raise OfeError(f"the weights of {name} have other shapes than its config.json says", hint=again) from error
        if isinstance(error, LookupError | AttributeError | TypeError):  # whose text says nothing by itself
            said = f"{type(error).__name__}: {said}"
        if part:
            hint = f"{again}, or give token indices with --text-ids FILE"
            raise OfeError(f"{part} of {name} cannot be read ({said.rstrip('.')[:200]})", hint=hint) from error
        raise OfeError(
            f"{name} cannot be opened: {said.rstrip('.')[:200]}", hint="check that `transformers` can load it"
        ) from error


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep the progress bars and reports of `transformers` away from the terminal."""
    from transformers import modeling_gguf_pytorch_utils as gguf
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    bar = getattr(gguf, "tqdm", None)  # of its own, which that setting does not reach
    gguf.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        gguf.tqdm = bar
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
