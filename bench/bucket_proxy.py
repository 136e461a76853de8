"""Benchmark of the way between clients and the bucket: seeking in a large video, and the throughput of transfers.

Without ``--url`` everything runs here: an embedded system in a temporary folder. With it, the system at that address is
measured: give the address of its bucket and the credentials, with which the video takes the place of an artifact.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench.needs import needs

needs("nats-server", "rclone", "saccade_client", "av", "chromium", "curl")

import aiohttp
import psutil
from pydantic import SecretStr
from saccade_client import Client

from cli.embedded.system import EmbeddedSystem
from kit.bucket import open_bucket
from kit.settings import S3Settings
from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.video_seek import seek
from tests.harness.servers.embedded import EmbeddedS3, free_port, wait_for_port
from tests.harness.vision.large_video import write_large_video

ROOT = Path(__file__).resolve().parents[1]
MB = 1e6


def own_bucket(data: Path) -> S3Settings:
    """Return the settings of an embedded system's bucket; its clients use another port than its services."""
    secrets = json.loads((data / "secrets.json").read_text())
    ports = json.loads((data / "ports.json").read_text())
    return S3Settings(
        endpoint_url=f"http://127.0.0.1:{ports['rclone']}",
        public_endpoint_url=f"http://127.0.0.1:{ports.get('bucket', ports['rclone'])}",
        access_key_id=secrets["s3_access_key_id"],
        secret_access_key=SecretStr(secrets["s3_secret_access_key"]),
    )


