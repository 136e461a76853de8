"""Two hundred hostile media files, the same ones for the same seed; many name a canary that nothing may open."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import av
import numpy as np
from PIL import Image

from tests.harness.vision.hostile_archives import HOSTILE

SEED: Final = 19
#: Size of the canary's picture, px; no other file has it.
CANARY_PX: Final = (70, 50)


def clip(
    container: str, codec: str = "mpeg4", size: tuple[int, int] = (64, 48), stamp: Callable[[int], int] = lambda n: n
) -> bytes:
    """Encode six frames; ``stamp`` gives the time of each in tenths of a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "mpeg4":
            stream.codec_context.max_b_frames = 0
        for number in range(6):
            pixels = np.full((size[1], size[0], 3), number * 20, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            for packet in stream.encode(frame):
                packet.pts = packet.dts = stamp(number)
                output.mux(packet)
        output.mux(stream.encode())
    return file.getvalue()


def _saved(image_format: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(SEED).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, image_format, **options)
    return file.getvalue()


def harmless() -> dict[str, bytes]:
    """Return one file of each format, for the others to be made of."""
    pictures = {name.lower(): _saved(name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")}
    clips = {name: clip(name) for name in ("mp4", "mov", "matroska", "avi", "mpegts", "nut", "asf")}
    clips |= {"y4m": clip("yuv4mpegpipe", "wrapped_avframe"), "mjpeg": clip("mjpeg", "mjpeg")}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(zipfile.ZipInfo("1.jpg"), pictures["jpeg"])
    return pictures | clips | {"zip": zipped.getvalue()}


def corpus(canary: str, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield the names, with the suffix that the user chose, and the bytes of 200 files.

    ``canary`` is the path of a file, and ``port`` that of a local server, that must not be opened.
    """
    good = harmless()
    chance = random.Random(SEED)
    made = dict(_playlists(canary, port, good))
    for part in (1, 5):
        made |= {f"cut_{name}_{part}.{name}": data[: len(data) * part // 8] for name, data in good.items()}
    made |= _references(canary, good) | _sizes(good) | _bombs(good) | _polyglots(good) | _times()
    made |= {f"zip_{name.replace(' ', '_')}.zip": make() for name, (make, _) in HOSTILE.items()}
    bases = sorted(good)
    for number in range(200 - len(made)):
        name = bases[number % len(bases)]
        made[f"mutated_{number}.{name}"] = _mutated(good[name], chance)
    assert len(made) == 200, len(made)
    yield from made.items()


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Change a few bytes, most of them in the header, and repeat or drop a part."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        end = min(len(changed), chance.choice((64, 512, 1 << 20)))
        changed[chance.randrange(end)] = chance.choice((0, 127, 128, 255))
    at = chance.randrange(len(changed))
    return bytes(changed[:at] + changed[at : at + 64] * chance.choice((0, 1, 1, 40)) + changed[at + 64 :])


def _playlists(canary: str, port: int, good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield playlists by themselves, and with a picture before the first entry, which looks like a picture then."""
    jpeg = good["jpeg"].replace(b"\n", b" ").replace(b"\r", b" ") * 3
    targets = (
        canary, f"file:{canary}", f"file://{canary}", f"concat:{canary}", f"subfile,,start,0,end,0,,:{canary}",
        f"crypto:{canary}", f"http://127.0.0.1:{port}/x.mp4", "data:video/mp4;base64,AAAA",
    )  # fmt: skip
    for number, target in enumerate(targets):
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n"
        entries = f"\n#EXTINF:3.0,\n{target}\n#EXT-X-ENDLIST\n".encode()
        yield f"hls_{number}.m3u8", head.encode() + entries
        yield f"hls_behind_picture_{number}.m3u8", head.encode() + b"#" + jpeg + entries
        yield f"picture_before_hls_{number}.m3u8", good["jpeg"] + head.encode() + entries
        yield f"concat_{number}.ffconcat", f"ffconcat version 1.0\nfile '{target}'\n".encode()
        yield f"concat_behind_picture_{number}.txt", b"ffconcat version 1.0\n#" + jpeg + f"\nfile '{target}'\n".encode()
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="1"><BaseURL>{canary}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    yield "dash.mpd", dash.encode()
    yield "session.sdp", f"v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n".encode()
    yield "numbered_%03d.jpg", good["jpeg"]


def _references(canary: str, good: dict[str, bytes]) -> dict[str, bytes]:
    """Return files that name the canary from inside: MOV data references, SVG, XML entities, subtitle indexes."""
    path = canary.encode()
    alias = bytearray(150) + struct.pack(">hH", 2, len(path)) + path + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + bytes(alias)
    url = struct.pack(">I4sI", 12 + len(path) + 8, b"url ", 0) + b"file://" + path + b"\0"
    found = {}
    for name, reference in (("alias", entry), ("url", url)):
        at = good["mov"].index(b"dref") - 4
        size = int.from_bytes(good["mov"][at : at + 4])
        box = struct.pack(">I4sII", 16 + len(reference), b"dref", 0, 1) + reference
        found[f"{name}.mov"] = good["mov"][:at] + box + good["mov"][at + size :]
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{canary}" width="9" height="9"/></svg>'
    doctype = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{canary}">]><svg>&x;</svg>'
    return found | {
        "image.svg": svg.encode(), "entity.svg": doctype.encode(), "entity.png": doctype.encode(),
        "picture.mvg": f"push graphic-context\nimage over 0,0 0,0 '{canary}'".encode(),
        "page.ps": f"%!PS\n({canary}) (r) file run".encode(), "page.pdf": b"%PDF-1.4\n1 0 obj<</F(" + path + b")>>",
        "subtitles.idx": b"# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 0\n",
        "metadata.txt": b";FFMETADATA1\ntitle=" + path, "script.avs": f'AviSource("{canary}")'.encode(),
        "script.vpy": f"open({canary!r}).read()".encode(), "link.url": f"[InternetShortcut]\nURL=file://{canary}".encode(),
    }  # fmt: skip


def _sizes(good: dict[str, bytes]) -> dict[str, bytes]:
    """Return files that declare absurd dimensions, or none."""
    png, jpeg, gif, bmp = (bytearray(good[name]) for name in ("png", "jpeg", "gif", "bmp"))
    start = jpeg.index(b"\xff\xc0") + 5
    found = {}
    sizes = {"huge": (2**31 - 1, 2**31 - 1), "wide": (2**31 - 1, 1), "none": (0, 0), "gigapixel": (40_000, 40_000)}
    for name, (width, height) in sizes.items():
        short = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
        header = b"IHDR" + struct.pack(">II", width, height) + bytes(png[24:29])
        found[f"{name}.png"] = bytes(png[:12]) + header + struct.pack(">I", zlib.crc32(header)) + bytes(png[33:])
        found[f"{name}.bmp"] = bytes(bmp[:18]) + struct.pack("<II", width, height) + bytes(bmp[26:])
        found[f"{name}.jpg"] = bytes(jpeg[:start]) + short + bytes(jpeg[start + 4 :])
        found[f"{name}.y4m"] = f"YUV4MPEG2 W{width} H{height} F25:1 C420\nFRAME\n".encode() + bytes(64)
        found[f"{name}.ppm"] = f"P6 {width} {height} 255\n".encode() + bytes(64)
    found["huge.gif"] = bytes(gif[:6]) + b"\xff" * 4 + bytes(gif[10:])
    return found


def _bombs(good: dict[str, bytes]) -> dict[str, bytes]:
    """Return files that unpack, nest or go on without end."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 11_000, 11_000, 8, 0, 0, 0, 0))
    packed = zlib.compress(bytes(11_001 * 11_000), 9)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(64 << 20), 9))
    nested = b""
    for _ in range(4000):
        nested = struct.pack(">I4s", 8 + len(nested), b"moov") + nested
    ftyp = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom")
    frame = good["gif"][good["gif"].index(b"\x2c") : -1]
    endless = struct.pack(">I4s", 0, b"moov") + struct.pack(">I4s", 0, b"trak") * 2000
    unknown = b"\x01" + b"\xff" * 7
    ebml = b"\x1a\x45\xdf\xa3\x84\x42\x86\x81\x01\x18\x53\x80\x67" + (unknown + b"\x1f\x43\xb6\x75") * 2000
    table = good["mp4"].replace(b"stts\0\0\0\0\0\0\0\1", b"stts\0\0\0\0\x7f\xff\xff\xff")
    return {
        "bomb.png": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""),
        "text_bomb.png": good["png"][:33] + text * 2 + good["png"][33:],
        "nested.mp4": ftyp + nested, "endless.mp4": ftyp + endless, "endless.mkv": ebml, "table.mp4": table,
        "frames.gif": good["gif"][:-1] + frame * 200 + b";",
        "null_packets.ts": (b"\x47\x1f\xff\x10" + bytes(184)) * 6000, "syncs.ts": b"\x47" * (1 << 20),
        "soi.jpg": b"\xff\xd8" * (1 << 19), "markers.jpg": b"\xff\xd8" + b"\xff\xe1\x00\x02" * (1 << 18),
        "pages.ogg": (b"OggS\0\2" + bytes(8) + bytes(4) + bytes(8) + b"\1\0") * 20_000,
        "header.y4m": b"YUV4MPEG2 " + b"X" * (1 << 20),
        "riff.avi": b"RIFF\xff\xff\xff\xffAVI " + b"LIST\x04\0\0\0hdrl" * 50_000,
        "id3.mp3": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(1 << 20),
        "loop.tiff": b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(64),
        "zeros.mp4": bytes(1 << 20), "start_codes.mpg": b"\0\0\1\xba\0\0\1\xe0" * (1 << 17),
        "one.jpg": b"\xff", "nul.png": b"\0",
    }  # fmt: skip


def _polyglots(good: dict[str, bytes]) -> dict[str, bytes]:
    """Return files that are of two formats at once."""
    pairs = (
        ("jpeg", "zip"),
        ("png", "mp4"),
        ("gif", "matroska"),
        ("jpeg", "mp4"),
        ("mp4", "zip"),
        ("avi", "mpegts"),
        ("bmp", "avi"),
    )
    found = {f"{one}_and_{other}.{other}": good[one] + good[other] for one, other in pairs}
    return found | {
        "script.gif": b"GIF89a/*" + bytes(8) + b"*/=1;alert(1)", "program.jpg": b"\x7fELF" + good["jpeg"],
        "page.jpg": b"<html><script>1</script>" + good["jpeg"], "shell.mp4": b"#!/bin/sh\ntouch /tmp/x\n" + good["mp4"],
    }  # fmt: skip


def _times() -> dict[str, bytes]:
    """Return clips whose times are negative, backwards, far apart or all the same."""
    stamps: dict[str, Callable[[int], int]] = {
        "negative": lambda n: n - 1000, "far": lambda n: n * 2**29, "jump": lambda n: n if n < 3 else 2**33 + n,
    }  # fmt: skip
    return {f"{name}.{box}": clip(box, stamp=stamp) for name, stamp in stamps.items() for box in ("nut", "matroska")}
