"""Books in the public domain: what stands in for Languini Books, a part of books3 that can no longer be had.

The English books of Project Gutenberg as the Common Pile keeps them, common-pile/project_gutenberg_filtered (Kandpal et
al., arXiv 2506.05209): selected by language and licence, boilerplate removed, filtered for bad OCR, and freed of near
duplicates. Chosen over the other copies of Project Gutenberg on the hub because how it was made is published, and over
the larger collections of scanned books (Internet Archive, Library of Congress) because people have proofread its text.

It differs from Languini Books in more than its books. They are older, fewer, and of another mix of genres, and the
vocabulary is a byte-level BPE of the same size trained on them, not Languini's SentencePiece model. Losses and
perplexities of the two do not compare; what is compared is blocks and optimisers with one another.
"""

from __future__ import annotations

from reproduce.config import TextData
from reproduce.data.sources.hub_text import HubDataset, HubSource

DATASET = HubDataset("common-pile/project_gutenberg_filtered", "3cdf6879c807f4e4e063f2ceb23bc268d8c29ab7")


class PublicDomainBooks(HubSource):
    """Project Gutenberg's English books, or a copy of the dataset in `data.path`."""

    def __init__(self, data: TextData) -> None:
        super().__init__(data, DATASET)
