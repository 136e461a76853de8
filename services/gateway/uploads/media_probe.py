"""Opens an uploaded file with a decoder, in a child process: ``python -m services.gateway.uploads.media_probe``.

An untrusted file may crash the process, hang it or exhaust its memory without harm: it is locked down before a decoder
sees a byte (``modal_workers.footage.decoder_lockdown``). It has no environment, no URL and no secret, and asks its
parent for the bytes, over its standard input and output:

* the first line that it reads is ``{"size_bytes", "memory_bytes", "cpu_s"}``;
* it writes lines ``{"read": start}``, and gets a length of 8 bytes, big-endian, and so many bytes of the file from
  ``start`` on; the length ``NOT_READ`` means that the bucket cannot be read;
* its last line is ``{"lockdown": […], "media": …}`` or ``{"lockdown": […], "error": {"code", "message"}}``.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from importlib import import_module
from typing import IO, Any, Final

from contracts.limits import MIB, PHOTO_PX, PHOTO_SIDE_PX, PICTURE_SIDE_PX
from modal_workers.footage.decoder_lockdown import limit_resources, lock_down

#: Bytes that are read at once, and the length that stands for a failure.
WINDOW_BYTES: Final = 1 * MIB
NOT_READ: Final = 2**64 - 1
#: Packets that are read to find the first frame.
_MAX_PACKETS: Final = 400
_PICTURE_BRANDS: Final = frozenset({"avif", "heic", "heix", "heif", "mif1", "miaf"})
#: First bytes of a ZIP: with a file, empty, or split into volumes.
_ZIP_SIGNATURES: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
#: Pictures of a ZIP that are tried until one opens, and the size limit of a tried picture.
_TRIED_PICTURES: Final = 5
_TRIED_BYTES: Final = 128 * MIB


class ProbeRefusal(Exception):  # noqa: N818 - an answer, not a fault
    """The file cannot be used; the arguments are an error code and a message."""


class RangeReader(io.RawIOBase):
    """File-like reader of an object whose bytes another process reads, one window at a time."""

    def __init__(self, size_bytes: int, requests: IO[bytes], answers: IO[bytes]) -> None:
        """Load the first window."""
        super().__init__()
        self._size, self._requests, self._answers = size_bytes, requests, answers
        self._position = self._window_start = 0
        self._window = b""
        self.failed = False
        self._load(0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position without reading."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, fewer at a window's end."""
        if self._position >= self._size:
            return b""
        inside = self._position - self._window_start
        if not 0 <= inside < len(self._window):
            self._load(self._position)
            inside = 0
        found = self._window[inside:] if size < 0 else self._window[inside : inside + size]
        self._position += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer, fewer bytes at a window's end."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _load(self, start: int) -> None:
        """Load the window at ``start``.

        Raises:
            OSError: the bucket cannot be read.
        """
        self._requests.write(json.dumps({"read": start}).encode() + b"\n")
        self._requests.flush()
        length = int.from_bytes(self._answers.read(8) or b"\xff" * 8)
        if length > WINDOW_BYTES:
            self.failed = True
            raise OSError("the object cannot be read")
        self._window = self._answers.read(length)
        self._window_start = start


def probe(reader: RangeReader) -> dict[str, Any]:
    """Open the file, decode its first frame and return its media properties.

    Raises:
        ProbeRefusal: with MEDIA_UNDECODABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE or STORAGE_UNAVAILABLE.
    """
    try:
        if is_archive(reader):
            return _probe_archive(reader)
        return _open(reader)
    except (ProbeRefusal, OSError) as error:
        if reader.failed:
            raise ProbeRefusal("storage_unavailable", "Reading the file from the bucket failed.") from error
        raise


def is_archive(reader: RangeReader) -> bool:
    """Return whether the file starts as a ZIP does."""
    start = reader.read(4)
    reader.seek(0)
    return start.startswith(_ZIP_SIGNATURES)


