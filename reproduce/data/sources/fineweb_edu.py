"""FineWeb-Edu, the paper's web text of its largest models (v2 Appendix D).

HuggingFaceFW/fineweb-edu has samples drawn at random from all of it, which suffice: the paper's runs read 5.9 billion
tokens (7B) and 90 billion (1.2B).

    data.subset      tokens      enough for
    sample-10BT      10 billion  the 7B model, and anything smaller; the default
    sample-100BT     100 billion the 1.2B model
    sample-350BT     350 billion

Text streams by and only tokens are stored, two bytes each; `data.train_tokens` ends the preparation where a run has
enough. The authors' vocabulary is not stated; here it is a byte-level BPE of `data.vocab_size` tokens, trained on it.
"""

from __future__ import annotations

from reproduce.config import TextData
from reproduce.data.sources.hub_text import HubDataset, HubSource

DATASET = "HuggingFaceFW/fineweb-edu"
REVISION = "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"
SUBSET = "sample-10BT"


class FineWebEdu(HubSource):
    """A sample of FineWeb-Edu, or a copy of it in `data.path`."""

    def __init__(self, data: TextData) -> None:
        super().__init__(data, HubDataset(DATASET, REVISION, data.subset or SUBSET))
