"""Artifacts of rules' jobs by content: the newest of each, and never more than the bound."""

from __future__ import annotations

import random
from collections import Counter
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


def test_a_tenant_with_many_artifacts_makes_others_forget_none() -> None:
    jobs = ArtifactJobs(kept=4)
    jobs.add("small", digest(0), "job_small")
    for number in range(1, 11):
        jobs.add("large", digest(number), f"job_{number}")
    assert jobs.job_of("small", digest(0)) == "job_small"
    assert [jobs.job_of("large", digest(number)) for number in range(7, 11)] == [None, "job_8", "job_9", "job_10"]
    again = ArtifactJobs(kept=4)
    again.restore(jobs.saved())
    assert (
        again.saved()
        == jobs.saved()
        == (("small", digest(0), "job_small"), *(("large", digest(n), f"job_{n}") for n in (8, 9, 10)))
    )


def test_of_random_additions_the_largest_tenant_forgets_its_oldest() -> None:
    seed = random.randrange(2**32)
    rng, jobs, kept = random.Random(seed), ArtifactJobs(kept=20), list[tuple[str, str, str]]()
    for number in range(600):
        tenant, job_id, content = rng.choice("aaaabbc"), f"job_{number}", digest(rng.randrange(60))
        jobs.add(tenant, content, job_id)
        kept = [one for one in kept if one[:2] != (tenant, content)] + [(tenant, content, job_id)]
        if len(kept) > 20:
            sizes = Counter(one[0] for one in kept)
            gone = {*kept} - {*jobs.saved()}
            ((name, *_),) = gone
            assert sizes[name] == max(sizes.values()), seed
            assert next(one for one in kept if one[0] == name) in gone, seed
            kept = [one for one in kept if one not in gone]
        if number % 97 == 0:
            jobs.forget(lambda one: one.endswith("7"))
            kept = [one for one in kept if not one[2].endswith("7")]
        assert list(jobs.saved()) == kept, seed
        assert len(jobs) == len(kept), seed


def test_the_oldest_artifacts_are_forgotten() -> None:
    jobs = ArtifactJobs(kept=3)
    for number in range(5):
        jobs.add("acme", digest(number), f"job_{number}")
    assert [jobs.job_of("acme", digest(number)) for number in range(5)] == [None, None, "job_2", "job_3", "job_4"]
    assert len(jobs) == 3
