"""Erasures in the projection of deliveries: rows of a tenant or of a job, with their attempts and URLs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.erasure import sha256_of
from contracts.events.base import encode
from contracts.events.delivery import WebhookRedeliveryRequested
from contracts.events.erasure import ErasureCompleted
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.erased_deliveries import erase_deliveries
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
UNTIL: dict[str, Any] = {"until_sequence": 50, "until_time": NOW}


def fill(file: DeliveryFile) -> None:
    """Store two deliveries of each of two tenants, with an attempt, a job's URL and failures."""
    deliveries, receivers = DeliveryTables(file), ReceiverTables(file)
    for number, tenant in enumerate(("zoe", "bob")):
        for place in range(2):
            sequence, job_id = 10 * number + place + 1, f"job_{tenant}_{place}"
            planned = PlannedDelivery(
                f"whk_{tenant}", sequence, tenant, f"whk_{tenant}", f"evt_{sequence}", "job.queued", job_id
            )
            deliveries.add(planned, NOW)
            excerpt = f"canary of {tenant} {place}"
            attempt = DeliveryAttempt(1, sequence, NOW, 500, "http_status", 1.0, excerpt, None, "https://a:443")
            deliveries.record_attempt(planned, attempt, DeliveryState.FAILED)
            receivers.store_job_url(job_id, tenant, f"https://a/canary-{tenant}-{place}", sequence)
        receivers.record_failure(f"whk_{tenant}", tenant, NOW, 500, gone=False)
        receivers.store_planned_since(f"whk_{tenant}", tenant, 1)
    file.commit()


def text_of(file: DeliveryFile) -> str:
    return repr(file.all_rows())


def test_a_tenant_has_no_rows_any_more(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path)
    fill(file)
    receivers = ReceiverTables(file)
    receivers.store_planned_since("whk_of_zoe_without_deliveries", "zoe", 1)
    requested = WebhookRedeliveryRequested(endpoint_id="whk_zoe", since_sequence=1)
    receivers.add_redelivery(7, encode(requested, tenant="zoe", subject_id="whk_zoe", source="/notifier").body)
    erase_deliveries(file, ErasureCompleted(scope="tenant", tenant_sha256=sha256_of("zoe"), **UNTIL))
    assert "zoe" not in text_of(file)
    assert text_of(file).count("canary") == 4, "those of the other tenant"
    assert not any(b"zoe" in path.read_bytes() for path in tmp_path.iterdir())
    file.close()


def test_what_a_new_tenant_of_that_name_has_stays(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path)
    deliveries, receivers = DeliveryTables(file), ReceiverTables(file)
    fill(file)
    new = PlannedDelivery("whk_new", 60, "zoe", "whk_new", "evt_60", "job.queued", "job_new")
    deliveries.add(new, NOW)
    receivers.store_job_url("job_new", "zoe", "https://a/", 60)
    receivers.store_planned_since("whk_new", "zoe", 55)
    erase_deliveries(file, ErasureCompleted(scope="tenant", tenant_sha256=sha256_of("zoe"), **UNTIL))
    assert [row[1] for row in file.rows("SELECT * FROM deliveries WHERE tenant = 'zoe'")] == [60]
    assert receivers.job_url("job_new", "zoe") == "https://a/"
    assert receivers.planned_since("whk_new") == 55
    file.close()


def test_of_a_job_alone_its_own_rows_are_deleted(tmp_path: Path) -> None:
    file = DeliveryFile(tmp_path)
    fill(file)
    data = ErasureCompleted(scope="job", tenant_sha256=sha256_of("zoe"), **UNTIL, jobs_sha256=[sha256_of("job_zoe_0")])
    receivers = ReceiverTables(file)
    receivers.store_job_url("job_zoe_9", "zoe", "https://a/canary", 3)
    receivers.record_failure("job_zoe_9", "zoe", NOW, 500, gone=False)
    of_session = PlannedDelivery("whk_zoe", 4, "zoe", "whk_zoe", "evt_4", "session.opened", "ses_zoe_9")
    DeliveryTables(file).add(of_session, NOW)
    data.jobs_sha256.append(sha256_of("job_zoe_9"))
    erase_deliveries(file, data)
    assert "job_zoe_0" not in text_of(file)
    assert receivers.job_url("job_zoe_9", "zoe") is None, "its deliveries are past retention, its URL was not"
    assert "zoe_9" not in text_of(file), "nor its failures, nor deliveries about its session"
    assert "zoe 0" not in text_of(file)
    assert text_of(file).count("canary") == 6
    file.close()