def compared_laps(client: Client, folder: Path) -> str:
    """Run a small lap comparison and return the job's id."""
    command = [sys.executable, "-m", "simulators.laps.two_laps", str(folder), "--seed", "3", "--duration-s", "5"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    inputs = {"reference": client.upload(folder / "lap_a.mp4").id, "other": client.upload(folder / "lap_b.mp4").id}
    job = client.submit("lap_compare", inputs, {"overlay_height_px": 180}).wait(timeout_s=300)
    job.raise_for_failure()
    return job.id


async def measure_seeks(url: str, key: str | None, s3: S3Settings, folder: Path, rounds: int) -> None:
    """Replace a job's overlay by a video of 60 MB and seek in it, each time with another address."""
    with Client(url, api_key=key) as client:
        job_id = await asyncio.to_thread(compared_laps, client, folder)
        video = folder / "large.mp4"
        write_large_video(video, 60_000_000)
        async with open_bucket(s3) as bucket:
            listed = await asyncio.to_thread(client.artifacts, job_id)
            key_of = {artifact.name: artifact.key for artifact in listed.artifacts}
            await bucket.send_file(video, key_of["overlay.mp4"], "video/mp4")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with chromium(folder / "chromium") as browser, pages({}) as origin, aiohttp.ClientSession() as http:
            tab = await browser.open(origin)
            taken: list[float] = []
            for number in range(rounds):
                artifact = f"{url}/v1/jobs/{job_id}/artifacts/overlay.mp4"
                async with http.get(artifact, headers=headers, allow_redirects=False) as answer:
                    assert answer.status == 307, await answer.text()
                    presigned = answer.headers["Location"]
                try:
                    taken.append(await seek(tab, presigned, share=0.5 + 0.45 * number / rounds))
                except AssertionError as failed:
                    print(f"seek in a video of 60 MB: {failed} after 15 s")
                    return
    print(f"seek in a video of 60 MB: median {statistics.median(taken):.3f} s, max {max(taken):.3f} s, {rounds} seeks")


async def transfer(name: str, s3: S3Settings, file: Path, process_ids: dict[str, int]) -> None:
    """Upload and download one object by presigned URLs, with curl."""
    megabytes = file.stat().st_size / MB
    async with open_bucket(s3) as bucket:
        put = await bucket.presign_put("large.bin", "application/octet-stream")
        get = await bucket.presign_get("large.bin")
    ways = {
        "upload": ["-T", str(file), "-H", "Content-Type: application/octet-stream", put],
        "download": ["-o", "/dev/null", get],
    }
    told = []
    for way, arguments in ways.items():
        before = {child: _cpu_s(number) for child, number in process_ids.items()}
        begin = time.perf_counter()
        command = ["curl", "--silent", "--fail", *arguments]
        await asyncio.to_thread(subprocess.run, command, check=True)
        seconds = time.perf_counter() - begin
        cpu = ", ".join(f"{child} {_cpu_s(number) - before[child]:.2f} s" for child, number in process_ids.items())
        told.append(f"{way} {megabytes / seconds:4.0f} MB/s (CPU: {cpu})")
    print(f"{name:12} {'  '.join(told)}")


def _cpu_s(process_id: int) -> float:
    times = psutil.Process(process_id).cpu_times()
    return float(times.user + times.system)


async def measure_transfers(folder: Path, size_bytes: int, rounds: int) -> None:
    """Transfer one object directly and through the proxy in a process of its own, in turns."""
    file = folder / "large.bin"
    with file.open("wb") as out:
        block = bytes(range(256)) * 4096
        for _ in range(size_bytes // len(block)):
            out.write(block)
    (folder / "s3").mkdir()
    with EmbeddedS3(folder / "s3") as server:
        port = free_port()
        assert server._process is not None  # noqa: SLF001 - its process id is asked for nowhere else
        rclone = server._process.pid  # noqa: SLF001
        environment = {"BUCKET_PROXY_PORT": str(port), "BUCKET_PROXY_UPSTREAM_URL": server.settings.endpoint_url}
        command = [sys.executable, "-m", "services.bucket_proxy"]
        proxy = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port, proxy)
            through = server.settings.model_copy(update={"public_endpoint_url": f"http://127.0.0.1:{port}"})
            for _ in range(rounds):
                await transfer("direct", server.settings, file, {"rclone": rclone})
                await transfer("proxy", through, file, {"rclone": rclone, "proxy": proxy.pid})
            print(f"memory of the proxy: {psutil.Process(proxy.pid).memory_info().rss / MB:.0f} MB")
        finally:
            proxy.terminate()
            proxy.wait(10)


async def measure_origin(url: str, s3: S3Settings, file: Path) -> None:
    """Measure answers of the origin, idle and while two clients transfer through the embedded proxy."""
    async with open_bucket(s3) as bucket:
        put = await bucket.presign_put("large.bin", "application/octet-stream")
    upload = ["curl", "--silent", "--fail", "-T", str(file), "-H", "Content-Type: application/octet-stream", put]
    async with aiohttp.ClientSession() as session:
        for name, clients in (("idle", 0), ("two uploads", 2)):
            loop = f"while :; do {shlex.join(upload)}; done"
            transfers = [subprocess.Popen(["sh", "-c", loop], start_new_session=True) for _ in range(clients)]
            taken = []
            end = time.perf_counter() + 3
            while time.perf_counter() < end:
                begin = time.perf_counter()
                async with session.get(f"{url}/v1/jobs") as answer:
                    await answer.read()
                taken.append((time.perf_counter() - begin) * 1e3)
                await asyncio.sleep(0.005)
            for process in transfers:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            taken.sort()
            p99 = taken[int(len(taken) * 0.99)]
            times = f"p50 {statistics.median(taken):5.1f} ms  p99 {p99:5.1f} ms  max {taken[-1]:5.1f} ms"
            print(f"GET /v1/jobs, {name:12} {times}")


async def measure(arguments: argparse.Namespace) -> None:
    """Run the measurements."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if arguments.url:
            s3 = S3Settings(
                endpoint_url=arguments.s3_url,
                access_key_id=arguments.s3_key_id,
                secret_access_key=SecretStr(arguments.s3_secret),
            )
            await measure_seeks(arguments.url, arguments.key, s3, folder, arguments.rounds)
            return
        port = free_port()
        system = EmbeddedSystem(folder / "data", "127.0.0.1", port, print)
        await system.start()
        try:
            s3 = own_bucket(folder / "data")
            await measure_seeks(f"http://127.0.0.1:{port}", None, s3, folder, arguments.rounds)
            await measure_origin(f"http://127.0.0.1:{port}", s3, folder / "large.mp4")
        finally:
            await system.stop()
        await measure_transfers(folder, arguments.transfer_mb * 1_000_000, arguments.rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", help="origin of a running system")
    parser.add_argument("--key", help="its API key")
    parser.add_argument("--s3-url", default="http://127.0.0.1:9000")
    parser.add_argument("--s3-key-id", default="saccade")
    parser.add_argument("--s3-secret", default="development-only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transfer-mb", type=int, default=500)
    asyncio.run(measure(parser.parse_args()))
