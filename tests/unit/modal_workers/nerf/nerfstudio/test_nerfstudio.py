"""The nerfstudio backend: command lines, dataset folder, checkpoints, stopping and evaluation.

nerfstudio is not installed. A stub with its command line and its files replaces it, so no test shows that the real
program accepts these options.
"""

from __future__ import annotations

import itertools
import json
import shutil
import stat
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.nerfstudio.commands import (
    SAVE_EVERY,
    image_commands,
    models_folder,
    require_nerfstudio,
    train_command,
)
from modal_workers.nerf.nerfstudio.dataset_folder import write_folder
from modal_workers.nerf.nerfstudio.frames import SCRIPT, NerfstudioFrames, render_request
from modal_workers.nerf.nerfstudio.settings import NerfstudioSettings
from modal_workers.nerf.nerfstudio.trainer import STATE, NerfstudioTrainer, newest_step, unpack_run
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.spec import WORKLOAD
from modal_workers.nerf.training.job import train
from modal_workers.nerf.training_nerfstudio.job import run
from modal_workers.runtime.context import Stopped
from modal_workers.runtime.jobs.failure import classify
from tests.harness.vision.ray_traced_capture import ring, write_dataset
from tests.harness.vision.stage_context import FolderContext

PARAMS = NerfParams(backend="nerfstudio", iterations=2000, seed=7)

STAND_IN = """
    #!{python}
    import json, pathlib, sys, time
    options = dict(zip(sys.argv[1:], sys.argv[2:]))
    if "ns-eval" in sys.argv[0]:
        scores = {{"results": {{"psnr": 27.1234, "ssim": 0.9}}}}
        pathlib.Path(options["--output-path"]).write_text(json.dumps(scores))
        sys.exit(0)
    run = pathlib.Path(options["--output-dir"]) / options["--experiment-name"] / "nerfacto" / options["--timestamp"]
    models = run / "nerfstudio_models"
    models.mkdir(parents=True, exist_ok=True)
    (run / "config.yml").write_text("data: " + options["--data"])
    first = 0
    if "--load-dir" in options:
        first = max(int(one.stem[5:]) for one in pathlib.Path(options["--load-dir"]).glob("step-*.ckpt")) + 1
    print(f"begins at {{first}}")
    for step in range(first, int(options["--max-num-iterations"]) + 1):
        if step % 10 == 0:
            print(f"{{step}} ({{100 * step / int(options['--max-num-iterations']):.2f}}%)   12.3 ms   1 s   334.5 K")
        if step == {fails_at}:
            print("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
            sys.exit(1)
        if step and step % {every} == 0:
            for old in models.glob("*.ckpt"):
                old.unlink()
            (models / f"step-{{step:09d}}.ckpt").write_bytes(b"weights of step %d" % step)
            sys.stdout.flush()
            time.sleep({pause_s})
"""


def install(home: Path, *, fails_at: int = -1, pause_s: float = 0.0) -> NerfstudioSettings:
    (home / "bin").mkdir(parents=True, exist_ok=True)
    text = STAND_IN.format(python=sys.executable, fails_at=fails_at, every=SAVE_EVERY, pause_s=pause_s)
    for name in ("ns-train", "ns-eval"):
        program = home / "bin" / name
        program.write_text(textwrap.dedent(text).strip() + "\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return NerfstudioSettings(home=home, work=home / "work")


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("nerfstudio") / "dataset.zip", ring(9, 48), masks=True)


def desk_with(folder: Path, dataset: Path) -> FolderContext:
    folder.mkdir(parents=True, exist_ok=True)
    desk = FolderContext(folder)
    shutil.copyfile(dataset, desk.kept / "dataset.zip")
    return desk


