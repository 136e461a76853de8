"""A small TrackNet-class network, trained on the simulator's frames.

    python bench/badminton_shuttle_network.py [--matches 60] [--minutes 20] [--out shuttle.onnx]

Writes an ONNX file, which BADMINTON_SHUTTLE_ONNX can name and ``badminton_shuttle.py --network`` measures. It follows
TrackNetV3's convention: the median of earlier pictures and three pictures in, three heat maps out; 768 x 432, 0.18
million parameters. It is trained on crops of pictures that were encoded and decoded as those of a job. The weights know
simulated shuttles only.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av", "torch")

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from modal_workers.badminton.shuttle.median_background import MedianBackground
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_renderer import MatchRenderer
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.truth_from_world import make_match

Picture = NDArray[np.uint8]
Floats = NDArray[np.float64]

WIDTH_PX, HEIGHT_PX = 768, 432
PICTURES: Final = 3
CROP_PX: Final = (96, 160)  # height, width
TRAINED_S: Final = 8.0
#: The shuttle is this large in the wanted heat map; around it nothing is asked.
_SHUTTLE_PX, _AROUND_PX, _HIDDEN_PX = 2.6, 4.6, 12.0
_BATCH: Final = 16


class SmallTrackNet(nn.Module):
    """A small U-Net over the pictures' differences from the background; works at half of the input's size and less."""

    def __init__(self) -> None:
        super().__init__()
        self.differences = nn.Conv2d(3 * (PICTURES + 1), 13, 1, bias=False)
        with torch.no_grad():
            self.differences.weight.copy_(_differences())
        self.differences.weight.requires_grad_(False)
        self.fine = nn.Sequential(_layer(13, 24, 2), _layer(24, 24))
        self.middle = nn.Sequential(_layer(24, 40, 2), _layer(40, 40))
        self.coarse = nn.Sequential(_layer(40, 64, 2), _layer(64, 64), _layer(64, 64, dilation=2))
        self.to_middle = _layer(104, 40)
        self.to_fine = _layer(64, 24)
        self.heat = nn.Conv2d(24, 4 * PICTURES, 3, padding=1)
        nn.init.constant_(self.heat.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 3, H, W] of pictures [B, 12, H, W] from 0 to 1."""
        half = self.fine(self.differences(pictures))
        quarter = self.middle(half)
        eighth = self.coarse(quarter)
        up = nn.functional.interpolate(eighth, scale_factor=2.0, mode="nearest")
        quarter = self.to_middle(torch.cat([quarter, up], 1))
        up = nn.functional.interpolate(quarter, scale_factor=2.0, mode="nearest")
        half = self.to_fine(torch.cat([half, up], 1))
        return nn.functional.pixel_shuffle(self.heat(half), 2)


class _HeatMaps(nn.Module):
    def __init__(self, network: SmallTrackNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.network(pictures))


