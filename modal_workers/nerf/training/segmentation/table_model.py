"""The table as photos together show it, and which pixels of a photo show just that: gaps in the object, shadows by it.

The table is a plane, so what one photo shows of a place on it all others show too, unless something stands before it.
Of places that most photos see beside the object the colour is known. From there what is known grows to places that
are hardly seen (in a gap, under the object), where photos agree on a colour and it goes on from a neighbour's: what
stands on the table ends with an edge. A pixel with the colour of the place behind it is open: it shows the table, or
something that from there looks just like it. One photo cannot tell; all of them together can (``fitting``,
``separation``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.nerf.training.fitting import TargetImage

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

#: Photos are looked at no larger, and no more of them: the table needs no more.
_SIZE_PX: Final = 640
_MOST_PHOTOS: Final = 120
#: Places along a scene unit, for each pixel of the photos' long side; and at most along the square.
_PLACES: Final = 1.8
_MOST_PLACES: Final = 1024
_AT_ONCE: Final = 2**22
#: Colours are the same that differ by less, in 0..255 and as a share of their brightness.
_SAME: Final = 6.0
_SAME_SHARE: Final = 0.05
#: A place is seen free where so many photos have it outside of their masks, and well known where this share does.
_FREE: Final = 3
_MOSTLY: Final = 0.4
#: Photos that have it free and agree: where it is well known (there is texture that none shows sharp), and elsewhere.
_AGREE_KNOWN: Final = 0.3
_AGREE_FREE: Final = 0.6
#: How far from the mask that was found before pixels are doubted, as a share of the long side.
_BAND: Final = 0.014
#: A pixel is open that is nearer to the table's colour than so many times what is the same.
TABLE_COLOUR_LIMIT: Final = 2.0
_FAR: Final = 4.0
#: Photos that show the table beside the object otherwise than it is known, in more than this share, do not count.
_STRANGE: Final = 0.25
_SPECK: Final = 0.02
_SQUARE: Final = np.ones((3, 3), np.uint8)
_LARGE_SQUARE: Final = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class TableModel:
    """A square of the table about the axis of the scene: its colours, and where they are known."""

    radius: float
    height: float
    colours: Floats  # [N, N, 3] 0..255, rows along y, columns along x; the nearest known one where it is not
    known: Flags  # [N, N]


@dataclass(frozen=True)
class TableComparison:
    """A photo against the table behind it, all [H, W], at the size that it is looked at."""

    behind: Floats  # [H, W, 3] 0..255, as this photo is exposed
    known: Flags  # whether what is behind is known
    inside: Flags  # whether that is in the square at all
    apart: Floats  # how far from the colour behind, in what is the same


def build_table_model(targets: list[TargetImage], radius: float, height: float) -> TableModel:
    """Put the table together from photos with masks; ``height`` is the table's z, ``radius`` half the square's side."""
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(_MOST_PHOTOS, len(targets))).round().astype(int))
    small = [limit_size(targets[index]) for index in chosen]
    size_px = max(max(one.camera.width_px, one.camera.height_px) for one in small)
    places = min(_MOST_PLACES, max(32, round(_PLACES * size_px * radius)))
    like = small[0].camera_from_world
    side = ((torch.arange(places, device=like.device, dtype=like.dtype) + 0.5) / places * 2 - 1) * radius
    taken = [torch.from_numpy(cv2.dilate(_array(one.mask), _LARGE_SQUARE)).to(like.device) for one in small]
    coarse = _gathered(_rows(side, side[::8], height)[:, ::8].reshape(-1, 3), small, taken)
    gains = _gains(coarse[0], coarse[2])
    step = max(1, _AT_ONCE // (places * len(small)))
    parts = []
    for begin in range(0, places, step):
        row = _rows(side, side[begin : begin + step], height)
        colours, within, free = _gathered(row.reshape(-1, 3), small, taken)
        found = _agreed(colours / gains[:, None], within, free)
        parts.append([one.reshape(*row.shape[:2], -1) for one in found])
    whole, possible, sure = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
    seen = np.asarray(whole, np.float32)
    known = grow_known_area(seen, possible[..., 0], sure[..., 0])
    return TableModel(radius, height, _filled(seen, known), known)


def grow_known_area(colours: Floats, possible: Flags, sure: Flags) -> Flags:
    """Let what is ``sure`` [N, N] grow over what is ``possible`` as far as colours [N, N, 3] go on without an edge."""
    known = sure.copy()
    for _ in range(len(known)):
        weight = known.astype(np.float32)
        share = cv2.blur(weight, (3, 3))
        around = cv2.blur(colours * weight[..., None], (3, 3)) / np.maximum(share, 1e-6)[..., None]
        alike = np.abs(colours - around).max(-1) < _SAME + _SAME_SHARE * around.mean(-1)
        more = possible & ~known & (share > 1e-3) & alike
        if not more.any():
            break
        known |= more
    return np.asarray(cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_CLOSE, _LARGE_SQUARE) > 0)


def _filled(colours: Floats, known: Flags) -> Floats:
    """Take the nearest known colour where none is: about what the table would be there."""
    if not known.any():
        return colours
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((int(labels.max()) + 1, 3), np.float32)
    table[labels[known]] = colours[known]
    return np.asarray(np.where(known[..., None], colours, table[labels]), np.float32)


def mark_ambiguous_pixels(ground: TableModel, target: TargetImage) -> TargetImage:
    """Say of a photo with a mask which pixels are open and what is behind; where it clearly is not, it is the object.

    A photo that shows the table otherwise than it is known (a shadow that moved) is given back as it was.
    """
    small = limit_size(target)
    mask = _array(small.mask)
    look = compare_with_table(ground, small)
    if look is None:
        return target
    band = max(2, round(_BAND * max(mask.shape)))
    near = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))) > 127
    same = (look.known & (look.apart < TABLE_COLOUR_LIMIT)).astype(np.uint8)
    opened = (cv2.morphologyEx(same, cv2.MORPH_CLOSE, _SQUARE) > 0) & near
    other = (near & look.inside & (look.apart >= TABLE_COLOUR_LIMIT)).astype(np.uint8)
    mask[opened | (cv2.morphologyEx(other, cv2.MORPH_OPEN, _SQUARE) > 0)] = 255
    opened |= look.known & _specks((mask > 127) & ~opened)
    size = (target.camera.width_px, target.camera.height_px)
    behind = look.behind.clip(0, 255).round().astype(np.uint8)
    found = [
        cv2.resize(one, size, interpolation=cv2.INTER_LINEAR)
        for one in (mask, opened.astype(np.uint8) * 255, behind)
    ]  # fmt: skip
    mask_, opened_, behind_ = (torch.from_numpy(np.atleast_3d(one)).to(target.picture.device) for one in found)
    return replace(target, mask=mask_, opened=opened_, behind=behind_)


def compare_with_table(ground: TableModel, target: TargetImage) -> TableComparison | None:
    """Hold a photo with a mask against the table; None where it shows the table otherwise than it is known."""
    x, y = _places(ground, target)
    places = len(ground.known)
    inside = (np.minimum(x, y) > 3) & (np.maximum(x, y) < places - 4)
    known = inside & (cv2.remap(ground.known.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0)
    behind = np.asarray(cv2.remap(ground.colours, x, y, cv2.INTER_LINEAR), np.float32)
    picture = target.picture.cpu().numpy().astype(np.float32)
    beside = known & (cv2.dilate(_array(target.mask), _LARGE_SQUARE) < 60)
    if not beside.any():
        return None
    behind *= np.median(picture[beside] / np.maximum(behind[beside], 4.0), axis=0).astype(np.float32)
    # a pixel beside its place, and between two colours: poses are not exact, and texture is blurred by looking it up
    over, under = picture - cv2.dilate(behind, _SQUARE), cv2.erode(behind, _SQUARE) - picture
    apart = np.maximum(over, under).max(-1).clip(0) / (_SAME + _SAME_SHARE * behind.mean(-1))
    apart = np.asarray(cv2.blur(np.minimum(apart, _FAR), (3, 3)), np.float32)
    if (apart[beside] >= TABLE_COLOUR_LIMIT).mean() > _STRANGE:
        return None
    return TableComparison(behind, known, inside, apart)


def limit_size(target: TargetImage) -> TargetImage:
    """Give a photo no larger than it is worth to be held against the table."""
    factor = _SIZE_PX / max(target.camera.width_px, target.camera.height_px)
    return target if factor >= 1 else target.scaled(factor)


def _array(mask: Tensor | None) -> Bytes:
    assert mask is not None
    return np.array(mask[..., 0].cpu().numpy(), np.uint8)


def _rows(side: Tensor, rows: Tensor, height: float) -> Tensor:
    y, x = torch.meshgrid(rows, side, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, height)], -1)


def _gathered(places: Tensor, targets: list[TargetImage], taken: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Give what photos show at places [P, 3]: colours [V, P, 3], whether it is in the photo, and outside its mask."""
    found = [_seen(places, target, mask) for target, mask in zip(targets, taken, strict=True)]
    colours, within, free = (torch.stack(each) for each in zip(*found, strict=True))
    return colours, within, free


