"""Table model: the colours of the table from all photos, and which pixels of a photo show only the table.

The table is a plane, so all photos show the same colour at a place on it, unless something stands in front. Places that
most photos see beside the object have a known colour. From there the known area grows to places that are hardly seen
(in a gap, under the object), where photos agree on a colour without an edge to its neighbour: the object ends with an
edge. A pixel with the colour of the table behind it is ambiguous: it shows the table, or an object that looks the same
from there. One photo cannot tell; all of them together can (``fitting``, ``background_removal``).
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
Bools = NDArray[np.bool_]

#: Maximum size and number of photos; the table needs no more.
_SIZE_PX: Final = 640
_MOST_PHOTOS: Final = 120
#: Places per scene unit, per pixel of the long side of the photos; and the maximum per side of the square.
_PLACES: Final = 1.8
_MOST_PLACES: Final = 1024
_AT_ONCE: Final = 2**22
#: Colours are the same that differ by less, in 0..255 and as a share of their brightness.
_TOLERANCE: Final = 6.0
_TOLERANCE_SHARE: Final = 0.05
#: A place is free where this many photos have it outside their masks, and well known where this share does.
_FREE_PHOTOS: Final = 3
_FREE_SHARE: Final = 0.4
#: Share of free photos that agree: at well known places (some texture is blurred in all), and elsewhere.
_AGREE_KNOWN: Final = 0.3
_AGREE_ELSEWHERE: Final = 0.6
#: Distance from the found mask within which pixels are questioned, as a share of the long side.
_BAND: Final = 0.014
#: A pixel is ambiguous below this multiple of the colour tolerance.
TABLE_COLOUR_LIMIT: Final = 2.0
_MAX_DIFFERENCE: Final = 4.0
#: A photo is ignored when more than this share of its visible table has another colour.
_DIFFERENT_SHARE: Final = 0.25
_SMALL_SHARE: Final = 0.02
_SQUARE: Final = np.ones((3, 3), np.uint8)
_LARGE_SQUARE: Final = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class TableModel:
    """A square of the table around the axis of the scene: its colours, and where they are known."""

    radius: float
    height: float
    colours: Floats  # [N, N, 3] 0..255, rows along y, columns along x; nearest known colour where unknown
    known: Bools  # [N, N]


@dataclass(frozen=True)
class TableComparison:
    """A photo compared with the table behind it, all [H, W], at reduced size."""

    table: Floats  # [H, W, 3] 0..255, at the exposure of this photo
    known: Bools  # whether the table behind is known
    inside: Bools  # whether it is inside the square
    difference: Floats  # colour difference to the table, in units of the tolerance


def build_table_model(targets: list[TargetImage], radius: float, height: float) -> TableModel:
    """Build the table from photos with masks; ``height`` is the table's z, ``radius`` half the side of the square."""
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(_MOST_PHOTOS, len(targets))).round().astype(int))
    small = [limit_size(targets[index]) for index in chosen]
    size_px = max(max(target.camera.width_px, target.camera.height_px) for target in small)
    places = min(_MOST_PLACES, max(32, round(_PLACES * size_px * radius)))
    like = small[0].camera_from_world
    side = ((torch.arange(places, device=like.device, dtype=like.dtype) + 0.5) / places * 2 - 1) * radius
    masks = [torch.from_numpy(cv2.dilate(_array(target.mask), _LARGE_SQUARE)).to(like.device) for target in small]
    coarse = _sample_photos(_rows(side, side[::8], height)[:, ::8].reshape(-1, 3), small, masks)
    gains = _gains(coarse[0], coarse[2])
    step = max(1, _AT_ONCE // (places * len(small)))
    parts = []
    for begin in range(0, places, step):
        row = _rows(side, side[begin : begin + step], height)
        colours, within, free = _sample_photos(row.reshape(-1, 3), small, masks)
        found = _agreed_colours(colours / gains[:, None], within, free)
        parts.append([array.reshape(*row.shape[:2], -1) for array in found])
    whole, possible, sure = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
    seen = np.asarray(whole, np.float32)
    known = grow_known_area(seen, possible[..., 0], sure[..., 0])
    return TableModel(radius, height, _fill_unknown(seen, known), known)


def grow_known_area(colours: Floats, possible: Bools, sure: Bools) -> Bools:
    """Grow ``sure`` [N, N] over ``possible`` as far as the colours [N, N, 3] continue without an edge."""
    known = sure.copy()
    for _ in range(len(known)):
        weight = known.astype(np.float32)
        share = cv2.blur(weight, (3, 3))
        around = cv2.blur(colours * weight[..., None], (3, 3)) / np.maximum(share, 1e-6)[..., None]
        similar = np.abs(colours - around).max(-1) < _TOLERANCE + _TOLERANCE_SHARE * around.mean(-1)
        more = possible & ~known & (share > 1e-3) & similar
        if not more.any():
            break
        known |= more
    return np.asarray(cv2.morphologyEx(known.astype(np.uint8), cv2.MORPH_CLOSE, _LARGE_SQUARE) > 0)


def _fill_unknown(colours: Floats, known: Bools) -> Floats:
    """Fill unknown places with the nearest known colour."""
    if not known.any():
        return colours
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((int(labels.max()) + 1, 3), np.float32)
    table[labels[known]] = colours[known]
    return np.asarray(np.where(known[..., None], colours, table[labels]), np.float32)


def mark_ambiguous_pixels(model: TableModel, target: TargetImage) -> TargetImage:
    """Mark the ambiguous pixels of a photo with its table colours; pixels that differ are the object.

    A photo whose table looks different (a shadow that moved) is returned unchanged.
    """
    small = limit_size(target)
    mask = _array(small.mask)
    comparison = compare_with_table(model, small)
    if comparison is None:
        return target
    band = max(2, round(_BAND * max(mask.shape)))
    near = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))) > 127
    same = (comparison.known & (comparison.difference < TABLE_COLOUR_LIMIT)).astype(np.uint8)
    ambiguous = (cv2.morphologyEx(same, cv2.MORPH_CLOSE, _SQUARE) > 0) & near
    other = (near & comparison.inside & (comparison.difference >= TABLE_COLOUR_LIMIT)).astype(np.uint8)
    mask[ambiguous | (cv2.morphologyEx(other, cv2.MORPH_OPEN, _SQUARE) > 0)] = 255
    ambiguous |= comparison.known & _small_components((mask > 127) & ~ambiguous)
    size = (target.camera.width_px, target.camera.height_px)
    table = comparison.table.clip(0, 255).round().astype(np.uint8)
    found = [
        cv2.resize(layer, size, interpolation=cv2.INTER_LINEAR)
        for layer in (mask, ambiguous.astype(np.uint8) * 255, table)
    ]  # fmt: skip
    mask_, ambiguous_, table_ = (torch.from_numpy(np.atleast_3d(layer)).to(target.image.device) for layer in found)
    return replace(target, mask=mask_, ambiguous=ambiguous_, table=table_)


