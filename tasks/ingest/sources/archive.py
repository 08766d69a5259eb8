"""A folder of images in an archive, read as a stream and never unpacked."""

from __future__ import annotations

import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

from tasks.errors import DataError
from tasks.fingerprint import fingerprint
from tasks.ingest import compression, formats
from tasks.ingest.compression import uncompressed
from tasks.ingest.kinds import EMPTY_FOLDER, Problem
from tasks.ingest.layout import Layout
from tasks.ingest.naming import has_drive, slashed
from tasks.ingest.sources.base import IN_CLASS_FOLDERS, LARGEST, Encoding, Item, Source, local_path
from tasks.ingest.sources.groups import GroupPattern, Groups
from tasks.ingest.storage import is_hidden, open_stream, stamp_of, told_as_data_error
from tasks.wording import REASON, brief
from tasks.workspace import Workspace

START = 512
"""Bytes that say what a file is: the first header of a tar file, in which ``ustar`` stands at `TAR`."""
TAR = slice(257, 262)

UTF_8 = 0x800
"""The flag of a ZIP's member whose name is UTF-8 (APPNOTE.TXT, 4.4.4, bit 11)."""
FIELD, UNICODE_PATH = struct.Struct("<HH"), 0x7075
"""How an extra field of a member begins, with its kind and size, and the kind that is the name in UTF-8."""

DOS = "cp437"
"""The encoding of a ZIP's names that say nothing of it, by its rules; most packers have those of their country."""

EAST_ASIA = ("shift_jis", "gbk", "big5", "euc_kr")
"""Encodings whose bytes look like letters of DOS."""

LIKELY = (DOS, "windows-1252", "shift_jis", "gbk", "cp866")
"""Encodings that such names may be in."""

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, ValueError, RuntimeError, *compression.DAMAGED)
"""What reading a damaged, hostile or encrypted archive raises."""


class ArchiveSource(Source):
    """A folder of images in a .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst or .zip file."""

    archive: str
    """Path or URL."""
    layout: str = "auto"
    """What the folders mean, as in the source ``folder``."""
    group: GroupPattern | None = None
    """Regular expression that finds a file's group in its name: ``^(track\\d+)_``."""
    encoding: Encoding | None = None
    """Of names in a .zip that are not UTF-8, such as ``shift_jis``, ``windows-1252`` or ``cp437``."""
    expects: ClassVar[str] = IN_CLASS_FOLDERS
    remembers: ClassVar[bool] = False

    def check(self, workspace: Workspace) -> None:
        """A file on this machine is there, and the layout's words are known."""
        if self.layout != "auto":
            Layout.parse(self.layout)
        archive_place(self.archive, workspace, "archive")

    def items(self, workspace: Workspace, limit: int = LARGEST) -> Iterator[Item]:
        """Every member, in the archive's order."""
        self.check(workspace)
        groups = Groups(self.group, self.layout)
        place = archive_place(self.archive, workspace, "archive")
        for name, content, problem in members(place, limit, folders=True, encoding=self.encoding):
            if name.endswith("/"):
                if problem is not None or is_hidden(name):
                    continue  # no class's folder, and nothing that could be kept out
                problem = EMPTY_FOLDER
            elif problem is None and is_hidden(name):
                problem = Problem("hidden", "hidden, or left by the operating system")
            found = (content, groups.of(name)) if problem is None else (None, None)
            yield Item(name, content=found[0], problem=problem, group=found[1], layout=self.layout)
        groups.check()

    def state(self, workspace: Workspace) -> str:
        """Size and time of the archive."""
        return fingerprint(self.model_dump(mode="json"), stamp_of(archive_place(self.archive, workspace, "archive")))


def archive_place(name: str, workspace: Workspace, key: str) -> Path | str:
    """Where an archive lies.

    Raises:
        DataError: there is no such file.
    """
    path = local_path(name, workspace)
    if path is None:
        return name
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}: ingest.source.{key} must name a .tar, .tar.gz, .tar.zst or .zip file")
    return path


