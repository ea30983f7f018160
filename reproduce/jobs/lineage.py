"""Where a job finds the training that it starts from, in the store that has both.

It is apart since measurements of both kinds and quantisations need it, and each of them imports much more.
"""

from __future__ import annotations

from reproduce.errors import OfeError
from reproduce.job_config import RunParent
from reproduce.store.runs import RunFolder, Store


def parent_folder(folder: RunFolder, wanted: RunParent) -> RunFolder:
    """The run folder of the training whose weights are `wanted`, in the store that contains `folder`.

    Raises:
        OfeError: the store has no such run.
    """
    found = [one for one in Store.of(folder).list() if one.key == wanted.key and one.holds_its_run]
    # A copy may carry the same key: the one that keeps the weights is the one to be measured.
    parent = min(found, key=lambda one: (wanted.step not in one.weights(), not one.sealed), default=None)
    if parent is None:
        raise OfeError(
            f"the training {wanted.key}, whose weights are measured, is not in {folder.path.parent}",
            hint="`ofe reproduce` of the figure trains it first",
        )
    return parent