def _open(file: io.RawIOBase | io.BytesIO) -> dict[str, Any]:
    """Open a video or picture with the decoder.

    Raises:
        ProbeRefusal: with MEDIA_UNDECODABLE, MEDIA_NO_VIDEO or MEDIA_TOO_LARGE.
    """
    import av  # noqa: PLC0415 - only this process may load a decoder

    from modal_workers.footage.media_container import open_media  # noqa: PLC0415 - as above

    try:
        with open_media(file) as container:
            found = _probe_container(av, container)
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        raise ProbeRefusal("media_undecodable", f"No decoder opens this file ({_reason(error)}).") from error
    if found["media"] == "image" and found["container"] == "mov":
        found["width_px"], found["height_px"] = _whole_size(file, (found["width_px"], found["height_px"]))
    return found


def _whole_size(file: io.RawIOBase | io.BytesIO, tile: tuple[int, int]) -> tuple[int, int]:
    """Return a HEIF picture's size, px. Phones store pictures as tiles, and the decoder returns only one of them.

    Each picture and part of one has a property ``ispe``; the largest is the whole (ISO/IEC 23008-12, 6.5.3).
    """
    file.seek(0)
    head = file.read(WINDOW_BYTES) or b""
    sizes, at = [tile], head.find(b"ispe")
    while 0 <= at <= len(head) - 16:
        sizes.append(struct.unpack(">II", head[at + 8 : at + 16]))
        at = head.find(b"ispe", at + 4)
    whole = max(sizes, key=lambda size: size[0] * size[1])
    _check_size(*whole, picture=True)
    return whole


