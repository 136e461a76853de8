"""Media that users sent is opened in one place for each decoder, with pinned formats (docs/adr/0038)."""

from __future__ import annotations

import ast

from tests.rules.tree import nodes, parsed, python_files

SERVERS = ("contracts", "kit", "services", "modal_workers")
CONTAINERS = "modal_workers/footage/media_container.py"
PICTURES = "modal_workers/footage/picture_decoder.py"
#: Reads only the working copies that the worker itself wrote.
COLMAP = "modal_workers/nerf/poses/colmap/pycolmap_process.py"
OTHER_DECODERS = {"imageio", "decord", "moviepy", "skvideo", "skimage", "soundfile", "librosa", "rawpy", "tifffile"}
PROGRAMS = {"ffmpeg", "ffprobe", "convert", "magick", "exiftool"}


def _calls(path: str) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in nodes(path) if isinstance(node, ast.Call)]


def _keywords(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def _opens(path: str) -> list[str]:
    """Return the calls of a file that let a decoder choose the format of what it opens."""
    found = []
    for name, call in _calls(path):
        writes = len(call.args) > 1 and ast.unparse(call.args[1]) == "'w'"
        free = (
            (name == "av.open" and not writes and path != CONTAINERS)
            or (name in ("cv2.imread", "cv2.imreadmulti", "cv2.imdecode", "cv2.imdecodemulti") and path != PICTURES)
            or name in ("cv2.VideoCapture", "plt.imread", "mpimg.imread", "matplotlib.image.imread")
            or (name in ("Image.open", "PIL.Image.open") and "formats" not in _keywords(call))
            or (name == "torch.load" and _keywords(call).get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and _keywords(call).get("allow_pickle", "False") != "False")
        )
        if free:
            found.append(f"{path}:{call.lineno}: {name}")
    return found


def test_nothing_else_opens_media() -> None:
    assert [call for path in python_files(*SERVERS) for call in _opens(path)] == []


def test_no_other_decoder_is_loaded_or_started() -> None:
    found = []
    for path in python_files(*SERVERS):
        for node in nodes(path):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {module.partition(".")[0] for module in modules}
            if tops & OTHER_DECODERS or "torchvision.io" in modules or ("pycolmap" in tops and path != COLMAP):
                found.append(f"{path}: {modules}")
            first = node.elts[0] if isinstance(node, ast.List) and node.elts else None
            if isinstance(first, ast.Constant) and first.value in PROGRAMS:
                found.append(f"{path}:{first.lineno}: {first.value}")
    assert found == []


def test_no_pinned_format_names_other_files() -> None:
    """Playlists, manifests, patterns of file names, devices and scripts stay closed."""
    pinned: set[str] = set()
    for node in parsed(CONTAINERS).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in (
            "VIDEO_FORMATS", "PICTURE_FORMATS", "SOUND_FORMATS",
        ):  # fmt: skip
            assert node.value is not None
            pinned |= {name for entry in ast.literal_eval(node.value) for name in entry.split(",")}
    assert len(pinned) > 40
    assert not pinned & {
        "hls", "applehttp", "concat", "dash", "imf", "sdp", "rtsp", "rtp", "image2", "image2pipe", "lavfi", "tty",
        "webm_dash_manifest", "avisynth", "vapoursynth", "data", "ffmetadata", "mpjpeg", "fbdev", "v4l2", "x11grab",
        "smjpeg", "vobsub", "matroska_manifest", "live_flv", "svg_pipe",
    }  # fmt: skip
