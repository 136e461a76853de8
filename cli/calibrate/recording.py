"""Recordings for camera calibration: frames with the joints at their capture, from an MCAP export or a folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import make_reader
from numpy.typing import NDArray

from cli.failure import Failure
from modal_workers.live_splat.kinematics import SO101

Floats = NDArray[np.float64]

JOINTS_FILE: Final = "joints.json"
PICTURES: Final = frozenset({".jpg", ".jpeg", ".png"})
#: Frames without joint samples this close are skipped.
_GAP_S: Final = 0.05
_BILLION: Final = 1e9
_CAMERA: Final = "/camera/"
_JOINTS: Final = "/joints"
_FORM: Final = 'Example: {"unit": "rad", "names": ["shoulder_pan", …], "frames": {"0001.jpg": [0.1, …]}}'


class Recording(Protocol):
    """Frames by number, oldest first, with joints."""

    #: Name of each frame.
    names: list[str]
    #: Joints [F, 6] in rad, columns as in ``SO101.joint_names``.
    positions_rad: Floats
    #: Speed of the fastest joint at each frame, rad/s [F]; None if unknown.
    speeds_rad_s: Floats | None
    notes: list[str]

    def pictures(self, wanted: Iterable[int]) -> dict[int, bytes]:
        """Return encoded pictures (JPEG or PNG) by frame number."""
        ...


def open_recording(path: Path, camera: str | None, robot: str | None) -> Recording:
    """Open an MCAP file or a folder.

    Raises:
        Failure: it is neither, or lacks what a calibration needs.
    """
    if path.is_dir():
        return FolderRecording(path)
    if not path.is_file():
        hint = "Name an exported session (saccade sessions export ID session.mcap), or a folder with joints.json."
        raise Failure(f"{path} does not exist.", code="no_such_file", hint=hint)
    hint = "Name a file that `saccade sessions export` wrote."
    try:
        return McapRecording(path, camera, robot)
    except McapError as error:
        raise Failure(f"{path} is not an MCAP file ({error}).", code="recording_unreadable", hint=hint) from error
    except (ValueError, KeyError, TypeError) as error:  # messages of another schema
        raise Failure(f"{path} is not an exported session.", code="recording_unreadable", hint=hint) from error


@dataclass
class _JointTrack:
    """Joint samples of one robot over time."""

    times_s: list[float] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)


class McapRecording:
    """Recording in an exported session."""

    def __init__(self, path: Path, camera: str | None, robot: str | None) -> None:
        """Read times and joints; pictures are read on request."""
        self._path = path
        self._topic = _one_topic(self._topics(_CAMERA), camera, _CAMERA, "camera")
        joints = self._topics(_JOINTS)
        if not joints:
            raise _without_joints(bool(self._topics("/joints_native")))
        track = self._track(_one_topic(joints, robot, _JOINTS + "/", "robot"))
        taken_s, seqs = self._frames()
        near = _has_joints_near(track, taken_s)
        self._taken = np.flatnonzero(near)
        self.names = [f"{seqs[index]:06d}.jpg" for index in self._taken]
        times_s = taken_s[self._taken]
        rows, at_s = np.array(track.rows), np.array(track.times_s)
        self.positions_rad = _interpolate(times_s, at_s, rows)
        before, after = (_interpolate(times_s + shift, at_s, rows) for shift in (-_GAP_S, _GAP_S))
        self.speeds_rad_s: Floats | None = np.abs(after - before).max(1) / (2 * _GAP_S)
        missing = len(seqs) - len(self.names)
        self.notes = [f"Skipped {missing} frames without joints within {_GAP_S * 1e3:.0f} ms."] * bool(missing)

    def pictures(self, wanted: Iterable[int]) -> dict[int, bytes]:
        """Return encoded pictures by frame number."""
        numbers = {int(self._taken[index]): index for index in wanted}
        found = {}
        for number, (_, body) in enumerate(self._messages(self._topic)):
            if number in numbers:
                found[numbers[number]] = base64.b64decode(body["data"])
        return found

    def _topics(self, prefix: str) -> list[str]:
        with self._path.open("rb") as stream:
            summary = make_reader(stream).get_summary()
        topics = {channel.topic for channel in summary.channels.values()} if summary else set()
        whole = prefix.rstrip("/")
        return sorted(topic for topic in topics if topic == whole or topic.startswith(f"{whole}/"))

    def _messages(self, topic: str) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield messages with their times in seconds, in log order, which is the same each time."""
        with self._path.open("rb") as stream:
            for _, _, message in make_reader(stream).iter_messages(topics=[topic]):
                yield message.log_time / _BILLION, json.loads(message.data)

    def _track(self, topic: str) -> _JointTrack:
        track = _JointTrack()
        for at_s, body in self._messages(topic):
            named = {joint["name"]: joint["position"] for joint in body["joints"]}
            track.times_s.append(at_s)
            track.rows.append(in_order(named, topic))
        return track

    def _frames(self) -> tuple[Floats, list[int]]:
        content = [(at_s, int(body.get("seq", 0))) for at_s, body in self._messages(self._topic)]
        return np.array([at_s for at_s, _ in content]), [seq for _, seq in content]


