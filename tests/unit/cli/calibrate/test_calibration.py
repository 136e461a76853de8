"""``saccade calibrate`` on the virtual arm: results against the ground truth, and refused inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from mcap.writer import Writer
from saccade_client import Recorded, SessionView

from cli.__main__ import saccade
from cli.failure import Failure
from cli.jobs.submission import read_params
from cli.sessions.mcap_export import McapSessionFile
from contracts.errors import SaccadeError
from modal_workers.live_splat.calibration.target import CharucoBoard
from modal_workers.live_splat.kinematics import SO101, SO101_JOINTS
from modal_workers.live_splat.rigid_transform import inverse_poses, pose_from_vector, rotation_matrix, rotation_vectors
from modal_workers.live_splat.spec import LiveSplatParams
from simulators.arm.motion import ArmMotion
from simulators.arm.recording import jpeg
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix, world_from_camera
from simulators.shapes import Sheet

SEED = 7
SIZE = (480, 360)
MATRIX = camera_matrix(*SIZE)
BOARD = CharucoBoard(8, 6, 0.02, 0.015)
#: Half a square of white round the board.
SHEET = Sheet((0.23, -0.09), (0.37, 0.09), 0.001)
CHARUCO = ("--charuco", "8x6", "--square-mm", "20")
SESSION = SessionView(
    id="ses_1",
    workload="live_splat",
    state="stopped",
    created_at="2026-01-02T03:04:05.678Z",
    frames={"sent": 0, "accepted": 0, "dropped": 0, "rejected": 0},
    cost={"actual_usd": 0.0},
    links={},
)
BEGAN_S = 1_700_000_000.0
#: The robot's clock is behind and says so.
SKEW_S = 0.35
OFFSETS_RAD = {"shoulder_lift": 0.02, "elbow_flex": -0.015, "wrist_flex": 0.012}
POSES = 24


@cache
def scene() -> TableScene:
    px_per_m = 6000.0
    picture = np.full((round(0.14 * px_per_m), round(0.18 * px_per_m), 3), 255, np.uint8)
    drawn = BOARD.board.generateImage((round(0.16 * px_per_m), round(0.12 * px_per_m)))
    edge = round(0.01 * px_per_m)
    picture[edge : edge + drawn.shape[0], edge : edge + drawn.shape[1]] = drawn[..., None]
    return TableScene(SEED, board=(SHEET, picture))


@cache
def poses() -> np.ndarray:
    """Return joints [P, 6] in which the arm stops."""
    return ArmMotion(SEED).positions(np.linspace(0.0, 24.0, POSES, endpoint=False))


@cache
def pictures() -> list[bytes]:
    """Take one in each pose."""
    seen = inverse_poses(world_from_camera(poses()))
    return [jpeg(scene().render(MATRIX, pose, *SIZE), 95) for pose in seen]


def said(noise_rad: float = 0.0) -> np.ndarray:
    """Return what the arm says of its poses: zeros that are off, and noise."""
    wrong = np.array([OFFSETS_RAD.get(name, 0.0) for name in SO101_JOINTS])
    return poses() - wrong + np.random.default_rng(SEED).normal(0.0, noise_rad, poses().shape)


def folder_with(folder: Path, positions: np.ndarray, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    frames = {}
    for number, picture in enumerate(pictures()):
        (folder / f"{number:04d}.jpg").write_bytes(picture)
        frames[f"{number:04d}.jpg"] = positions[number].tolist()
    told = {"unit": "rad", "names": list(SO101_JOINTS), "frames": frames} | changed
    (folder / "joints.json").write_text(json.dumps(told))
    return folder


def recorded(path: Path, *, camera: str = "wrist", also: str | None = None, unit: str = "rad") -> Path:
    """Write an export: the arm rests a second in each pose and moves for half a second to the next."""
    clock = {"offset_s": SKEW_S, "error_s": 0.002}
    positions, names = said(0.0005), list(SO101_JOINTS)[::-1]  # whatever order a robot has them in
    messages: list[tuple[float, Recorded]] = []

    def add(at_s: float, kind: str, headers: dict[str, str], body: bytes) -> None:
        stored_ns = round((BEGAN_S + at_s + 0.03) * 1e9)
        messages.append((at_s, Recorded(kind, len(messages) + 1, stored_ns, headers, body)))

    for tick in range(int(POSES * 1.5 * 50)):
        at_s = tick / 50
        pose, part = divmod(at_s, 1.5)
        share = max(0.0, (part - 1.0) / 0.5)
        here = int(pose)
        row = (1 - share) * positions[here] + share * positions[min(here + 1, POSES - 1)]
        sample = {"seq": tick, "captured_at_s": BEGAN_S + at_s - SKEW_S, "positions": row[::-1].tolist()}
        batch = {"source": "arm", "names": names, "unit": unit, "samples": [sample], "clock": clock}
        add(at_s, "joints", {}, json.dumps(batch).encode())
    for number, picture in enumerate(pictures()):
        for source, part in ((camera, 0.5), (also, 0.6)):
            if source is not None:
                at_s = 1.5 * number + part
                own_s, offset = repr(BEGAN_S + at_s - SKEW_S), repr(SKEW_S)
                told = {"Frame-Seq": str(number), "Frame-Captured-At": own_s, "Frame-Clock-Offset": offset}
                add(at_s, "frames", told | {"Frame-Source": source, "Content-Type": "image/jpeg"}, picture)
    # A frame before the first joints.
    early = {"Frame-Seq": "999", "Frame-Captured-At": repr(BEGAN_S - 5 - SKEW_S), "Frame-Source": camera}
    add(-5.0, "frames", early | {"Frame-Clock-Offset": repr(SKEW_S), "Content-Type": "image/jpeg"}, pictures()[0])
    with path.open("wb") as stream:
        file = McapSessionFile(stream, SESSION)
        for _, message in sorted(messages, key=lambda pair: pair[0]):
            file.add(message)
        assert file.finish().unreadable == 0
    return path


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(saccade, ["calibrate", *map(str, words)])


def found(*words: str | Path) -> dict[str, Any]:
    result = call(*words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def refused(*words: str | Path) -> Failure | SaccadeError:
    result = call(*words)
    assert isinstance(result.exception, Failure | SaccadeError), (result.output, result.exception)
    assert result.exception.hint
    return result.exception


def off(params: dict[str, Any]) -> tuple[float, float]:
    """Return how far a result is from the truth: mm and degrees."""
    apart = inverse_poses(GRIPPER_FROM_CAMERA) @ np.array(params["gripper_from_camera"]).reshape(4, 4)
    return 1e3 * float(np.linalg.norm(apart[:3, 3])), float(np.rad2deg(np.linalg.norm(rotation_vectors(apart[:3, :3]))))


def test_an_exported_session_tells_camera_lens_and_zeros(tmp_path: Path) -> None:
    path, output = recorded(tmp_path / "session.mcap"), tmp_path / "calibration.json"
    told = found(path, *CHARUCO, "-o", output)
    assert told["trusted"], told["doubts"]
    millimetres, degrees = off(told["params"])
    assert (millimetres < 1.5, degrees < 0.3) == (True, True), (millimetres, degrees, told)
    camera = told["params"]["intrinsics"]
    assert camera["fx_px"] == pytest.approx(MATRIX[0, 0], rel=0.01)
    assert (camera["cx_px"], camera["cy_px"]) == pytest.approx((SIZE[0] / 2, SIZE[1] / 2), abs=3)
    for name, value in OFFSETS_RAD.items():
        assert told["joint_offsets_rad"][name] == pytest.approx(value, abs=0.008), name
    assert told["residual_px"] < 0.5
    assert (told["residual_mm"] < 2.0, told["residual_deg"] < 0.4) == (True, True), told
    assert told["halves_mm"] < 3.0
    assert told["views"] >= 15
    assert "999999.jpg" not in told["frames"]
    assert any("Skipped 1 frames without joints within 50 ms." in one for one in told["notes"])
    assert not any("motion" in one for one in told["notes"]), "the arm rests in each pose, and that is seen"
    # What is written is what a session takes.
    params = LiveSplatParams.model_validate(read_params(f"@{output}"))
    assert off(params.model_dump()) == (millimetres, degrees)
    assert params.intrinsics is not None


def test_a_folder_does_as_well_with_degrees_and_a_known_camera(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "frames", np.rad2deg(said()), unit="deg")
    camera = tmp_path / "camera.json"
    half = {"width_px": 240, "height_px": 180, "fx_px": MATRIX[0, 0] / 2, "fy_px": MATRIX[1, 1] / 2}
    camera.write_text(json.dumps(half | {"cx_px": 120, "cy_px": 90}))
    told = found(folder, *CHARUCO, "--intrinsics", camera, "-o", tmp_path / "out.json")
    millimetres, degrees = off(told["params"])
    assert (millimetres < 1.0, degrees < 0.2) == (True, True), (millimetres, degrees)
    assert told["params"]["intrinsics"]["fx_px"] == pytest.approx(MATRIX[0, 0], abs=0.001)
    (folder / "0002.jpg").unlink()
    (folder / "later.png").write_bytes(b"")
    notes = found(folder, *CHARUCO, "--views", "10", "-o", tmp_path / "out.json")["notes"]
    assert notes == ["Skipped 1 frames without a picture.", "Skipped 1 frames without joints."]


def test_a_person_reads_what_to_do_next(tmp_path: Path) -> None:
    folder, output = folder_with(tmp_path / "frames", said()), tmp_path / "out.json"
    result = call(folder, *CHARUCO, "-o", output)
    assert result.exit_code == 0, (result.output, result.exception)
    for part in (
        "views ",
        "lens ",
        "residuals ",
        "halves ",
        "gripper_from_camera",
        "The calibration is reliable.",
        f"--params @{output}",
    ):
        assert part in result.output


def test_wrong_views_are_left_out_and_named(tmp_path: Path) -> None:
    positions = said()
    for number in (5, 11, 17):
        positions[number] = (positions[number - 3] + positions[number - 4]) / 2  # joints of another moment
    told = found(folder_with(tmp_path / "frames", positions), *CHARUCO, "-o", tmp_path / "out.json")
    assert set(told["left_out_mm"]) == {"0005.jpg", "0011.jpg", "0017.jpg"}
    assert off(told["params"])[0] < 1.5


def test_what_is_doubtful_is_not_written(tmp_path: Path) -> None:
    positions = poses() + np.random.default_rng(SEED).normal(0.0, 0.06, poses().shape)
    folder, output = folder_with(tmp_path / "frames", positions), tmp_path / "out.json"
    words = (*CHARUCO, "--views", "12", "--no-refine-joints", "-o", output)
    result = call(folder, *words)
    assert isinstance(result.exception, Failure)
    assert result.exception.code == "calibration_doubtful"
    assert "The calibration is doubtful." in result.output
    assert not output.exists()
    assert not found(folder, *words, "--anyway")["trusted"]
    assert output.exists()


def test_poses_of_structure_from_motion_do_without_a_target(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    assert "frames and their joints" in call(recorded(tmp_path / "session.mcap"), "--frames-to", frames).output
    joints = json.loads((frames / "joints.json").read_text())["frames"]
    assert len(joints) >= 15
    assert {one.name for one in frames.glob("*.jpg")} == set(joints)
    lines = ["# Image list with two lines of data per image:"]
    model = pose_from_vector(np.array([0.4, -2.0, 1.0, 0.7, -1.9, 0.4]))
    for number, name in enumerate(joints, 1):
        world = model @ world_from_camera(poses()[int(name[:6])])
        world[:3, 3] /= 3.7  # a unit of the model, in metres
        seen = inverse_poses(world)
        vector = rotation_vectors(seen[:3, :3])
        angle = float(np.linalg.norm(vector))
        quaternion = [np.cos(angle / 2), *(np.sin(angle / 2) * vector / angle)]
        assert np.abs(rotation_matrix(vector) - seen[:3, :3]).max() < 1e-9
        lines += [" ".join(map(str, [number, *quaternion, *seen[:3, 3], 1, name])), ""]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "cameras.txt").write_text("# cameras\n1 SIMPLE_RADIAL 480 360 342.7 240 180 -0.01\n")
    told = found(frames, "--poses", tmp_path / "images.txt", "-o", tmp_path / "out.json")
    assert told["scale"] == pytest.approx(3.7, rel=0.05)
    millimetres, degrees = off(told["params"])
    # The zeros that are off bend the arm's poses, and there are no corners to tell them from.
    assert (millimetres < 12.0, degrees < 2.0) == (True, True), (millimetres, degrees)
    camera = LiveSplatParams.model_validate(told["params"]).intrinsics
    assert camera is not None
    assert (camera.cx_px, camera.distortion) == (240.0, (-0.01, 0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "joints.json").unlink(), "does not exist"),
        (lambda folder: (folder / "joints.json").write_text("{"), "not JSON"),
        (lambda folder: folder_with(folder, said(), unit="turns"), "not rad or deg"),
        (lambda folder: folder_with(folder, said(), names=["a", "b", "c", "d", "e", "f"]), "no joint shoulder_pan"),
        (lambda folder: folder_with(folder, said(), frames={"0000.jpg": [0.1] * 5}), "0000.jpg needs 6 numbers"),
        (lambda folder: folder_with(folder, said(), frames={"0000.jpg": [float("nan")] * 6}), "needs 6 numbers"),
        (lambda folder: folder_with(folder, said(), frames={}), "no frame with joints"),
        (lambda folder: (folder / "0003.jpg").write_bytes(b"noise"), "0003.jpg cannot be read"),
        (
            lambda folder: (folder / "0003.jpg").write_bytes(jpeg(np.zeros((60, 80, 3), np.uint8))),
            "0003.jpg is 80 x 60",
        ),
        (lambda folder: folder_with(folder, np.repeat(said()[:1], POSES, axis=0)), "1 of 1 frames|0 of 1 frames"),
        (lambda folder: folder_with(folder, one_axis()), "one axis only"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_bad_folders_are_refused(tmp_path: Path, change: Callable[[Path], Any], says: str) -> None:
    folder = folder_with(tmp_path / "frames", said())
    change(folder)
    refusal = refused(folder, *CHARUCO, "-o", tmp_path / "out.json")
    assert re.search(says, refusal.message), refusal.message
    assert not (tmp_path / "out.json").exists()


def one_axis() -> np.ndarray:
    """Return joints that turn the gripper about one axis, whatever the pictures show."""
    positions = np.repeat(said()[:1], POSES, axis=0)
    positions[:, SO101.joint_names.index("wrist_roll")] += np.linspace(-0.8, 0.8, POSES)
    return positions


def test_a_board_of_other_counts_is_not_found(tmp_path: Path) -> None:
    few = {f"{number:04d}.jpg": said()[number].tolist() for number in range(6)}
    folder = folder_with(tmp_path / "frames", said(), frames=few)
    refusal = refused(folder, "--chessboard", "9x6", "--square-mm", "20")
    assert "0 of 6 frames" in refusal.message
    assert "numbers of squares" in refusal.hint


def test_recordings_with_a_choice_ask_for_it(tmp_path: Path) -> None:
    several = recorded(tmp_path / "two.mcap", also="table")
    assert "table, wrist" in refused(several, *CHARUCO).hint
    assert "no camera lamp" in refused(several, *CHARUCO, "--camera", "lamp").message
    assert "no robot left" in refused(several, *CHARUCO, "--camera", "wrist", "--robot", "left").message
    native = recorded(tmp_path / "native.mcap", unit="native")
    assert "motors' native units" in refused(native, *CHARUCO).message
    (tmp_path / "noise.mcap").write_bytes(b"noise" * 100)
    assert "not an MCAP file" in refused(tmp_path / "noise.mcap", *CHARUCO).message
    assert "does not exist" in refused(tmp_path / "none.mcap", *CHARUCO).message
    with (tmp_path / "foreign.mcap").open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        for topic in ("/camera/wrist", "/joints"):
            writer.add_message(writer.register_channel(topic, "cdr", 0), 1, b"\x00\x01", 1)
        writer.finish()
    assert "not an exported session" in refused(tmp_path / "foreign.mcap", *CHARUCO).message


def test_a_camera_that_no_session_takes_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "frames", said())
    whole = {"width_px": 480, "height_px": 360, "fx_px": 342.0, "fy_px": 342.0, "cx_px": 240.0, "cy_px": 180.0}
    for camera, says in (
        (whole | {"distortion": [0.1]}, "k1 k2 p1 p2"),
        (whole | {"fx_px": -1}, "fx_px"),
        (whole | {"height_px": 480}, "480 x 480"),
        ([], "not a JSON object"),
        ({}, "width_px"),
    ):
        (tmp_path / "camera.json").write_text(json.dumps(camera))
        refusal = refused(folder, *CHARUCO, "--intrinsics", tmp_path / "camera.json")
        assert says in refusal.message, refusal.message
    assert "does not exist" in refused(folder, *CHARUCO, "--intrinsics", tmp_path / "none.json").message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--charuco, --chessboard and --poses"),
        (("--charuco", "8x6"), "--square-mm"),
        (("--charuco", "eight", "--square-mm", "20"), "two counts"),
        ((*CHARUCO, "--chessboard", "7x6"), "not both"),
        ((*CHARUCO, "--poses", "images.txt"), "--charuco, --chessboard and --poses"),
    ],
)
def test_a_call_that_says_too_little_is_a_mistake_of_usage(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    result = call(tmp_path, *words)
    assert result.exit_code == 2
    assert says in result.output


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("images.txt", "1 2 3\n", "holds no poses"),
        ("poses.json", '{"frames": {"0000.jpg": [1, 2]}}', "holds no poses"),
        ("poses.json", '{"frames": {}}', "0 frames have joints and a pose"),
    ],
)
def test_poses_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    folder = folder_with(tmp_path / "frames", said())
    assert says in refused(folder, "--poses", tmp_path / name).message


def test_params_of_a_session_come_from_a_file_or_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text('{"seed": 3}')
    assert read_params(f"@{tmp_path / 'params.json'}") == read_params('{"seed": 3}') == {"seed": 3}
    for text, says in (("@nowhere.json", "does not exist"), ("{", "not JSON"), ("[1]", "not a JSON object")):
        with pytest.raises(Failure, match=says):
            read_params(text)


def test_distorted_pictures_tell_the_lens(tmp_path: Path) -> None:
    from modal_workers.live_splat.calibration.lens import calibrate_lens
    from modal_workers.live_splat.calibration.target import TargetView

    bent = np.array([-0.25, 0.08, 0.0, 0.0])
    points = np.asarray(BOARD.board.getChessboardCorners(), np.float64)
    generator, views = np.random.default_rng(SEED), []
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1]], float)
    pose[:3, 3] = (0.36, 0.08, 0.0)
    for seen in inverse_poses(world_from_camera(poses())) @ pose:
        turn = cv2.Rodrigues(seen[:3, :3])[0]
        pixels = cv2.projectPoints(points, turn, seen[:3, 3], MATRIX, bent)[0][:, 0]
        views.append(TargetView(points, pixels + generator.normal(0, 0.1, pixels.shape)))
    lens = calibrate_lens(views, *SIZE)
    assert len(lens.distortion) == 4, "the lens is bent, and not otherwise"
    assert lens.distortion[0] == pytest.approx(-0.25, abs=0.02)
    assert lens.camera_matrix[0, 0] == pytest.approx(MATRIX[0, 0], rel=0.005)
    assert not lens.warnings
