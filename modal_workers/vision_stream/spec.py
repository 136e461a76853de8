"""Declaration of the vision stream session: parameters, result and compute."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from contracts.limits import SESSION_LENGTH_S
from contracts.session import SessionResult
from contracts.workload import Backend, Compute, Params, Stage, Workload
from modal_workers.vision_stream.answer_schema import AnswerSchema
from modal_workers.vision_stream.settings import VisionSettings

#: The instruction of sessions that give none.
INSTRUCTION: Final = "Describe what happens in these frames in one sentence."
_RULES: Final = 8


def _allowed(name: str) -> str:
    """Return the model's name; raise for one that the operator does not offer."""
    settings = VisionSettings()
    if name and name not in settings.allowed():
        raise ValueError(f"model {name!r} is not offered here; there are: {', '.join(sorted(settings.allowed()))}")
    return name or settings.model


def _offered(schema: dict[str, Any]) -> None:
    """Add the models that this server offers to a parameter's schema."""
    schema["enum"] = ["", *sorted(VisionSettings().allowed())]


class WatchRule(Params):
    """Condition to be told about: its first true chunk publishes ``session.alert``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name in the alert, such as `dropped`.")
    condition: str = Field(min_length=3, max_length=300, description="Statement, such as `the gripper drops the cube`.")
    threshold: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        allow_inf_nan=False,
        description="Probability of the model from which it counts as true.",
    )
    min_chunks: int = Field(default=1, ge=1, le=20, description="Consecutive true chunks before the alert.")
    cooldown_s: float = Field(
        default=5.0, ge=0, le=3600, allow_inf_nan=False, description="No second alert of this rule within this time."
    )


def _different_names(rules: tuple[WatchRule, ...]) -> tuple[WatchRule, ...]:
    if len({rule.name for rule in rules}) != len(rules):
        raise ValueError("the rules' names must differ")
    return rules


class VisionStreamParams(Params):
    """Parameters of a vision stream."""

    model: Annotated[str, AfterValidator(_allowed)] = Field(
        default="",
        max_length=200,
        validate_default=True,
        json_schema_extra=_offered,
        description="One of the operator's models: `tiny`, `google/gemma-3-4b-it`, …; empty: the default one.",
    )
    backend: Literal["transformers", "vllm"] = Field(
        default="transformers", description="What runs the model; vllm shares one GPU between many sessions."
    )
    memory: Literal["cache", "history"] = Field(
        default="cache",
        description="`cache`: the model remembers earlier frames and texts; `history`: it reads its latest texts only.",
    )
    instruction: str = Field(
        default=INSTRUCTION, min_length=1, max_length=2000, description="What to say of each chunk."
    )
    chunk_frames: int = Field(
        default=6, ge=1, le=32, description="Most frames of a chunk, spread evenly over its time."
    )
    overlap: bool = Field(
        default=False,
        description="A chunk's first frame is the last one of the chunk before: what happens between them is seen too.",
    )
    chunk_s: float = Field(
        default=1.0, ge=0, le=60, allow_inf_nan=False, description="Time between two chunks; 0: as fast as the model."
    )
    max_edge_px: int = Field(default=720, ge=64, le=2048, description="Frames with a longer edge are reduced to it.")
    max_new_tokens: int = Field(default=64, ge=1, le=1024, description="Longest text of a chunk.")
    temperature: float = Field(default=0.0, ge=0, le=2, allow_inf_nan=False, description="0: the most probable words.")
    top_p: float = Field(default=0.9, gt=0, le=1, allow_inf_nan=False, description="Only with a temperature.")
    seed: int = Field(default=42, ge=0, lt=1 << 31, description="Seed of the session's random choices.")
    history_texts: int = Field(default=6, ge=0, le=32, description="Latest texts that a prompt or a summary contains.")
    answer_schema: AnswerSchema | None = Field(
        default=None, description="JSON Schema of an object: the text of each chunk is such an object."
    )
    rules: Annotated[tuple[WatchRule, ...], AfterValidator(_different_names)] = Field(
        default=(),
        max_length=_RULES,
        description="Conditions with different names; `session.alert` is published when one becomes true.",
    )


class VisionStreamResult(SessionResult):
    """Headline figures; the words are in the transcript."""

    model: str
    texts: int = Field(description="Chunks with a text.")
    alerts: int
    failed_chunks: int = Field(description="Chunks without a text, because the inference failed.")
    tokens: int
    answered_prompts: int
    latency_p50_ms: float | None = Field(
        description="From a chunk's newest frame to the end of its text; null without."
    )
    latency_p95_ms: float | None


def headline(result: VisionStreamResult) -> str:
    """Return the number of texts and alerts in one sentence."""
    alerts = "no alert" if not result.alerts else f"{result.alerts} alert{'s' if result.alerts > 1 else ''}"
    return f"{result.texts} texts of {result.totals.accepted:,} frames, {alerts}"


WORKLOAD: Final = Workload(
    name="vision_stream",
    title="Vision stream",
    description="A vision-language model watches a live camera and says what happens; rules publish alerts.",
    version="1.0.0",
    params=VisionStreamParams,
    result=VisionStreamResult,
    inputs=(),
    stages=(Stage("watch", "Watch", 1.0),),
    job="modal_workers.vision_stream.session:run",
    requires=("PIL", "cv2", "huggingface_hub", "llguidance", "numpy", "safetensors", "torch", "transformers"),
    extra="vision-stream",
    kind="session",
    # Its texts depend on questions, cancellations and the model's device too, which no verdict of a frame records.
    replayable=False,
    headline=headline,
    report="transcript.html",
    compute=Compute(
        gpus=("L40S", "A100-40GB"),
        cpu_cores=2.0,
        memory_bytes=16 * 1024**3,
        timeout_s=SESSION_LENGTH_S + 600.0,
        start_timeout_s=600.0,
        typical_s=300.0,
    ),
    backends=(Backend("backend", "vllm", "vllm", "Use backend=transformers, or install vllm on the worker (CUDA)."),),
    max_attempts=10,
    deadline_s=2 * SESSION_LENGTH_S,
    takes_prompts=True,
)