def compare_with_table(model: TableModel, target: TargetImage) -> TableComparison | None:
    """Compare a photo with a mask with the table; None where its visible table looks different."""
    x, y = _places(model, target)
    places = len(model.known)
    inside = (np.minimum(x, y) > 3) & (np.maximum(x, y) < places - 4)
    known = inside & (cv2.remap(model.known.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0)
    table = np.asarray(cv2.remap(model.colours, x, y, cv2.INTER_LINEAR), np.float32)
    image = target.image.cpu().numpy().astype(np.float32)
    beside = known & (cv2.dilate(_array(target.mask), _LARGE_SQUARE) < 60)
    if not beside.any():
        return None
    table *= np.median(image[beside] / np.maximum(table[beside], 4.0), axis=0).astype(np.float32)
    # Tolerance of one pixel: poses are not exact, and sampling blurs the texture.
    over, under = image - cv2.dilate(table, _SQUARE), cv2.erode(table, _SQUARE) - image
    difference = np.maximum(over, under).max(-1).clip(0) / (_TOLERANCE + _TOLERANCE_SHARE * table.mean(-1))
    difference = np.asarray(cv2.blur(np.minimum(difference, _MAX_DIFFERENCE), (3, 3)), np.float32)
    if (difference[beside] >= TABLE_COLOUR_LIMIT).mean() > _DIFFERENT_SHARE:
        return None
    return TableComparison(table, known, inside, difference)


def limit_size(target: TargetImage) -> TargetImage:
    """Return a photo at most as large as the comparison needs."""
    factor = _SIZE_PX / max(target.camera.width_px, target.camera.height_px)
    return target if factor >= 1 else target.scaled(factor)


def _array(mask: Tensor | None) -> Bytes:
    assert mask is not None
    return np.array(mask[..., 0].cpu().numpy(), np.uint8)


def _rows(side: Tensor, rows: Tensor, height: float) -> Tensor:
    y, x = torch.meshgrid(rows, side, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, height)], -1)


