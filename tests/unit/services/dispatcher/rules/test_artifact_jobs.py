"""Artifacts of rules' jobs by content: the newest of each, and never more than the bound."""

from __future__ import annotations

from hashlib import sha256

from services.dispatcher.rules.artifact_jobs import ArtifactJobs


def digest(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def test_an_artifact_is_found_by_its_content_in_its_own_tenant() -> None:
    jobs = ArtifactJobs()
    jobs.add("acme", digest(1), "job_1")
    jobs.add("acme", digest(1), "job_2")
    assert jobs.job_of("acme", digest(1).upper()) == "job_2"
    assert jobs.job_of("other", digest(1)) is None
    assert jobs.job_of("acme", "no hash") is None


def test_the_oldest_artifacts_are_forgotten() -> None:
    jobs = ArtifactJobs(kept=3)
    for number in range(5):
        jobs.add("acme", digest(number), f"job_{number}")
    assert [jobs.job_of("acme", digest(number)) for number in range(5)] == [None, None, "job_2", "job_3", "job_4"]
    assert len(jobs) == 3