def test_what_makes_alpha_true_and_keeps_our_poses_is_asked_for() -> None:
    command = train_command(Path("/h"), Path("/data"), Path("/runs"), PARAMS, resume=False)
    assert command[:2] == ["/h/bin/ns-train", "nerfacto"]
    options = dict(itertools.pairwise(command))
    assert options["--pipeline.model.background-color"] == "random"
    assert options["--pipeline.model.camera-optimizer.mode"] == "off"
    assert options["--max-num-iterations"] == "2000"
    assert options["--machine.seed"] == "7"
    parser = command[command.index("nerfstudio-data") :]
    options = dict(itertools.pairwise(parser))
    assert (options["--orientation-method"], options["--center-method"]) == ("none", "none")
    assert options["--auto-scale-poses"] == "False"
    assert options["--eval-interval"] == "8"
    resumed = train_command(Path("/h"), Path("/data"), Path("/runs"), PARAMS, resume=True)
    assert resumed[resumed.index("--load-dir") + 1] == str(models_folder(Path("/runs")))
    standard = train_command(Path("/h"), Path("/d"), Path("/r"), NerfParams(), resume=False)
    assert "15000" in standard


def test_every_program_in_the_image_has_its_version() -> None:
    lines = image_commands("0.9.1")
    text = "\n".join(lines)
    torch = "torch==2.1.2 torchvision==0.16.2 --torch-backend=cu118"
    for pinned in ("uv==0.9.1", "nerfstudio==1.1.5", torch, "tiny-cuda-nn.git@b3473c8", "--python 3.10"):
        assert pinned in text
    assert text.index("torch==") < text.index("tiny-cuda-nn") < text.index("nerfstudio==")


def test_the_backend_decides_which_stages_run() -> None:
    for backend, train_by, render_by in (
        ("gsplat", "training", "rendering"),
        ("nerfstudio", "training_nerfstudio", "rendering_nerfstudio"),
    ):
        needed = [stage for stage in WORKLOAD.stages if stage.needed(NerfParams(backend=backend))]
        assert [stage.name for stage in needed] == ["capture", "poses", train_by, render_by, "exhibit"]
        assert needed[3].shards(NerfParams(backend=backend)) == 10
    only = [stage.name for stage in WORKLOAD.stages if stage.needed(NerfParams(preflight_only=True))]
    assert only == ["capture", "exhibit"]


def test_photos_get_their_masks_as_alpha(masked: Path, tmp_path: Path) -> None:
    assert write_folder(masked, tmp_path / "data", PARAMS) == 9
    told = json.loads((tmp_path / "data/transforms.json").read_text())
    for frame in told["frames"]:
        assert "mask_path" not in frame
        picture = cv2.imread(str(tmp_path / "data" / frame["file_path"]), cv2.IMREAD_UNCHANGED)
        assert picture is not None
        assert picture.shape == (48, 48, 4)
        assert set(np.unique(picture[..., 3])) == {0, 255}
    sphere = PARAMS.model_copy(update={"background": "sphere"})
    assert write_folder(masked, tmp_path / "data", sphere) == 0
    assert len(list((tmp_path / "data/images").glob("*.jpg"))) == 9