def _sample_photos(places: Tensor, targets: list[TargetImage], masks: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Sample photos at places [P, 3]: colours [V, P, 3], whether inside the photo, and whether outside its mask."""
    found = [_sample_photo(places, target, mask) for target, mask in zip(targets, masks, strict=True)]
    colours, within, free = (torch.stack(each) for each in zip(*found, strict=True))
    return colours, within, free


def _sample_photo(places: Tensor, target: TargetImage, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    camera, (u, v, ahead) = target.camera, target.project(places)
    within = ahead & (u > 1) & (v > 1) & (u < camera.width_px - 1) & (v < camera.height_px - 1)
    grid = torch.stack([u / camera.width_px * 2 - 1, v / camera.height_px * 2 - 1], -1)[None, None]
    image = target.image.to(places.dtype).permute(2, 0, 1)[None]
    colours = torch.nn.functional.grid_sample(image, grid, align_corners=False)[0, :, 0].T
    row, column = v.clamp(0, camera.height_px - 1).long(), u.clamp(0, camera.width_px - 1).long()
    return colours, within, within & (masks[row, column] < 60)


def _gains(colours: Tensor, free: Tensor) -> Tensor:
    """Return the brightness and colour of each photo [V, 3] relative to the median, where both are free."""
    seen = torch.where(free[..., None], colours, torch.nan)
    middle = seen.nanmedian(0).values.clamp(min=4)
    return (seen / middle).nanmedian(1).values.nan_to_num(1.0).clamp(0.2, 5.0)


def _agreed_colours(colours: Tensor, within: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return per place the colour [P, 3] on which photos agree, whether enough do, and whether it is sure."""
    middle = torch.where(free[..., None], colours, torch.nan).nanmedian(0).values.nan_to_num()
    count = free.sum(0)
    near = (_difference(colours, middle) < _tolerance(middle)) & free
    well_known = (count >= _FREE_PHOTOS) & (count >= _FREE_SHARE * within.sum(0))
    possible = near.sum(0) >= torch.where(well_known, _AGREE_KNOWN, _AGREE_ELSEWHERE) * count
    seldom = count < _FREE_PHOTOS
    if bool(seldom.any()):
        middle[seldom], votes = _most_frequent(colours[:, seldom], within[:, seldom])
        possible[seldom] = votes >= _FREE_PHOTOS
    return middle, possible, well_known & possible


def _most_frequent(colours: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most frequent colour [P, 3] of a place, and its number of photos."""
    agree = torch.stack(
        [
            ((_difference(colours, own) < _tolerance(colours)) & within & within[i]).sum(0)
            for i, own in enumerate(colours)
        ]
    )
    votes, best = agree.max(0)
    chosen = colours.gather(0, best[None, :, None].expand(1, -1, 3))[0]
    similar = ((_difference(colours, chosen) < _tolerance(chosen)) & within).to(colours.dtype)
    return (colours * similar[..., None]).sum(0) / similar.sum(0).clamp(min=1)[:, None], votes


def _difference(colours: Tensor, others: Tensor) -> Tensor:
    return (colours - others).abs().amax(-1)


def _tolerance(colours: Tensor) -> Tensor:
    return _TOLERANCE + _TOLERANCE_SHARE * colours.mean(-1)


def _places(model: TableModel, target: TargetImage) -> tuple[Floats, Floats]:
    """Return the column and row of the table behind each pixel [H, W]; far outside where there is none."""
    camera, pose = target.camera, np.linalg.inv(target.camera_from_world.double().cpu().numpy())
    u = (np.arange(camera.width_px) + 0.5 - camera.cx_px) / camera.fx_px
    v = (np.arange(camera.height_px) + 0.5 - camera.cy_px) / camera.fy_px
    across, down = np.meshgrid(u, v)
    rays = np.stack([across, down, np.ones_like(across)], -1) @ pose[:3, :3].T
    falls = rays[..., 2] < -1e-6
    count = np.where(falls, (model.height - pose[2, 3]) / np.where(falls, rays[..., 2], -1.0), -1.0)
    at = pose[:2, 3] + count[..., None] * rays[..., :2]
    found = np.where((count > 0)[..., None], ((at / model.radius + 1) / 2) * len(model.known) - 0.5, -9.0)
    found = np.clip(found, -9.0, len(model.known) + 9.0).astype(np.float32)
    return np.ascontiguousarray(found[..., 0]), np.ascontiguousarray(found[..., 1])


def _small_components(solid: Bools) -> Bools:
    """Return the components that are small relative to the largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8), connectivity=4)
    if count <= 1:
        return np.zeros_like(solid)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas < _SMALL_SHARE * areas.max()))
