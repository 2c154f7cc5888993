"""Header lists of HTTP/2 in HPACK (RFC 7541), as one call on a connection of its own needs them.

Nothing is indexed. A field that the peer indexes is read without its text: the static table has no
header of gRPC, and the dynamic table of a new connection is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nri_inject.errors import ProtocolError

# The lengths of the Huffman codes of the bytes 0 to 255 and of the end, A for 5 bits (appendix B).
# The code is canonical: codes of one length are in the order of their bytes.
_LENGTHS: Final = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDI"
    "OIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSS"
    "PRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ"
)
_END: Final = 256
_MAX_CODE: Final = 30  # bits
_MAX_NUMBER: Final = 5  # bytes after the prefix; a header block is far shorter than 2**28


def _codes() -> dict[tuple[int, int], int]:
    """Return the byte of each code, by the code's length and value."""
    lengths = [ord(letter) - ord("A") + 5 for letter in _LENGTHS]
    codes: dict[tuple[int, int], int] = {}
    code = length = 0
    for byte in sorted(range(len(lengths)), key=lengths.__getitem__):
        code <<= lengths[byte] - length
        length = lengths[byte]
        codes[length, code] = byte
        code += 1
    return codes


_BYTES: Final = _codes()


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return a header block; each field is a literal that nobody is to index."""
    return b"".join(b"\0" + _literal(name) + _literal(value) for name, value in fields)


def decode(block: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and value of each field; ProtocolError for a block that is none.

    A name that the peer takes from a table is empty, and so is a value of such a field.
    """
    position = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:  # a whole field of a table
            _, position = _number(block, position, 7)
            yield "", ""
        elif first & 0xE0 == 0x20:  # a new size of the dynamic table
            _, position = _number(block, position, 5)
        else:
            index, position = _number(block, position, 6 if first & 0x40 else 4)
            name = ""
            if not index:
                name, position = _text(block, position)
            value, position = _text(block, position)
            yield name, value


def _literal(text: str) -> bytes:
    data = text.encode("latin-1")
    length, rest = len(data), bytearray()
    if length < 0x7F:
        return bytes([length]) + data
    length -= 0x7F
    while length >= 0x80:
        rest.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([0x7F, *rest, length]) + data


def _number(block: bytes, position: int, bits: int) -> tuple[int, int]:
    """Return a number whose first byte has so many of its bits, and where it ends."""
    most = (1 << bits) - 1
    value = _byte(block, position) & most
    position += 1
    if value < most:
        return value, position
    for shift in range(0, 7 * _MAX_NUMBER, 7):
        byte = _byte(block, position)
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ProtocolError("a number in a header block is too large")


def _text(block: bytes, position: int) -> tuple[str, int]:
    is_coded = _byte(block, position) & 0x80
    length, begin = _number(block, position, 7)
    end = begin + length
    if end > len(block):
        raise ProtocolError("a header block ends within a text")
    data = block[begin:end]
    return (_decoded(data) if is_coded else data).decode("latin-1"), end


def _byte(block: bytes, position: int) -> int:
    if position >= len(block):
        raise ProtocolError("a header block ends within a field")
    return block[position]


def _decoded(data: bytes) -> bytes:
    """Return the text of a Huffman code. The bits that fill its last byte are all 1."""
    text = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            found = _BYTES.get((length, code))
            if found == _END or length > _MAX_CODE:
                raise ProtocolError("a text of a header block has a code that stands for no byte")
            if found is not None:
                text.append(found)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise ProtocolError("a text of a header block ends within a code")
    return bytes(text)
