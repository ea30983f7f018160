"""Archives of runs: one file with the evidence behind figures, to be redrawn and judged anywhere.

    ofe.json                            {"schema": 1, "ofe": ..., "scale": ..., "figures": [...]}
    specs/<id>.yaml                     specs that do not come with the code
    runs/<slug>-<key>/                  run.yaml, trace.parquet, moments.parquet, provenance.json, SHA256SUMS
                                        and if asked for the kept weights

An archive is a tar file without compression, so that it cannot unpack to more than it is. Whoever opens one trusts
nothing of it. Only plain files with exactly these names are unpacked, into a folder of their own, and every run is
checked against its checksums before any of its numbers is read. No file in it can hold code.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.choices import SCALES
from reproduce.errors import OfeError
from reproduce.store.atomic import replacing
from reproduce.store.home import explain_os_errors, writing_output
from reproduce.store.json_text import dumps, loads
from reproduce.store.layout import KEEP, RUN_NAME, SEALED_FILES, WEIGHTS
from reproduce.store.regular import text_of
from reproduce.store.runs import RunFolder, Store
from reproduce.store.weights import read_weights
from reproduce.versions import installed_version

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun

SUFFIX = ".tar"
SCHEMA = 1
ABOUT = "ofe.json"
_NAMES = re.compile(
    rf"ofe\.json|specs/[\w-][\w.-]*\.yaml|runs/{RUN_NAME.pattern}/"
    rf"(?:{'|'.join(map(re.escape, (*SEALED_FILES, KEEP, WEIGHTS)))}|model(?:-\d+)?\.safetensors)"
)
"""The names that a file of an archive may have."""
_ID = re.compile(r"\w[\w.-]*")
"""What ofe.json may call a figure: an id, never the path of a file."""


def write_archive(
    path: Path, folders: Sequence[RunFolder], about: Mapping[str, Any], specs: Mapping[str, str], *, weights: bool
) -> None:
    """Write sealed runs to the archive `path` in one step.

    Args:
        about: what ofe.json is to say beside the schema and the version.
        specs: texts of specs by their id.
        weights: whether the weights that the runs keep go along.

    Raises:
        OfeError: a run is not sealed or is damaged, or the archive cannot be written.
    """
    for folder in folders:
        folder.verify()
    texts = {ABOUT: dumps({"schema": SCHEMA, "ofe": installed_version("ofe"), **about}, indent=2) + "\n"}
    texts |= {f"specs/{name}.yaml": text for name, text in specs.items()}
    with writing_output(path, "--out"), replacing(path) as aside, tarfile.open(aside, "w:") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, BytesIO(text.encode()))
        for folder in folders:
            names = [*SEALED_FILES]
            if weights and (kept := read_weights(folder.path)).files:
                names += [WEIGHTS, *(name for name, _ in kept.files.values())]
            for name in names:
                member = tarfile.TarInfo(f"runs/{folder.path.name}/{name}")  # without owner, group and time
                member.size = (folder.path / name).stat().st_size
                with (folder.path / name).open("rb") as file:
                    archive.addfile(member, file)


def unpack(path: Path, folder: Path) -> dict[str, Any]:
    """Unpack the archive `path` into the empty folder `folder`, check all its runs, and return its ofe.json.

    Raises:
        OfeError: it is no archive of ofe, holds anything else than one may hold, or a run in it is damaged.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = list(_checked(archive, path))
            for member in members:
                target = folder / member.name
                content = archive.extractfile(member)
                assert content is not None
                with explain_os_errors(target, "TMPDIR", needs=member.size):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("xb") as file:
                        while block := content.read(2**20):
                            file.write(block)
    except FileExistsError as error:
        raise _refused(path, f"holds {error.filename} twice") from error
    except (tarfile.TarError, EOFError, ValueError, UnicodeError) as error:
        raise _refused(path, f"cannot be read: {error}") from error
    except OSError as error:
        raise OfeError(f"{path} cannot be read: {error.strerror or error}", hint="name an archive of ofe") from error
    about = _about(path, folder)
    for run in runs_in(folder):
        run.verify()
    return about


def _checked(archive: tarfile.TarFile, path: Path) -> Iterable[tarfile.TarInfo]:
    """The members of an archive, as long as each is one that may be there."""
    left = path.stat().st_size  # all of them together are smaller than the archive: none is sparse or made up
    for member in archive:
        if member.isdir() and re.fullmatch(r"(?:specs|runs)(?:/[^/\\.][^/\\]*)?", member.name):
            continue
        if not _NAMES.fullmatch(member.name):
            raise _refused(path, f"holds {member.name!r}, which no archive of ofe does")
        left -= member.size
        if not member.isreg() or member.issparse() or left < 0:
            raise _refused(path, f"holds {member.name!r}, which is no plain file")
        yield member


def _about(path: Path, folder: Path) -> dict[str, Any]:
    try:
        about = loads(text_of(folder / ABOUT))
    except (OSError, ValueError) as error:
        raise _refused(path, f"has no readable {ABOUT}") from error
    figures = about.get("figures") if isinstance(about, dict) else None
    if not isinstance(figures, list) or "scale" not in about:
        raise _refused(path, f"has an {ABOUT} that does not say what it holds")
    if about.get("schema") != SCHEMA:
        hint = "update ofe, or use the version that wrote the archive"
        raise OfeError(f"{path} has schema {about.get('schema')}, and this version of ofe reads {SCHEMA}", hint=hint)
    if about.get("scale") not in SCALES or not all(isinstance(one, str) and _ID.fullmatch(one) for one in figures):
        raise _refused(path, f"has an {ABOUT} that does not say what it holds")
    return about


def _refused(path: Path, what: str) -> OfeError:
    hint = "take an archive that `ofe cache export -o` has written; nothing of this one was kept"
    return OfeError(f"{path} {what}", hint=hint)


def runs_in(folder: Path) -> list[RunFolder]:
    """The run folders of an unpacked archive."""
    return Store(folder).list()


class ArchivedRuns(Store):
    """The runs of an unpacked archive. They are found by key, or by recipe where they come from another machine.

    The embedded data and the precision differ between machines, and with them the keys of the same experiment.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.by_recipe = {one.read_run_yaml()["recipe"]: one for one in self.list()}

    def folder(self, run: ResolvedRun) -> RunFolder:
        return self.find(run.key) or self.by_recipe.get(run.recipe) or super().folder(run)