class FolderRecording:
    """Recording in a folder with pictures and a ``joints.json``."""

    def __init__(self, path: Path) -> None:
        """Load the joints."""
        self._path = path
        content = _read_joints(path / JOINTS_FILE)
        scale = {"rad": 1.0, "deg": float(np.pi / 180)}.get(str(content.get("unit")))
        if scale is None:
            raise _bad_joints(f"the unit is {content.get('unit')!r}, not rad or deg")
        names, frames = content.get("names", list(SO101.joint_names)), content.get("frames")
        if not isinstance(frames, dict) or not isinstance(names, list):
            raise _bad_joints("frames are missing")
        rows = []
        for name, values in frames.items():
            if not isinstance(values, list) or len(values) != len(names) or not _finite(values):
                raise _bad_joints(f"{name} needs {len(names)} numbers, one for each joint")
            rows.append(
                in_order({joint: scale * float(value) for joint, value in zip(names, values, strict=True)}, name)
            )
        here = {file.name for file in path.iterdir() if file.suffix.lower() in PICTURES}
        known = list(frames)
        kept = [index for index, name in enumerate(known) if name in here]
        self.names = [known[index] for index in kept]
        self.positions_rad = np.array(rows).reshape(-1, len(SO101.joint_names))[kept]
        self.speeds_rad_s: Floats | None = None
        self.notes = []
        for count, what in ((len(known) - len(kept), "a picture"), (len(here - set(known)), "joints")):
            if count:
                self.notes.append(f"Skipped {count} frames without {what}.")

    def pictures(self, wanted: Iterable[int]) -> dict[int, bytes]:
        """Return encoded pictures by frame number."""
        return {index: (self._path / self.names[index]).read_bytes() for index in wanted}


def write_folder(recording: Recording, wanted: list[int], folder: Path) -> None:
    """Write frames and their joints into a folder, for a structure-from-motion program for example.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in recording.pictures(wanted).items():
        (folder / recording.names[index]).write_bytes(picture)
    frames = {recording.names[index]: recording.positions_rad[index].tolist() for index in wanted}
    content = {"unit": "rad", "names": list(SO101.joint_names), "frames": frames}
    (folder / JOINTS_FILE).write_text(json.dumps(content, indent=1))


def in_order(named: dict[str, float], where: str) -> list[float]:
    """Return positions in the order of ``SO101.joint_names``; the gripper may be missing.

    Raises:
        Failure: a joint of the arm is missing.
    """
    missing = [name for name in SO101.tip_joint_names if name not in named]
    if missing:
        message = f"{where} has no joint {', '.join(missing)}."
        hint = f"An SO-101's joints are: {', '.join(SO101.joint_names)}."
        raise Failure(message, code="joints_invalid", hint=hint)
    return [float(named.get(name, 0.0)) for name in SO101.joint_names]


def _interpolate(times_s: Floats, at_s: Floats, rows: Floats) -> Floats:
    return np.stack([np.interp(times_s, at_s, column) for column in rows.T], axis=1).astype(np.float64)


def _has_joints_near(track: _JointTrack, taken_s: Floats) -> NDArray[np.bool_]:
    """Return a mask of the frames with joint samples close before and after."""
    at_s = np.array(track.times_s)
    if not len(at_s) or not len(taken_s):
        return np.zeros(len(taken_s), bool)
    after = np.searchsorted(at_s, taken_s)
    inside = (after > 0) & (after < len(at_s))
    after = np.clip(after, 1, max(1, len(at_s) - 1))
    gap_s = np.maximum(taken_s - at_s[after - 1], at_s[np.minimum(after, len(at_s) - 1)] - taken_s)
    return np.asarray(inside & (gap_s <= _GAP_S))


def _one_topic(topics: list[str], wanted: str | None, prefix: str, what: str) -> str:
    """Return the topic with this last part; without a name there must be only one."""
    named = {topic.removeprefix(prefix): topic for topic in topics}
    if wanted is not None and wanted in named:
        return named[wanted]
    if wanted is None and len(topics) == 1:
        return topics[0]
    if wanted is None and prefix.rstrip("/") in topics:
        return prefix.rstrip("/")
    if not topics:
        raise Failure(f"The recording has no messages of a {what}.", code="recording_unreadable", hint="Stream it too.")
    known = ", ".join(sorted(named))
    said = f"no {what} {wanted}" if wanted else f"more than one {what}"
    raise Failure(f"The recording has {said}.", code="usage", hint=f"Choose with --{what}: {known}")


def _without_joints(native: bool) -> Failure:
    if native:
        message = "The recording has joints only in the motors' native units."
        hint = "Calibrate the arm with LeRobot, so that its client can convert to radians; then record again."
        return Failure(message, code="joints_missing", hint=hint)
    return Failure("The recording has no joints.", code="joints_missing", hint="Stream joints along with the frames.")


def _read_joints(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Failure(f"{path} does not exist.", code="no_such_file", hint=_FORM)
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise _bad_joints(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise _bad_joints("it is not a JSON object")
    return content


def _finite(values: list[Any]) -> bool:
    return all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value) for value in values
    )


def _bad_joints(why: str) -> Failure:
    return Failure(f"{JOINTS_FILE} cannot be used: {why}.", code="joints_invalid", hint=_FORM)
