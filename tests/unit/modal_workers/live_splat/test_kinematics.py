"""Forward kinematics: against pinocchio, against differences, and with invalid input."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pinocchio
import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.live_splat.kinematics import GRIPPER_LINK, SO101, SO101_JOINTS, KinematicChain
from tests.harness.vision.so101_reference import chain_description, joints_beyond_limits, link_poses

URDF = resources.files("modal_workers.live_splat").joinpath("so101/so101_new_calib.urdf").read_text("utf-8")
SEED = 20
LOWER, UPPER = np.array([SO101.limits_rad[name] for name in SO101_JOINTS]).T


def some_positions(count: int) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(LOWER, UPPER, (count, len(SO101_JOINTS)))


def named(positions: np.ndarray) -> dict[str, float]:
    return dict(zip(SO101_JOINTS, positions.tolist(), strict=True))


def test_joints_have_the_names_and_order_of_lerobots_motors() -> None:
    assert SO101_JOINTS == ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    assert SO101.urdf_sha256.startswith("3a65d2d35e68a8d2f0c2")


def test_every_link_is_where_pinocchio_puts_it() -> None:
    model = pinocchio.buildModelFromXML(URDF)
    data = model.createData()
    columns = [SO101_JOINTS.index(name) for name in list(model.names)[1:]]
    positions = some_positions(200)
    tips = SO101.tips(positions)
    for row, tip in zip(positions, tips, strict=True):
        pinocchio.framesForwardKinematics(model, data, row[columns])
        for link, pose in link_poses(named(row)).items():
            oracle = data.oMf[model.getFrameId(link)].homogeneous
            assert np.abs(pose - oracle).max() < 1e-12, (SEED, link, row)
        assert np.abs(tip - data.oMf[model.getFrameId(GRIPPER_LINK)].homogeneous).max() < 1e-12, (SEED, row)
        assert np.array_equal(SO101.tip(named(row)), tip)


def test_at_zero_the_gripper_is_stretched_ahead() -> None:
    tip = SO101.tip(dict.fromkeys(SO101_JOINTS, 0.0))
    assert tip[:3, 3] == pytest.approx((0.3914, -9e-6, 0.2265), abs=1e-3)
    assert tip[:3, 2] == pytest.approx((1.0, 0.0, 0.0), abs=1e-3), "the frame's z points along the gripper"


def test_jacobian_agrees_with_central_differences() -> None:
    step = 1e-6
    for row in some_positions(20):
        jacobian = SO101.jacobian(named(row))
        tip = SO101.tips(row)
        for column in range(len(SO101_JOINTS)):
            aside = np.eye(len(SO101_JOINTS))[column] * step
            ahead, behind = SO101.tips(row + aside), SO101.tips(row - aside)
            moved = (ahead[:3, 3] - behind[:3, 3]) / (2 * step)
            turned = (ahead[:3, :3] - behind[:3, :3]) / (2 * step) @ tip[:3, :3].T
            turning = np.array([turned[2, 1], turned[0, 2], turned[1, 0]])
            assert np.abs(jacobian[:, column] - np.concatenate([moved, turning])).max() < 1e-7, (SEED, row, column)


def test_tips_and_jacobians_of_many_positions_have_their_shape() -> None:
    positions = some_positions(12).reshape(3, 4, 6)
    assert SO101.tips(positions).shape == (3, 4, 4, 4)
    jacobians = SO101.jacobians(positions)
    assert jacobians.shape == (3, 4, 6, 6)
    assert np.array_equal(jacobians[1, 2], SO101.jacobian(named(positions[1, 2])))
    assert not jacobians[..., 5].any(), "the jaw does not move the tip"


def test_degrees_sent_as_radians_are_beyond_the_limits() -> None:
    beyond = joints_beyond_limits(["shoulder_pan", "elbow_flex", "lamp"], [-45.0, 1.0, 900.0])
    assert beyond == [("shoulder_pan", -45.0, -1.91986, 1.91986)]
    assert not joints_beyond_limits(SO101_JOINTS, UPPER.tolist()), "a limit itself is within"


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ({"shoulder_pan": 0.0}, "shoulder_lift"),
        (dict.fromkeys(SO101_JOINTS, float("nan")), "not finite numbers"),
    ],
)
def test_missing_or_non_finite_positions_are_refused(positions: dict[str, float], says: str) -> None:
    for ask in (SO101.tip, SO101.jacobian):
        with pytest.raises(SaccadeError, match=says) as caught:
            ask(positions)
        assert caught.value.code is ErrorCode.JOINTS_INVALID


def test_five_or_seven_values_are_refused() -> None:
    for count in (5, 7):
        with pytest.raises(SaccadeError, match="6 joints"):
            SO101.tips(np.zeros(count))


def test_the_tip_does_not_need_the_jaw_position() -> None:
    positions = named(some_positions(1)[0])
    jaw = positions.pop("gripper")
    assert np.array_equal(SO101.tip(positions), SO101.tip(positions | {"gripper": jaw}))


def test_the_description_is_enough_to_draw_the_arm() -> None:
    described = json.loads(json.dumps(chain_description(), allow_nan=False))
    positions = named(some_positions(1)[0])
    poses = {"base_link": np.eye(4)}
    for joint in described:
        angle = positions.get(joint["name"], 0.0)
        drawn = KinematicChain.load(
            '<robot name="one"><joint name="only" type="revolute"><parent link="a"/><child link="b"/>'
            f'<origin xyz="{" ".join(map(str, joint["xyz_m"]))}" rpy="{" ".join(map(str, joint["rpy_rad"]))}"/>'
            f'<axis xyz="{" ".join(map(str, joint["axis"] or [1, 0, 0]))}"/></joint></robot>',
            tip_link="b",
        )
        poses[joint["child"]] = poses[joint["parent"]] @ drawn.tip({"only": angle})
        assert (joint["limits_rad"] is None) == (joint["axis"] is None)
    for link, pose in link_poses(positions).items():
        assert np.abs(poses[link] - pose).max() < 1e-12, (SEED, link)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not xml", "not XML"),
        ('<!DOCTYPE robot [<!ENTITY a "b">]><robot/>', "document type"),
        ("<robot/>", "root"),
        (URDF.replace('type="revolute"', 'type="planar"', 1), "planar"),
        (URDF.replace('<child link="gripper_frame_link"/>', '<child link="elsewhere"/>'), "gripper_frame_link"),
        (URDF.replace('<parent link="base_link"/>', '<parent link="gripper_link"/>'), "root"),
        (URDF.replace('axis xyz="0 0 1"', 'axis xyz="0 0 0"', 1), "no axis"),
        (URDF.replace('xyz="0.0202 0.0188 -0.0234"', 'xyz="0.0202 0.0188"'), "three numbers"),
        (URDF.replace('<child link="wrist_link"/>', '<child link="gripper_link"/>'), "two parents"),
        (URDF.replace('lower="-1.91986"', 'lower="left"'), "limits"),
    ],
)
def test_an_invalid_description_is_refused(text: str, says: str) -> None:
    with pytest.raises(SaccadeError, match=says) as caught:
        KinematicChain.load(text)
    assert caught.value.code is ErrorCode.INVALID_PARAMETER