def members(
    place: Path | str, limit: int, folders: bool = False, encoding: str | None = DOS
) -> Iterator[tuple[str, bytes | None, Problem | None]]:
    """Name, content and problem of every member of an archive; nothing is written anywhere, and no member of more
    than ``limit`` bytes is read into memory.

    Args:
        folders: also those folders that the archive names, empty or not, with a slash at the end of their names.
        encoding: of names in a ZIP whose encoding it does not tell; None for UTF-8, or as DOS had it where no folder's
            name depends on that.

    Raises:
        DataError: the archive is damaged, encrypted or none, or nobody can tell what a name is.
    """
    try:
        with open_archive(place) as opened:
            if isinstance(opened, zipfile.ZipFile):
                found = _zip_members(opened, limit, encoding)
            else:
                found = _tar_members(opened, limit)
            for member in found:
                if folders or not member[0].endswith("/"):
                    yield member
    except _UnknownName as error:
        raise DataError(f"{place}: {error}") from error
    except DAMAGED as error:
        told = " ".join(str(error).split())
        raise DataError(
            f"{place} cannot be unpacked: {told}. Is it a whole .tar, .tar.gz, .tar.zst or .zip file?"
        ) from error
    except OSError as error:
        if isinstance(place, Path) and error.errno is not None:
            raise  # the disk, not the archive
        raise DataError(f"{place} cannot be unpacked: {' '.join(str(error).split())}. Is it whole?") from error


@contextmanager
def open_archive(place: Path | str) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    """Open an archive by what it is, not by what it is called.

    Raises:
        DataError: it is a file of another kind.
    """
    with told_as_data_error(str(place)) if isinstance(place, str) else nullcontext(), open_stream(place) as raw:
        start = raw.read(START)
        raw.seek(0)
        if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            with zipfile.ZipFile(raw) as archive:
                yield archive
        else:
            # Not tarfile's own decompression, which checks no checksum and ends after the first of several parts.
            try:
                with uncompressed(raw, start) as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as tar:
                    yield tar
            except tarfile.TarError as error:
                if (what := _no_archive(start)) is None:
                    raise
                raise DataError(f"{place} is {what}; a .tar, .tar.gz, .tar.zst or .zip file is expected") from error


def _no_archive(start: bytes) -> str | None:
    """What a file is that begins like this and is no archive that is read, as far as one can know."""
    if compression.is_compressed(start) or start[TAR] == b"ustar" or not start.strip():
        return None
    image = formats.extension_of(start)
    what = f"an image ({image})" if image != "bin" else formats.known(start)
    return what if what != formats.TEXT else None