def test_it_is_refused_where_nerfstudio_is_missing(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(SaccadeError) as caught:
        require_nerfstudio(tmp_path)
    assert caught.value.code is ErrorCode.BACKEND_NOT_INSTALLED
    # the stage reports the same error
    with pytest.raises(SaccadeError) as caught:
        run(PARAMS, desk_with(tmp_path / "desk", masked))
    assert caught.value.code is ErrorCode.BACKEND_NOT_INSTALLED
    assert classify(caught.value)[0] == "user"


def test_a_training_leaves_a_model_and_a_scene(masked: Path, tmp_path: Path) -> None:
    settings, desk = install(tmp_path / "home"), desk_with(tmp_path / "desk", masked)
    report = train(PARAMS, desk, NerfstudioTrainer(settings))
    assert (report.backend, report.psnr_db, report.ssim) == ("nerfstudio", 27.123, 0.9)
    assert (report.photos, report.held_out, report.masks) == (7, 2, "given")
    told = [fraction for fraction, _ in desk.told]
    assert told == sorted(told)
    scene = TrainedScene.load(desk.kept / "scene.npz")
    assert scene.splats is None
    assert scene.floor is not None
    # the objects have a radius of 0.165 m; cameras are 0.8 m away
    assert 0.15 < scene.radius < 0.35
    assert not (desk.saved / "model/splat.ply").exists()
    unpack_run(desk.kept / "nerfstudio.zip", tmp_path / "runs")
    assert newest_step(tmp_path / "runs") == 2000
    weights = models_folder(tmp_path / "runs") / "step-000002000.ckpt"
    assert (desk.saved / "model/model.pth").read_bytes() == weights.read_bytes(), "under the replaced system's name"


def test_a_run_goes_on_from_the_newest_checkpoint(masked: Path, tmp_path: Path) -> None:
    settings, folder = install(tmp_path / "home", pause_s=2.5), tmp_path / "desk"
    desk = desk_with(folder, masked)

    def dies(fraction: float, message: str = "") -> None:
        if (desk.kept / STATE).exists():
            raise Stopped

    desk.progress = dies  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        train(PARAMS, desk, NerfstudioTrainer(settings))
    assert (desk.kept / STATE).exists()
    shutil.rmtree(settings.work)
    install(tmp_path / "home")
    report = train(PARAMS, FolderContext(folder), NerfstudioTrainer(settings))
    assert report.resumed == 1


def test_too_little_memory_is_known_for_that_and_other_ends_are_told(masked: Path, tmp_path: Path) -> None:
    settings = install(tmp_path / "home", fails_at=120)
    with pytest.raises(SaccadeError) as caught:
        train(PARAMS, desk_with(tmp_path / "desk", masked), NerfstudioTrainer(settings))
    assert classify(caught.value)[0] == "out_of_memory"
    (settings.home / "bin/ns-train").write_text(
        "#!/bin/sh\necho Traceback; echo 'ValueError: no such option'; exit 3\n"
    )
    with pytest.raises(SaccadeError, match="code 3: ValueError: no such option"):
        train(PARAMS, desk_with(tmp_path / "other", masked), NerfstudioTrainer(settings))


def test_frames_are_asked_for_in_the_poses_coordinates(tmp_path: Path) -> None:
    turn = cv2.Rodrigues(np.array([0.2, -0.4, 0.9]))[0]
    similarity = np.eye(4)
    similarity[:3, :3], similarity[:3, 3] = 2.5 * turn, (1.0, 2.0, 3.0)
    scene = TrainedScene(0.2, 1.0, (10.0, 40.0), similarity, None, -0.1)
    orbit = scene.orbit(NerfParams(frames=8, elevations=1))
    told = render_request(scene, orbit, [0, 5], tmp_path / "config.yml", tmp_path)
    assert list(told["world_from_camera"]) == ["0", "5"]
    pose = np.array(told["world_from_camera"]["5"])
    assert np.allclose(pose[:, :3].T @ pose[:, :3], np.eye(3))
    # OpenGL: the camera looks along -z at the centre, at a distance of 2.5 * 1
    assert np.allclose(pose[:, 3] - 2.5 * pose[:, 2], (1.0, 2.0, 3.0))
    assert told["box"]["sides"] == pytest.approx([1.0, 1.0, 0.75])
    corner = np.array(told["box"]["middle"]) - np.array(told["box"]["rotation"])[:, 2] * 0.375
    assert np.allclose(corner, similarity[:3, :3] @ [0, 0, -0.1] + similarity[:3, 3])


def test_the_script_s_frames_come_one_by_one(tmp_path: Path) -> None:
    settings = install(tmp_path / "home")
    stand_in = settings.home / "bin/python"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import json, sys, numpy, pathlib\n"
        f"assert sys.argv[1] == {str(SCRIPT)!r}\n"
        "asked = json.loads(pathlib.Path(sys.argv[2]).read_text())\n"
        "for index in asked['world_from_camera']:\n"
        "    picture = numpy.full((asked['size_px'],) * 2 + (4,), int(index), numpy.uint8)\n"
        "    numpy.save(asked['folder'] + f'/{index}.npy', picture)\n"
        "    print('drawn', index, flush=True)\n"
    )
    stand_in.chmod(0o755)
    scene = TrainedScene(0.2, 1.0, (10.0, 40.0), np.eye(4))
    orbit = scene.orbit(NerfParams(frames=8, elevations=1, frame_size_px=32))
    frames = dict(NerfstudioFrames(scene, settings, lambda: None).frames(orbit, [1, 4, 6]))
    assert list(frames) == [1, 4, 6]
    assert all(picture.shape == (32, 32, 4) and picture.max() == index for index, picture in frames.items())
    assert list(NerfstudioFrames(scene, settings, lambda: None).frames(orbit, [])) == []
    compile(SCRIPT.read_text(encoding="utf-8"), str(SCRIPT), "exec")
