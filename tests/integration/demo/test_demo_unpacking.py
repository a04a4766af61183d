"""Archives are unpacked safely by every supported Python, also one without tarfile's filters."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from rootbound.demo.releases import unpack_archive


def archive(*members: tuple[str, bytes], link: str | None = None) -> tarfile.TarFile:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = tarfile.REGTYPE, len(data), ""
            if link is not None:
                entry.type, entry.size, entry.linkname = tarfile.SYMTYPE, 0, link
            tar.addfile(entry, io.BytesIO(data))
    packed.seek(0)
    return tarfile.open(fileobj=packed)


@pytest.fixture(params=["with filters", "without filters"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without filters":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("python")
def test_plain_files_are_unpacked(tmp_path: Path) -> None:
    unpack_archive(archive(("a/b.txt", b"text")), tmp_path)
    assert (tmp_path / "a/b.txt").read_bytes() == b"text"


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(("name", "link"), [("../out.txt", None), ("in.txt", "/etc/passwd")])
def test_what_leaves_the_folder_is_refused(tmp_path: Path, name: str, link: str | None) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(tarfile.TarError):
        unpack_archive(archive((name, b"x"), link=link), inner)
    assert list(tmp_path.rglob("*.txt")) == []
