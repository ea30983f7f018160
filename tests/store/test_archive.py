"""Archives: what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.store.archive import ArchivedRuns, runs_in, unpack, write_archive
from reproduce.store.layout import SEALED_FILES
from reproduce.store.runs import RunFolder

from .conftest import MakeRun

ABOUT = {"scale": "smoke", "figures": ["fig2"]}


@pytest.fixture
def archive(make_run: MakeRun, make_sealed: Callable[..., RunFolder], tmp_path: Path) -> Path:
    path = tmp_path / "fig2.ofe.tar"
    write_archive(path, [make_sealed(make_run())], ABOUT, {"mine": "id: mine\n"}, weights=False)
    return path


def with_member(archive: Path, name: str, content: bytes = b"x", **fields: object) -> Path:
    """The archive with one more member."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    with tarfile.open(archive, "a:") as file:
        file.addfile(member, io.BytesIO(content))
    return archive


def test_what_goes_in_comes_out(archive: Path, make_run: MakeRun, tmp_path: Path) -> None:
    about = unpack(archive, tmp_path / "out")
    assert about["figures"] == ["fig2"]
    (folder,) = runs_in(tmp_path / "out")
    own = tmp_path / "home" / "runs" / folder.path.name
    assert {name: (folder.path / name).read_bytes() for name in SEALED_FILES} == {
        name: (own / name).read_bytes() for name in SEALED_FILES
    }
    assert (tmp_path / "out" / "specs" / "mine.yaml").read_text() == "id: mine\n"


def test_equal_runs_give_equal_archives(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    write_archive(again, runs_in(tmp_path / "home"), ABOUT, {"mine": "id: mine\n"}, weights=False)
    assert again.read_bytes() == archive.read_bytes()


def test_a_run_is_found_by_its_recipe_where_its_key_is_another(
    archive: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    unpack(archive, tmp_path / "out")
    here = make_run(precision="bf16", fingerprint="that of another Python")
    assert here.key != make_run().key
    assert ArchivedRuns(tmp_path / "out").folder(here).key == make_run().key


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("/etc/passwd", {}),
        ("../outside", {}),
        ("runs/../../outside", {}),
        ("runs/a-0123456789abcdef/../../../outside", {}),
        ("runs/a-0123456789abcdef/checkpoint.pt", {}),
        ("runs/a-0123456789abcdef/code.py", {}),
        ("runs/.a-0123456789abcdef/run.yaml", {}),
        ("specs/sub/x.yaml", {}),
        ("specs/../x.yaml", {}),
        ("runs/a-0123456789abcdef/run.yaml", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}),
        ("runs/a-0123456789abcdef/run.yaml", {"type": tarfile.LNKTYPE, "linkname": "ofe.json", "size": 0}),
        ("runs/a-0123456789abcdef/run.yaml", {"type": tarfile.FIFOTYPE, "size": 0}),
        ("runs/a-0123456789abcdef/run.yaml", {"type": tarfile.CHRTYPE, "size": 0}),
        ("specs", {"type": tarfile.SYMTYPE, "linkname": "/tmp", "size": 0}),
        ("ofe.json", {}),
    ],
)
def test_anything_else_is_refused_and_nothing_is_written_outside(
    archive: Path, tmp_path: Path, name: str, fields: dict[str, object]
) -> None:
    with_member(archive, name, **fields)
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    with pytest.raises(OfeError) as caught:
        unpack(archive, tmp_path / "out")
    assert caught.value.hint
    assert {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts} == before
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_bomb_is_refused(archive: Path, tmp_path: Path) -> None:
    """A compressed archive may unpack to anything, and a sparse file too: neither is read."""
    packed = tmp_path / "bomb.tar"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(OfeError, match="cannot be read"):
        unpack(packed, tmp_path / "out")
    header = tarfile.TarInfo("specs/huge.yaml")
    header.size = 2**40
    with archive.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(header.tobuf() + content)
    with pytest.raises(OfeError):
        unpack(archive, tmp_path / "out2")


@pytest.mark.parametrize("cut", [0, 100, 600, 5000])
def test_an_archive_that_was_cut_off_is_refused(archive: Path, tmp_path: Path, cut: int) -> None:
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(OfeError):
        unpack(archive, tmp_path / "out")


def test_every_bit_of_a_run_counts(archive: Path, tmp_path: Path) -> None:
    content = bytearray(archive.read_bytes())
    at = content.index(b"PAR1") + 40  # in a parquet file
    content[at] ^= 1
    archive.write_bytes(content)
    with pytest.raises(OfeError, match="checksum differs"):
        unpack(archive, tmp_path / "out")


def test_what_it_says_of_itself_must_make_sense(make_run: MakeRun, tmp_path: Path) -> None:
    texts = [b"[]", b"{", b'{"schema": 9, "figures": [], "scale": "smoke"}', b'{"schema": 1}']
    texts += [
        b'{"schema": 1, "figures": [], "scale": %s}' % scale for scale in (b"3", b"null", b'["smoke"]', b'"huge"')
    ]
    ids = (b"3", b"{}", b'"mine.yaml/"', b'"/etc/x.yaml"', b'"../x"')
    texts += [b'{"schema": 1, "figures": [%s], "scale": "smoke"}' % one for one in ids]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w:") as file:
            member = tarfile.TarInfo("ofe.json")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))
        with pytest.raises(OfeError):
            unpack(path, tmp_path / str(number))


def test_provenance_in_an_archive_is_that_of_the_run(archive: Path, tmp_path: Path) -> None:
    unpack(archive, tmp_path / "out")
    (folder,) = runs_in(tmp_path / "out")
    assert json.loads((folder.path / "provenance.json").read_text())["substitute"] is True
