"""Renders the frames of a match."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_Y_M
from simulators.badminton.body.body_motion import BodyMotion
from simulators.badminton.body.skeleton import JOINTS
from simulators.badminton.cut_away import CutAway, cut_away
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import FrameTruth, TrueSegment
from simulators.badminton.match_world import IN_FLIGHT, IN_HAND, NO_SHUTTLE
from simulators.badminton.picture.hall_design import design_hall
from simulators.badminton.picture.hall_renderer import HallView, lay_net_over, render_view, turned_view
from simulators.badminton.picture.match_camera import CameraPose
from simulators.badminton.picture.person_drawing import PersonSprite, draw_person, lay_over
from simulators.badminton.picture.sensor import Sensor
from simulators.badminton.picture.shuttle_drawing import draw_shuttle
from simulators.badminton.truth_from_world import FilmedMatch, make_match

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

_MOST_MOMENTS: Final = 4


def frames(options: MatchOptions) -> Iterator[tuple[Picture, FrameTruth]]:
    """Yield the frames [H, W, 3] (BGR, upright) of a match and the truth of each, without encoding."""
    renderer = MatchRenderer(make_match(options))
    for index in range(len(renderer.match.truth.time_s)):
        yield renderer.draw(index), renderer.match.truth.frame(index)


class MatchRenderer:
    """Draws frames of one match; in their order, as the noise is drawn from one sequence."""

    def __init__(self, match: FilmedMatch) -> None:
        """Render the hall."""
        self.match = match
        options = match.truth.options
        self._exposure_s = options.shutter / options.rate_hz
        self._shadow = _shadow_sprite()
        self._design = design_hall(options)
        # A camera that moves is cut out of a larger picture.
        pose = match.camera.padded(*match.motion.padding_px(match.camera))
        self._view = self._with_persons(render_view(self._design, pose, with_net=options.scene != "plain"))
        self._cut: tuple[TrueSegment, CutAway] | None = None
        self._sensor = Sensor(options)

    def draw(self, index: int) -> Picture:
        """Render frame number ``index``."""
        match = self.match
        time_s = float(match.truth.time_s[index])
        segment = match.truth.segment_at(time_s)
        if segment.kind == "play":
            view = self._view if match.motion.still else turned_view(self._view, match.motion.pose(match.camera, index))
            frame = view.background.copy() if match.motion.still else view.background
            self._draw_world(frame, view, time_s)
        else:
            frame = self._draw_cut(segment, time_s)
        return self._sensor.expose(frame, time_s)

    def _draw_cut(self, segment: TrueSegment, time_s: float) -> Picture:
        """Render a frame of a segment that does not show the play."""
        if self._cut is None or self._cut[0] != segment:
            self._cut = (segment, cut_away(self.match, self._design, segment))
        cut = self._cut[1]
        if cut.view is None:
            return cut.still(time_s)
        frame = cut.view.background.copy()
        self._draw_world(frame, cut.view, cut.world_time_s(time_s), cut.slow)
        return frame

    def _with_persons(self, view: HallView) -> HallView:
        """Draw the bystanders who do not move into the background."""
        resting = [person for person in self.match.bystanders if not person.moves]
        for person in sorted(resting, key=lambda person: person.body.joints_m[0, JOINTS["pelvis"], 1]):
            joints = person.body.joints_m[0]
            self._lay_shadow(view.background, view.pose, joints)
            sprite = draw_person(view.pose, [joints], person.look)
            if sprite is not None:
                lay_over(view.background, sprite)
        return view

    def _draw_world(self, frame: Picture, view: HallView, time_s: float, slow: float = 1.0) -> None:
        """Draw players, shuttle and net over a background, from far to near."""
        pose, world = view.pose, self.match.world
        parts: list[tuple[bool, float, PersonSprite]] = []
        camera_side = pose.eye_m[1] > NET_Y_M
        exposure_s = self._exposure_s * slow
        persons = [*zip(world.bodies, world.looks, strict=True)]
        persons += [(person.body, person.look) for person in self.match.bystanders if person.moves]
        for number, (body, look) in enumerate(persons):
            playing = number < len(world.bodies)
            moments = self._moments(pose, body, time_s, exposure_s) if playing else [body.at(time_s)]
            middle = moments[len(moments) // 2]
            self._lay_shadow(frame, pose, middle)
            sprite = draw_person(pose, moments, look)
            if sprite is not None:
                pelvis = middle[JOINTS["pelvis"]]
                depth = float((pelvis - pose.eye_m) @ pose.rotation[2])
                parts.append(((pelvis[1] > NET_Y_M) == camera_side, -depth, sprite))
        shuttle = self._shuttle(pose, time_s, exposure_s)
        if shuttle is not None:
            parts.append(shuttle)
        net_is_drawn = view.net is None
        for near, _, sprite in sorted(parts, key=lambda part: part[:2]):
            if near and not net_is_drawn:
                assert view.net is not None
                lay_net_over(frame, view.net)
                net_is_drawn = True
            lay_over(frame, sprite)
        if not net_is_drawn:
            assert view.net is not None
            lay_net_over(frame, view.net)

    def _moments(self, pose: CameraPose, body: BodyMotion, time_s: float, exposure_s: float) -> list[Floats]:
        """Return joints at as many moments of the exposure as the fastest joint needs."""
        half = exposure_s / 2
        first, last = body.at(time_s - half), body.at(time_s + half)
        ends = JOINTS["racket_side"]
        moved, _ = pose.project(np.stack([first[:ends], last[:ends]]))
        way = float(np.abs(moved[1] - moved[0]).max())
        count = min(max(math.ceil(way / 2.5), 1), _MOST_MOMENTS)
        if count == 1:
            return [body.at(time_s)]
        return [body.at(time_s + (share - 0.5) * exposure_s) for share in (np.arange(count) + 0.5) / count]

    def _shuttle(self, pose: CameraPose, time_s: float, exposure_s: float) -> tuple[bool, float, PersonSprite] | None:
        times = time_s + np.array([-0.5, 0.0, 0.5]) * exposure_s
        places, states = self.match.world.shuttle(times)
        if states[1] == NO_SHUTTLE:
            return None
        state, path = int(states[1]), places[1:2]
        heading = np.array([0.7, 0.4, -0.15]) if state != IN_HAND else np.array([0.0, 0.2, -1.0])
        if state == IN_FLIGHT:
            heading = places[2] - places[0]
            pixel, depth = pose.project(places)
            way = float(np.hypot(*(pixel[2] - pixel[0]))) if depth.min() > 0.3 else 0.0
            size = 0.04 * pose.focal_px / max(float(depth[1]), 0.3)
            count = min(max(math.ceil(2 * way / max(size, 1.0)), 1), 24)
            if count > 1:
                shares = (np.arange(count) + 0.5) / count - 0.5
                path = self.match.world.shuttle(time_s + shares * exposure_s)[0]
        sprite = draw_shuttle(pose, path, heading)
        if sprite is None:
            return None
        depth_m = float((places[1] - pose.eye_m) @ pose.rotation[2])
        # In the hand it is in front of the fingers.
        near = bool((places[1, 1] > NET_Y_M) == (pose.eye_m[1] > NET_Y_M))
        return near, -depth_m + (0.6 if state == IN_HAND else 0.0), sprite

    def _lay_shadow(self, frame: Picture, pose: CameraPose, joints: Floats) -> None:
        """Darken the floor below a person."""
        feet = joints[[JOINTS["left_ankle"], JOINTS["right_ankle"], JOINTS["pelvis"]]] * (1, 1, 0)
        pixel, depth = pose.project(feet)
        if depth.min() < 0.5:
            return
        tilt = abs(float(pose.rotation[2, 2]))
        for (x, y), away, size in zip(pixel, depth, (0.26, 0.26, 0.5), strict=True):
            wide = size * pose.focal_px / away
            tall = wide * (tilt + 0.12)
            x0, y0, x1, y1 = (round(v) for v in (x - wide, y - tall, x + wide, y + tall))
            left, top = max(x0, 0), max(y0, 0)
            right, bottom = min(x1, frame.shape[1]), min(y1, frame.shape[0])
            if right - left < 1 or bottom - top < 1 or x1 - x0 > 4000:
                continue
            grown = cv2.resize(self._shadow, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
            part = grown[top - y0 : bottom - y0, left - x0 : right - x0]
            region = frame[top:bottom, left:right]
            cv2.multiply(region, part, dst=region, scale=1 / 255)


def _shadow_sprite() -> Picture:
    u, v = np.meshgrid(*[np.linspace(-1, 1, 64)] * 2)
    dark = 0.34 * np.clip(1 - np.hypot(u, v), 0, 1) ** 1.3
    return cv2.merge([(255 * (1 - dark)).astype(np.uint8)] * 3)  # type: ignore[no-any-return]