def _seen(places: Tensor, target: TargetImage, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    camera, (u, v, ahead) = target.camera, target.seen_at(places)
    within = ahead & (u > 1) & (v > 1) & (u < camera.width_px - 1) & (v < camera.height_px - 1)
    grid = torch.stack([u / camera.width_px * 2 - 1, v / camera.height_px * 2 - 1], -1)[None, None]
    picture = target.picture.to(places.dtype).permute(2, 0, 1)[None]
    colours = torch.nn.functional.grid_sample(picture, grid, align_corners=False)[0, :, 0].T
    row, column = v.clamp(0, camera.height_px - 1).long(), u.clamp(0, camera.width_px - 1).long()
    return colours, within, within & (taken[row, column] < 60)


def _gains(colours: Tensor, free: Tensor) -> Tensor:
    """Give how much brighter and redder each photo is [V, 3] than the middle one, by what is free in both."""
    seen = torch.where(free[..., None], colours, torch.nan)
    middle = seen.nanmedian(0).values.clamp(min=4)
    return (seen / middle).nanmedian(1).values.nan_to_num(1.0).clamp(0.2, 5.0)


def _agreed(colours: Tensor, within: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give for places the colour [P, 3] that photos agree on, whether enough of them do, and whether it is sure."""
    middle = torch.where(free[..., None], colours, torch.nan).nanmedian(0).values.nan_to_num()
    times = free.sum(0)
    near = (_differ(colours, middle) < _same(middle)) & free
    mostly = (times >= _FREE) & (times >= _MOSTLY * within.sum(0))
    possible = near.sum(0) >= torch.where(mostly, _AGREE_KNOWN, _AGREE_FREE) * times
    seldom = times < _FREE
    if bool(seldom.any()):
        middle[seldom], votes = _mode(colours[:, seldom], within[:, seldom])
        possible[seldom] = votes >= _FREE
    return middle, possible, mostly & possible


def _mode(colours: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Give the colour [P, 3] that most photos have at a place, and how many."""
    agree = torch.stack(
        [((_differ(colours, one) < _same(colours)) & within & within[i]).sum(0) for i, one in enumerate(colours)]
    )
    votes, best = agree.max(0)
    chosen = colours.gather(0, best[None, :, None].expand(1, -1, 3))[0]
    alike = ((_differ(colours, chosen) < _same(chosen)) & within).to(colours.dtype)
    return (colours * alike[..., None]).sum(0) / alike.sum(0).clamp(min=1)[:, None], votes


def _differ(colours: Tensor, others: Tensor) -> Tensor:
    return (colours - others).abs().amax(-1)


def _same(colours: Tensor) -> Tensor:
    return _SAME + _SAME_SHARE * colours.mean(-1)


def _places(ground: TableModel, target: TargetImage) -> tuple[Floats, Floats]:
    """Give which column and row of the ground is behind each pixel [H, W]; far outside where the table is not."""
    camera, pose = target.camera, np.linalg.inv(target.camera_from_world.double().cpu().numpy())
    u = (np.arange(camera.width_px) + 0.5 - camera.cx_px) / camera.fx_px
    v = (np.arange(camera.height_px) + 0.5 - camera.cy_px) / camera.fy_px
    across, down = np.meshgrid(u, v)
    rays = np.stack([across, down, np.ones_like(across)], -1) @ pose[:3, :3].T
    falls = rays[..., 2] < -1e-6
    times = np.where(falls, (ground.height - pose[2, 3]) / np.where(falls, rays[..., 2], -1.0), -1.0)
    at = pose[:2, 3] + times[..., None] * rays[..., :2]
    found = np.where((times > 0)[..., None], ((at / ground.radius + 1) / 2) * len(ground.known) - 0.5, -9.0)
    found = np.clip(found, -9.0, len(ground.known) + 9.0).astype(np.float32)
    return np.ascontiguousarray(found[..., 0]), np.ascontiguousarray(found[..., 1])


def _specks(solid: Flags) -> Flags:
    """Give the pieces that are small beside the largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8), connectivity=4)
    if count <= 1:
        return np.zeros_like(solid)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas < _SPECK * areas.max()))
