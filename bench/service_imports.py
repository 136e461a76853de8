"""Cost of importing a service: CPU time, resident memory and number of modules, in a process of its own.

The smallest of ``--runs`` runs counts: other work on the machine makes an import slower, nothing makes it faster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from bench.needs import needs

needs("psutil")

SERVICES = ("gateway", "dispatcher", "notifier", "bucket_proxy")
_MEASURE = """
import json, resource, sys
import psutil
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu(), psutil.Process().memory_info().rss, len(sys.modules)
import services.{service}.__main__
after = cpu(), psutil.Process().memory_info().rss, len(sys.modules)
print(json.dumps([new - old for new, old in zip(after, before)] + ["faststream" in sys.modules]))
"""


def measured(service: str) -> tuple[float, int, int, bool]:
    """Import a service in a new process; return CPU seconds, bytes, modules, and whether FastStream is among them."""
    command = [sys.executable, "-c", _MEASURE.format(service=service)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    seconds, memory_bytes, modules, has_faststream = json.loads(answer)
    return float(seconds), int(memory_bytes), int(modules), bool(has_faststream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    print("| service | CPU ms | MiB | modules | FastStream |\n|---|---|---|---|---|")
    for service in SERVICES:
        runs = [measured(service) for _ in range(arguments.runs + 1)][1:]
        cpu_ms = 1000 * min(run[0] for run in runs)
        mib = min(run[1] for run in runs) / 2**20
        print(f"| {service} | {cpu_ms:.0f} | {mib:.1f} | {runs[0][2]} | {'yes' if runs[0][3] else 'no'} |")


if __name__ == "__main__":
    main()
