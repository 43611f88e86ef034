"""The encoding of a text file: found by its first bytes, or named by the user; an error proposes another."""

from __future__ import annotations

import codecs

from deltaprop.inputs.byte_source import ByteSource

#: Marks at the beginning of a file, and the encodings that begin with them. The longer ones come first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What a file that is not in UTF-8 is tried as: the encoding of Windows in the west.
ANOTHER = "cp1252"
#: Bytes that are decoded together.
PART = 2**20


def encoding_of(path: object, beginning: bytes) -> str:
    """Return the encoding that the first bytes of a file tell; UTF-8 if they tell none.

    Raises
    ------
    ValueError
        If they tell none and hold zeros, which no text in UTF-8 does.
    """
    found = next((encoding for mark, encoding in MARKS if beginning.startswith(mark)), None)
    if found is None and b"\0" in beginning:
        raise ValueError(
            f"{path}: expected text, got bytes that are zero; for text in UTF-16, name that by --encoding utf-16-le "
            "(encoding='utf-16-le' in Python)"
        )
    return found or "utf-8-sig"


def decoded_name(encoding: str) -> str:
    """Return the name of an encoding of text as Python knows it; UTF-8 is read with or without its mark.

    Raises
    ------
    ValueError
        If Python knows no such encoding of text.
    """
    try:
        "".encode(encoding)
        known = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise ValueError(f"encoding: expected one that Python knows, such as 'cp1252', got {encoding!r}") from error
    return "utf-8-sig" if known == "utf-8" else known


def refusal(source: ByteSource, encoding: str, error: UnicodeError) -> str:
    """Say that a file is not in its encoding, and which one to try."""
    known = "UTF-8" if encoding == "utf-8-sig" else encoding
    where = f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error)
    advice = "name its encoding by --encoding (encoding=… in Python)"
    if encoding == "utf-8-sig" and _reads_as(source, ANOTHER):
        advice = f"it can be read as {ANOTHER}: try --encoding {ANOTHER} (encoding={ANOTHER!r} in Python)"
    return f"{source.name}: expected {known} text ({where}); {advice}"


def _reads_as(source: ByteSource, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with source.open() as raw:
            while part := raw.read(PART):
                decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True
