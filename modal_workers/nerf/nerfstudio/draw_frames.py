"""Script that renders frames with nerfstudio; runs in its environment (Python 3.10) and is never imported.

    python draw_frames.py frames.json

Every frame becomes ``<index>.npy``, uint8 [S, S, 4], straight alpha; then ``drawn <index>`` is printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def draw(request: dict[str, Any]) -> None:
    """Render all requested frames, one after the other."""
    import numpy as np  # noqa: PLC0415 - of nerfstudio's environment
    import torch  # noqa: PLC0415
    from nerfstudio.cameras.cameras import Cameras, CameraType  # noqa: PLC0415
    from nerfstudio.data.scene_box import OrientedBox  # noqa: PLC0415
    from nerfstudio.utils.eval_utils import eval_setup  # noqa: PLC0415

    _, pipeline, _, _ = eval_setup(Path(request["config"]), test_mode="inference")
    model = pipeline.model
    if model.renderer_rgb.background_color != "random":
        raise SystemExit("The model was not trained on random backgrounds: its alpha would be 1 everywhere.")
    size, focal, folder = int(request["size_px"]), float(request["focal_px"]), Path(request["folder"])
    box = request["box"]
    rotation, middle, sides = (
        torch.tensor(box[name], dtype=torch.float32, device=model.device) for name in ("rotation", "middle", "sides")
    )
    oriented = OrientedBox(R=rotation, T=middle, S=sides)
    for index, pose in request["world_from_camera"].items():
        camera = Cameras(
            camera_to_worlds=torch.tensor([pose], dtype=torch.float32),
            fx=focal,
            fy=focal,
            cx=size / 2,
            cy=size / 2,
            width=size,
            height=size,
            camera_type=CameraType.PERSPECTIVE,
        ).to(model.device)
        with torch.no_grad():
            outputs = model.get_outputs_for_camera(camera, obb_box=oriented)
            rgba = model.get_rgba_image(outputs)
        rgba = torch.nan_to_num(rgba).clamp(0, 1)
        rgba[rgba[..., 3] < 0.5 / 255] = 0
        image = (rgba * 255).round().to(torch.uint8).cpu().numpy()
        part = folder / f"{index}.part.npy"
        np.save(part, image)
        part.replace(folder / f"{index}.npy")
        sys.stdout.write(f"drawn {index}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
