"""JSON schemas of the messages in an exported session; those that Foxglove displays have its names.

Source: https://docs.foxglove.dev/docs/sdk/schemas (CompressedImage, JointStates), with fields of our own added.
"""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_WHOLE: Final = {"type": "integer"}
_TIME: Final = {
    "type": "object",
    "title": "time",
    "properties": {
        "sec": {"type": "integer", "minimum": 0},
        "nsec": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    },
}
#: The message's sequence number and its time by the sender's clock.
_SENT: Final = {"seq": _WHOLE, "captured_at_s": _NUMBER, "clock_offset_s": _NUMBER}


def _schema(title: str, required: tuple[str, ...], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": {"timestamp": _TIME, **properties},
        "required": ["timestamp", *required],
    }


#: A picture as the camera sent it.
PICTURE: Final = _schema(
    "foxglove.CompressedImage",
    ("frame_id", "data", "format"),
    {"frame_id": _TEXT, "data": {"type": "string", "contentEncoding": "base64"}, "format": _TEXT, **_SENT},
)
#: All joints at one instant, in radians.
JOINTS: Final = _schema(
    "foxglove.JointStates",
    ("joints",),
    {
        "joints": {
            "type": "array",
            "items": {
                "title": "foxglove.JointState",
                "type": "object",
                "properties": {"name": _TEXT, "position": _NUMBER},
                "required": ["name"],
            },
        },
        **_SENT,
    },
)
#: All joints at one instant, in the unit of the robot's motors.
NATIVE_JOINTS: Final = _schema(
    "saccade.NativeJoints",
    ("names", "values"),
    {"names": {"type": "array", "items": _TEXT}, "values": {"type": "array", "items": _NUMBER}, **_SENT},
)
#: Verdict of a frame; positions are the joints at its capture, in radians.
VERDICT: Final = _schema(
    "saccade.FrameVerdict",
    ("source", "seq", "status"),
    {
        "source": _TEXT,
        "seq": _WHOLE,
        "status": _TEXT,
        "reason": _TEXT,
        "detail": _TEXT,
        "age_s": _NUMBER,
        "queue_depth": _WHOLE,
        "positions": {"type": "array", "items": _NUMBER},
        "joints_gap_s": _NUMBER,
        "idle_steps": _WHOLE,
        "steps": _WHOLE,
        "run_id": _TEXT,
    },
)
#: Frames so far, by verdict; ``reset`` after a reset of the session.
COUNTS: Final = _schema(
    "saccade.FrameCounts",
    ("sent", "accepted", "dropped", "rejected"),
    {
        "sent": _WHOLE,
        "accepted": _WHOLE,
        "dropped": _WHOLE,
        "rejected": _WHOLE,
        "waiting": _WHOLE,
        "reasons": {"type": "object", "additionalProperties": _WHOLE},
        "last_rejection": {
            "type": "object",
            "properties": {"source": _TEXT, "seq": _WHOLE, "reason": _TEXT, "detail": _TEXT},
        },
        "reset": {"type": "boolean"},
        "last_idle_steps": _WHOLE,
        "run_id": _TEXT,
    },
)
