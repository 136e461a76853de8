"""Deployment of the vision stream: GPU, weights in the image, secret of the hub, warm container, names."""

from __future__ import annotations

from contracts.limits import SESSION_LENGTH_S
from modal_workers.deployment import SECRET, SECRET_KEYS
from tests.harness.dispatch.modal_command import BUCKET, Command

#: Secret with the token of the Hugging Face hub.
HUB = "huggingface-secret"


def test_the_vision_stream_has_its_weights_in_the_image_and_no_token_of_the_hub(command: Command) -> None:
    command.loopback.secrets |= {SECRET: dict(BUCKET), HUB: {"HF_TOKEN": "a token that no container gets"}}
    assert command("deploy", "--env", "prod", "--worker", "vision_stream").returncode == 0
    asked = command.loopback.function("saccade-vision-stream")
    assert asked.gpus == ("L40S", "A100-40GB")
    lines = asked.image_lines
    install = next(line for line in lines if "uv pip install" in line)
    wanted = ("torch==2.10.0", "transformers==5.23.0", "llguidance==1.9.1", "pillow==", "nats-py[nkeys]==")
    assert all(each in install for each in wanted), install
    assert "torch==2.13.0" not in install, "constraints pin it for machines without CUDA"
    assert "vllm" not in install
    folder = "/weights/vision-stream"
    download = next(line for line in lines if "hf download" in line)
    assert f"hf download google/gemma-3-4b-it --local-dir {folder}/google/gemma-3-4b-it" in download
    assert lines.index(install) < lines.index(download)
    assert f"ENV VISION_WEIGHTS_FOLDER={folder}" in "\n".join(lines)
    assert asked.build_secrets == {HUB: ("HF_TOKEN",)}
    assert asked.secrets == {SECRET: SECRET_KEYS}
    assert not any("a token that no container gets" in line for line in lines)
    assert (asked.warm_containers, asked.single_use) == (0, True)
    assert SESSION_LENGTH_S < asked.timeout_s <= SESSION_LENGTH_S + 660
    assert {
        "modal_workers/vision_stream/models/loading.py",
        "modal_workers/vision_stream/transcript/transcript.html",
    } <= (set(asked.files))


def test_names_warm_container_secret_and_models_of_the_vision_stream_are_settings(command: Command) -> None:
    command.loopback.secrets |= {SECRET: dict(BUCKET), "hub-of-ours": {"HF_TOKEN": "t"}}
    done = command(
        *("deploy", "--env", "dev", "--worker", "vision_stream"),
        MODAL_APP_NAMES="vision_stream=foresight-gemma3-vlm/Gemma3VLMSession",
        MODAL_WARM_WORKLOADS="vision_stream",
        VISION_HUGGING_FACE_SECRET="hub-of-ours",
        VISION_MODELS="tiny,google/gemma-3-4b-it,google/gemma-3-12b-it",
        VISION_MODEL="google/gemma-3-4b-it",
        VISION_VLLM_VERSION="0.14.0",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (asked,) = command.loopback.functions
    assert (asked.app, asked.name) == ("foresight-gemma3-vlm", "Gemma3VLMSession")
    assert (asked.warm_containers, asked.gpus, asked.single_use) == (1, ("L40S",), True)
    assert asked.build_secrets == {"hub-of-ours": ("HF_TOKEN",)}
    text = "\n".join(asked.image_lines)
    assert "vllm==0.14.0" in text
    assert "torch==" not in text, "vllm determines its own"
    assert text.count("hf download google/gemma-3-") == 2
    assert "ENV VISION_MODEL=google/gemma-3-4b-it" in text


def test_a_vision_stream_of_our_own_model_needs_no_secret_of_the_hub(command: Command) -> None:
    command.loopback.secrets[SECRET] = dict(BUCKET)
    done = command("deploy", "--worker", "vision_stream", VISION_MODELS="tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    (asked,) = command.loopback.functions
    assert asked.build_secrets == {}
    assert not any("hf download" in line for line in asked.image_lines)