def _probe_archive(reader: RangeReader) -> dict[str, Any]:
    """Check the listing of a ZIP and return the properties of its first picture that opens, of a few that are tried.

    Raises:
        ProbeRefusal: why the ZIP is rejected; MEDIA_UNDECODABLE or MEDIA_TOO_LARGE, if none of them opens.
    """
    from contracts.archive import list_archive, open_archive  # noqa: PLC0415 - most files are not a ZIP
    from contracts.errors import SaccadeError  # noqa: PLC0415 - slow to import

    try:
        with open_archive(io.BufferedReader(reader, WINDOW_BYTES)) as archive:
            pictures = list_archive(archive).pictures
            refusals: dict[str, ProbeRefusal] = {}
            # Spread over the ZIP: the first files may be a special case.
            for member in pictures[:: -(-len(pictures) // _TRIED_PICTURES)]:
                try:
                    return {**_picture_in(archive, member), "media": "archive", "container": "zip"}
                except ProbeRefusal as refusal:
                    refusals[member.name] = refusal
    except SaccadeError as error:
        raise ProbeRefusal(str(error.code), error.message) from error
    codes = {str(refusal.args[0]) for refusal in refusals.values()}
    reasons = "; ".join(f"{name}: {refusal.args[1].rstrip('.')}" for name, refusal in refusals.items())
    code = codes.pop() if len(codes) == 1 else "media_undecodable"
    raise ProbeRefusal(code, f"None of the pictures in the ZIP that were tried opens: {reasons}.")


def _picture_in(archive: zipfile.ZipFile, member: Any) -> dict[str, Any]:
    """Return the properties of one picture (an ``ArchiveMember``).

    Raises:
        ProbeRefusal: MEDIA_UNDECODABLE or MEDIA_TOO_LARGE, if it does not open.
    """
    from contracts.archive import read_member  # noqa: PLC0415 - as above
    from contracts.errors import ErrorCode, SaccadeError  # noqa: PLC0415

    if member.bytes > _TRIED_BYTES:
        raise ProbeRefusal("media_too_large", f"it has more than {_TRIED_BYTES // MIB} MiB")
    try:
        found = _open(io.BytesIO(read_member(archive, member)))
    except SaccadeError as error:
        if error.code is ErrorCode.ARCHIVE_UNREADABLE:
            raise ProbeRefusal("media_undecodable", "it is damaged") from error
        raise
    if found["media"] != "image":
        raise ProbeRefusal("media_undecodable", "it is not a picture")
    return found


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)[:200]


def _probe_container(av: Any, container: Any) -> dict[str, Any]:
    """Return the properties of an open file's first video stream, from its first decoded frame."""
    streams = [video for video in container.streams.video if not video.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise ProbeRefusal("media_no_video", "The file has sound but no picture." if container.streams.audio else "")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None:
        raise ProbeRefusal("media_undecodable", "No decoder supports the codec of this file.")
    from modal_workers.footage.media_container import PICTURE_FORMATS  # noqa: PLC0415 - it loads a decoder

    name = container.format.name
    picture = name in PICTURE_FORMATS or container.metadata.get("major_brand", "").strip() in _PICTURE_BRANDS
    _check_size(codec.width, codec.height, picture=picture)
    codec.thread_count = 1
    frame = _first_frame(container, stream)
    _check_size(frame.width, frame.height, picture=picture)
    duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
    if duration is None and container.duration:
        duration = container.duration / av.time_base
    rate = stream.average_rate or stream.guessed_rate
    return {
        "media": "image" if picture else "video",
        "container": name.partition(",")[0],
        "codec": codec.name,
        "width_px": frame.width,
        "height_px": frame.height,
        "duration_s": None if picture or duration is None else round(float(duration), 6),
        "rate_hz": None if picture or not rate else round(float(rate), 6),
    }


def _check_size(width_px: int, height_px: int, *, picture: bool) -> None:
    """Reject frames that need too much memory to decode; videos have a lower limit, as many frames are in memory."""
    max_side_px = PHOTO_SIDE_PX if picture else PICTURE_SIDE_PX
    if max(width_px, height_px) > max_side_px or (picture and width_px * height_px > PHOTO_PX):
        limit = f"{max_side_px:,} on a side" + (f" and {PHOTO_PX // 10**6} megapixels" if picture else "")
        message = f"The picture has {width_px} x {height_px} pixels; at most {limit} are accepted."
        raise ProbeRefusal("media_too_large", message)


def _first_frame(container: Any, stream: Any) -> Any:
    for number, packet in enumerate(container.demux(stream)):
        for frame in packet.decode():
            return frame
        if number > _MAX_PACKETS:
            break
    raise ProbeRefusal("media_undecodable", "The file has a video track, but no frame in it can be decoded.")


def import_decoders(*, archive: bool) -> None:
    """Load what opens the file: afterwards no module can be loaded. Only this process may load a decoder."""
    import_module("modal_workers.footage.media_container")
    if archive:  # slow to load, and most files are none
        import_module("contracts.archive")
        import_module("encodings.cp437")  # of names in a ZIP


def _opened(size_bytes: int, requests: IO[bytes], answers: IO[bytes]) -> RangeReader:
    """Open the object.

    Raises:
        ProbeRefusal: STORAGE_UNAVAILABLE.
    """
    try:
        return RangeReader(size_bytes, requests, answers)
    except OSError as error:
        raise ProbeRefusal("storage_unavailable", "The file cannot be read from the bucket.") from error


def _answer(request: dict[str, Any], requests: IO[bytes], answers: IO[bytes]) -> dict[str, Any]:
    """Lock the process down and return what it found in the file."""
    layers: tuple[str, ...] = ()
    answer: dict[str, Any]
    try:
        reader = _opened(int(request["size_bytes"]), requests, answers)
        import_decoders(archive=is_archive(reader))
        layers = lock_down(memory_bytes=int(request["memory_bytes"]), cpu_s=int(request["cpu_s"]))
        answer = {"media": probe(reader)}
    except ProbeRefusal as refusal:
        answer = {"error": {"code": refusal.args[0], "message": refusal.args[1]}}
    except MemoryError:
        answer = {"error": {"code": "media_undecodable", "message": "Opening this file takes too much memory."}}
    return {"lockdown": layers, **answer}


def main() -> None:
    """Read a request from standard input and write the answer."""
    request = json.loads(sys.stdin.buffer.readline())
    limit_resources(int(request["memory_bytes"]), int(request["cpu_s"]))
    answer = _answer(request, sys.stdout.buffer, sys.stdin.buffer)
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