class _Member(tarfile.TarInfo):
    """A member of a tar file. Where a header is damaged or missing, `tarfile` would take that for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == tarfile.BLOCKSIZE:  # the zeros that end every whole archive
                raise
            raise tarfile.ReadError(f"a header is damaged or missing ({error})") from error


def _tar_members(archive: tarfile.TarFile, limit: int) -> Iterator[tuple[str, bytes | None, Problem | None]]:
    for member in archive:
        name = _tidy(member.name)
        if member.isdir():
            yield f"{name}/", None, _unsafe(member.name)
            continue
        if problem := _unsafe(member.name) or _not_a_file(member) or _too_large(member.size, limit):
            yield name, None, problem
        else:
            opened = archive.extractfile(member)
            yield name, opened.read() if opened else b"", None
    # Up to the checksum that stands at the end of a compressed archive.
    stream: Any = archive.fileobj
    while rest := stream.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("more follows behind its end, as where tar files were joined by cat")


def _not_a_file(member: tarfile.TarInfo) -> Problem | None:
    if member.isreg():
        return None
    if member.islnk():
        return Problem("unsafe_path", f"a hard link to {member.linkname}: pack with tar --hard-dereference")
    what = "a link" if member.issym() else "a device or pipe"
    target = f" to {member.linkname}" if member.linkname else ""
    return Problem("unsafe_path", f"{what}{target}, not a file")


def _zip_members(
    archive: zipfile.ZipFile, limit: int, encoding: str | None
) -> Iterator[tuple[str, bytes | None, Problem | None]]:
    # Four bytes may say that it was meant to be split.
    if min((member.header_offset for member in archive.infolist()), default=0) > 4:
        raise zipfile.BadZipFile("more stands before its first file, as where ZIP files were joined by cat")
    for member in archive.infolist():
        full = _as_written(member, encoding)
        name = _tidy(full)
        if member.is_dir():
            yield f"{name}/", None, _unsafe(full)
            continue
        is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
        problem = Problem("unsafe_path", "a link, not a file") if is_link else None
        if problem := problem or _unsafe(full) or _too_large(member.file_size, limit):
            yield name, None, problem
        else:
            with archive.open(member) as opened:
                content = opened.read(limit + 1)  # a bomb's header may say less than what comes out
            too_large = _too_large(len(content), limit)
            yield name, None if too_large else content, too_large


def _as_written(member: zipfile.ZipInfo, encoding: str | None) -> str:
    """A name in UTF-8 also where its archive does not say so, as those of macOS, or says it beside a name that lost its
    letters, as some packers do; Python reads both as DOS would.

    Raises:
        _UnknownName: it is in another encoding than is said, or in one that nobody can tell.
    """
    if member.flag_bits & UTF_8:
        return member.filename
    with suppress(UnicodeError):
        if beside := _beside(member.extra, member.orig_filename.encode(DOS)):
            return beside
    if member.filename.isascii():
        return member.filename
    stored = member.filename.encode(DOS)
    try:
        return stored.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        folders = slashed(member.filename).rpartition("/")[0]
        if encoding is None and (folders.isascii() or _is_plainly_dos(folders)):  # it is of no class, or needs no guess
            return member.filename
        raise _UnknownName(_unknown(stored, encoding)) from None


def _is_plainly_dos(name: str) -> bool:
    """Whether a name makes sense as ZIP's rules have it: Latin letters in a word's usual case, and no whole word of
    East Asia."""
    odd = [sign for sign in name if not sign.isascii()]
    if not all(unicodedata.name(sign, "").startswith("LATIN") for sign in odd):
        return False
    if any(one in odd and one.islower() and other.isupper() for one, other in pairwise(name)):
        return False
    if re.search("(?<![aeiouyäöü])ß", name):  # what DOS has where Windows and Unix have an á
        return False
    return not any(_is_word(name, encoding) for encoding in EAST_ASIA)


def _is_word(name: str, encoding: str) -> bool:
    """Whether the folders of a name that are not ASCII have letters of another script alone in an encoding."""
    try:
        read = [folder.encode(DOS).decode(encoding) for folder in name.split("/") if not folder.isascii()]
    except UnicodeDecodeError:
        return False
    return all(not unicodedata.name(sign, "").startswith("LATIN") for sign in "".join(read) if sign.isalpha())


class _UnknownName(Exception):
    """A name is in an encoding that nobody can tell."""


def _unknown(stored: bytes, encoding: str | None) -> str:
    """What to do about a name."""
    readings = []
    for likely in LIKELY:
        with suppress(UnicodeDecodeError):
            readings.append(f"{likely} ({brief(stored.decode(likely), REASON)!r})")
    is_none = f"is not {encoding}" if encoding else "is not UTF-8, and nothing in the archive says what it is"
    return (
        f"a member's name {is_none}. Pack the archive anew with UTF-8 names, or say by ingest.source.encoding how they "
        f"are to be read: {', '.join(readings)}"
    )


def _beside(extra: bytes, stored: bytes) -> str | None:
    """The name in a member's extra field "Unicode Path", where it is of the name that is stored (APPNOTE.TXT,
    4.6.9)."""
    while len(extra) >= FIELD.size:
        kind, size = FIELD.unpack_from(extra)
        field, extra = extra[FIELD.size : FIELD.size + size], extra[FIELD.size + size :]
        if kind == UNICODE_PATH and field[:1] == b"\x01" and field[1:5] == zlib.crc32(stored).to_bytes(4, "little"):
            return field[5:].decode()
    return None


def _too_large(size: int, limit: int) -> Problem | None:
    return Problem("too_large", f"more than {limit:,} bytes (ingest.limits.bytes)") if size > limit else None


def _unsafe(name: str) -> Problem | None:
    parts = slashed(name).split("/")
    if slashed(name).startswith("/") or ".." in parts or has_drive(name):
        return Problem("unsafe_path", "its name leads out of the archive")
    return None


def _tidy(name: str) -> str:
    return "/".join(part for part in slashed(name).split("/") if part not in ("", "."))