def _layer(channels: int, out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _differences() -> torch.Tensor:
    """Return weights [13, 12, 1, 1]: each picture's difference from the background, and all of them in grey."""
    weight = torch.zeros(13, 12)
    for picture in range(PICTURES):
        for colour in range(3):
            weight[3 * picture + colour, 3 + 3 * picture + colour] = 4.0
            weight[3 * picture + colour, colour] = -4.0
    for picture in range(PICTURES + 1):
        weight[9 + picture, 3 * picture : 3 * picture + 3] = torch.tensor([0.3, 0.59, 0.11])
    return weight[:, :, None, None]


# Samples


def make_samples(folder: Path, matches: int, first_seed: int) -> None:
    """Write crops of matches, a file for each, as they come."""
    for seed in range(first_seed, first_seed + matches):
        options = training_options(seed)
        truth, pictures = filmed(options)
        crops, places = samples_of(truth, pictures, np.random.default_rng([seed, 3]))
        part = folder / f"{seed}.part"
        with part.open("wb") as file:
            np.savez(file, crops=crops, places=places)
        part.rename(folder / f"{seed}.npz")


def training_options(seed: int) -> MatchOptions:
    """Return a match as different from the others as the simulator can make it."""
    random = np.random.default_rng([seed, 1])
    return MatchOptions(
        seed=seed,
        duration_s=TRAINED_S + 3.0,
        camera=CAMERA_NAMES[seed % len(CAMERA_NAMES)],
        rate_hz=float(random.choice([30, 30, 30, 25, 50])),
        doubles=bool(random.uniform() < 0.3),
        bystanders=bool(random.uniform() < 0.5),
        quick_service=True,
        noise=float(random.uniform(1.5, 5.0)),
        shutter=float(random.uniform(0.15, 0.6)),
        exposure_variation=float(random.uniform(0.0, 0.08)),
        quality_crf=int(random.integers(18, 28)),
    )


def filmed(options: MatchOptions) -> tuple[MatchTruth, list[tuple[int, Picture]]]:
    """Return the truth and the pictures (frame, RGB in the network's size), encoded and decoded in between."""
    renderer = MatchRenderer(make_match(options))
    truth = renderer.match.truth
    first = int(np.searchsorted(truth.time_s, truth.time_s[-1] - TRAINED_S))
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(options.rate_hz))
        stream.width, stream.height, stream.pix_fmt = options.width_px, options.height_px, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "superfast", "crf": str(options.quality_crf), "g": "60"}
        for index in range(first, len(truth.time_s)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(renderer.draw(index), format="bgr24")))
        container.mux(stream.encode(None))
    memory.seek(0)
    pictures = []
    with av.open(memory) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            picture = cv2.resize(frame.to_ndarray(format="rgb24"), (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
            pictures.append((first + index, np.asarray(picture, np.uint8)))
    return truth, pictures


def samples_of(
    truth: MatchTruth, pictures: list[tuple[int, Picture]], random: np.random.Generator
) -> tuple[Picture, NDArray[np.float32]]:
    """Return crops [n, 12, h, w] and the shuttle in each picture [n, 3, 3]: x, y, and 0 none, 1 seen, 2 not asked."""
    background = MedianBackground(truth.options.rate_hz)
    scale = np.array([WIDTH_PX / truth.options.width_px, HEIGHT_PX / truth.options.height_px])
    crops: list[Picture] = []
    places: list[Floats] = []
    for start in range(0, len(pictures) - PICTURES + 1, PICTURES):
        group = pictures[start : start + PICTURES]
        for _, picture in group:
            background.add(picture)
        median = group[-1][1] if background.picture is None else background.picture
        stacked = np.concatenate([median, *(picture for _, picture in group)], axis=2)
        shuttle = np.array([_shuttle(truth, frame, scale) for frame, _ in group])
        seen = shuttle[shuttle[:, 2] == 1, :2]
        middles = [seen[random.integers(len(seen))]] if len(seen) else []
        if random.uniform() < 0.5:
            boxes = truth.boxes_px[:, group[0][0]]
            boxes = boxes[np.isfinite(boxes).all(1)]
            middle = random.uniform((0, 0), (WIDTH_PX, HEIGHT_PX))
            if len(boxes) and random.uniform() < 0.6:
                box = boxes[random.integers(len(boxes))]
                middle = random.uniform(box[:2], box[2:]) * scale
            middles.append(middle)
        for middle in middles:
            low = np.round(middle - random.uniform(0.15, 0.85, 2) * CROP_PX[::-1])
            low = np.clip(low, 0, np.array([WIDTH_PX, HEIGHT_PX]) - CROP_PX[::-1]).astype(int)
            x, y = (int(value) for value in low)
            crop = stacked[y : y + CROP_PX[0], x : x + CROP_PX[1]]
            crops.append(np.ascontiguousarray(crop.transpose(2, 0, 1)))
            places.append(shuttle - (x, y, 0))
    return np.array(crops), np.array(places, np.float32)


def _shuttle(truth: MatchTruth, frame: int, scale: Floats) -> Floats:
    place, state = truth.shuttle_px[frame], int(truth.shuttle_state[frame])
    if state == 0 or not np.isfinite(place).all():
        return np.array([0.0, 0.0, 0.0])
    kind = 1.0 if state == 1 and truth.shuttle_visible[frame] else 2.0
    return np.array([*((place + 0.5) * scale - 0.5), kind])


# Training


def train(folder: Path, minutes: float, matches: int, begun: Path | None = None) -> SmallTrackNet:
    """Return a network trained for so many minutes of CPU time on the samples, which may still be written.

    ``begun``: weights to go on with, at a lower rate.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    network = SmallTrackNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fastest = 2e-3
    if begun is not None:
        network.load_state_dict(torch.load(begun))
        fastest = 1e-3
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(wanted, lr=fastest, weight_decay=1e-4)
    started_s, step, losses = time.process_time(), 0, 0.0
    files: dict[Path, tuple[Picture, NDArray[np.float32]]] = {}
    while True:
        done = (time.process_time() - started_s) / (60 * minutes)
        if done >= 1:
            break
        if step % 100 == 0 and len(files) < matches:
            for path in sorted(folder.glob("*.npz")):
                if path not in files:
                    with np.load(path) as arrays:
                        files[path] = (arrays["crops"], arrays["places"])
        for group in optimiser.param_groups:
            group["lr"] = fastest * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        crops, heat, asked = _batch(list(files.values()), random)
        logits = network(crops)
        # Focal loss: a heat map is nearly empty, and most of it is easy.
        probability = torch.sigmoid(logits)
        right = torch.where(heat > 0, probability, 1 - probability)
        loss = (-((1 - right) ** 2) * torch.log(right.clamp_min(1e-6)) * asked).sum() / _BATCH / 20
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(wanted, 5.0)
        optimiser.step()
        losses = 0.98 * losses + 0.02 * float(loss.detach())
        step += 1
        if step % 100 == 0:
            print(f"step {step} of {len(files)} matches: loss {losses:.4f}, {done:.0%} of the time", flush=True)
            torch.save(network.state_dict(), folder / "network.pt")
    return network.eval()


def _batch(
    files: list[tuple[Picture, NDArray[np.float32]]], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return pictures, wanted heat maps, and where they are asked, of random samples, mirrored and lit by chance."""
    height, width = CROP_PX
    crops = np.empty((_BATCH, 12, height, width), np.float32)
    heat = np.zeros((_BATCH, PICTURES, height, width), np.float32)
    asked = np.ones_like(heat)
    ys, xs = np.mgrid[:height, :width]
    for row in range(_BATCH):
        pictures, places = files[random.integers(len(files))]
        index = random.integers(len(pictures))
        crop, place = pictures[index].astype(np.float32) / 255, places[index].copy()
        if random.uniform() < 0.5:
            crop, place[:, 0] = crop[..., ::-1], width - 1 - place[:, 0]
        if random.uniform() < 0.3:
            # Backwards: the pictures change their order, the background stays.
            crop, place = np.concatenate([crop[:3], crop[9:], crop[6:9], crop[3:6]]), place[::-1]
        colour = np.tile(random.uniform(0.85, 1.15, 3), 4)[:, None, None] * random.uniform(0.75, 1.15)
        crops[row] = np.clip(crop * colour + random.uniform(-0.04, 0.04), 0, 1)
        for picture, (x, y, kind) in enumerate(place):
            distance = np.hypot(xs - x, ys - y)
            if kind == 1:
                heat[row, picture] = distance < _SHUTTLE_PX
                asked[row, picture][(distance >= _SHUTTLE_PX) & (distance < _AROUND_PX)] = 0
            elif kind == 2:
                asked[row, picture][distance < _HIDDEN_PX] = 0
    channels_last = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
    return channels_last, torch.from_numpy(heat), torch.from_numpy(asked)


def export(network: SmallTrackNet, path: Path) -> None:
    """Write the network as an ONNX file with the convention of TrackNetV3."""
    pictures = torch.zeros(1, 3 * (PICTURES + 1), HEIGHT_PX, WIDTH_PX)
    # The other exporter needs packages that nothing else here needs.
    options: dict[str, Any] = {"dynamo": False, "opset_version": 17, "input_names": ["pictures"]}
    torch.onnx.export(_HeatMaps(network).eval(), (pictures,), str(path), **options)


def main() -> None:
    """Make samples, train, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matches", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU time of the training")
    parser.add_argument("--first-seed", type=int, default=20000)
    parser.add_argument("--samples", type=Path, help="folder of samples made before, or still being made")
    parser.add_argument("--only-samples", action="store_true")
    parser.add_argument("--begun", type=Path, help="weights (network.pt) to go on with")
    parser.add_argument("--out", type=Path, default=Path("shuttle.onnx"))
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = wanted.samples or Path(temporary)
        if wanted.only_samples or not wanted.samples:
            make_samples(folder, wanted.matches, wanted.first_seed)
        if not wanted.only_samples:
            export(train(folder, wanted.minutes, wanted.matches, wanted.begun), wanted.out)


if __name__ == "__main__":
    main()
