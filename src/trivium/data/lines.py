"""From a file's bytes to lines of text: decompressed, decoded, and checked, without holding more than a line."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from trivium.data.place import Place

COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".zst": "zstd"}

_BOM = b"\xef\xbb\xbf"
_BUFFER = 1 << 20
_LONGEST = 1 << 29  # bytes of a line: a whole .json list may be one, and a compressed file may unpack to anything


@contextmanager
def open_lines(path: Path, place: Place) -> Iterator[tuple[Iterator[str], Callable[[], int]]]:
    """Open a text file, compressed or not by its suffix.

    Yields:
        Its lines, line ends included, and a function that says how many bytes of the file have been read so far.

    Raises:
        DataError: while the lines are read; not compressed as the suffix says, cut short, not UTF-8, a NUL byte.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as file:
        if compression is None:
            yield decoded(file, place), file.tell
        else:
            with pa.CompressedInputStream(file, compression) as stream, io.BufferedReader(stream, _BUFFER) as unpacked:
                yield decoded(unpacked, place, compression), file.tell


def decoded(file: IO[bytes] | io.BufferedReader, place: Place, compression: str = "") -> Iterator[str]:
    """The lines of an open file, line ends included, as ``open_lines`` has them; moves ``place``."""
    try:
        while line := file.readline(_LONGEST):
            place.line += 1
            if len(line) == _LONGEST:
                raise place.error(
                    expected=f"lines of less than {_LONGEST >> 20} MiB",
                    found="one that is longer",
                    way_out="Cut it, or save the rows as Parquet.",
                )
            yield _decode(line.removeprefix(_BOM) if place.line == 1 else line, place)
    except OSError as error:  # pyarrow's, of both compressions
        short = "truncated" in str(error).lower()
        raise place.error(
            expected=f"a whole {compression} file" if short else f"a file compressed with {compression or 'nothing'}",
            found="that its end is missing" if short else f"something else ({error})",
            way_out="Copy the file again; if it is not compressed, take the suffix off its name.",
        ) from error


def _decode(line: bytes, place: Place) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        wide = place.line == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise place.error(
            expected="text in UTF-8",
            found="UTF-16" if wide else f"the byte 0x{line[error.start]:02x} after {error.start} bytes of the line",
            way_out=f"Save it as UTF-8, for example: iconv -f {'utf-16' if wide else 'latin1'} -t utf-8 old > new.",
        ) from error
    if "\0" in text:
        raise place.error(
            expected="text in UTF-8",
            found="a NUL byte",
            way_out="The file is damaged, or no text file, or in UTF-16; save it as UTF-8.",
        )
    return text
