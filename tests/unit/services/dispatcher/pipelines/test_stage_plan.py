"""Pipelines with random histories: each reaches an end, counts every cost and leaves no job unfinished."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import Cost, JobSubmitted, PartOf
from contracts.ids import new_id, stage_job_id
from contracts.job import Job, State
from contracts.manifest import Artifact
from contracts.workload import Stage
from services.dispatcher.costs.pipeline_cost import pipeline_attempt_cost
from services.dispatcher.jobs.unfinished_jobs import Heartbeat, UnfinishedJobs
from services.dispatcher.pipelines import stage_plan as plan
from services.dispatcher.pipelines.pipeline_progress import ProgressHistory, roll_up
from services.dispatcher.pipelines.stage_plan import PublishedStages, StageSnapshot
from tests.harness.dispatch.pipelines import relay
from tests.pipeline_workers.relay.params import RelayParams

BEGIN = datetime(2026, 7, 1, tzinfo=UTC)
ERROR = SaccadeError(ErrorCode.CLIP_STATIC).body()
WHOLE = relay()[0]


def submitted(workload: str = "relay", **fields: object) -> JobSubmitted:
    given = {"inputs": {}, "params": {}, "deadline": BEGIN + timedelta(hours=1), **fields}
    return JobSubmitted(workload=workload, workload_version="1", **given)


def pipeline(**fields: object) -> Job:
    known = {"state": State.RUNNING, "attempt": 1, "run_id": "run_1", "deadline": BEGIN + timedelta(hours=1), **fields}
    asked = {name: known.pop(name) for name in ("max_cost_usd",) if name in known}
    return Job(id=new_id("job"), tenant="acme", submitted=submitted(**asked), created_at=BEGIN, **known)  # type: ignore[arg-type]


class History:
    """Random sequence of actions of the dispatcher and the workers of a pipeline's stages."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        cap = chance.choice([None, None, 1.0])
        self.pipeline = pipeline(max_cost_usd=cap)
        self.jobs: dict[str, Job] = {}
        self.published = PublishedStages()
        self.artifacts: dict[str, Artifact] = {}
        self.now = BEGIN
        self.end: plan.PipelineAction | None = None
        self.shards = chance.randint(1, 4)

    @property
    def stages(self) -> list[StageSnapshot]:
        """Stages as the dispatcher reads them: up to the first that is not done."""
        found: list[StageSnapshot] = []
        for stage, shards in plan.needed_stages(WHOLE, RelayParams(shards=self.shards)):
            ids = plan.job_ids(self.pipeline.id, stage, shards)
            found.append(StageSnapshot(stage, tuple(self.jobs.get(job_id) for job_id in ids)))
            if not found[-1].done:
                break
        return found

    def dispatcher_acts(self) -> None:
        action = plan.next_action(self.pipeline, self.stages, self.published, self.artifacts, self.now)
        match action:
            case plan.SubmitShards():
                for shard in action.shards[: self.chance.randint(1, len(action.shards))]:  # it may die in between
                    self.submit(action, shard)
            case plan.CancelJobs(jobs):
                for job in jobs:
                    assert not job.state.ended
                    self.jobs[job.id] = replace(job, cancel_requested=True)
            case plan.PublishArtifacts(artifacts):
                self.published = PublishedStages(
                    self.published.completed,
                    {**self.published.artifacts, **{artifact.name: artifact for artifact in artifacts}},
                )
            case plan.CompleteStage(stage):
                assert stage.stage.name not in self.published.completed, "a stage is completed once"
                self.published = PublishedStages(
                    self.published.completed | {stage.stage.name}, self.published.artifacts
                )
            case plan.EndAttempt() | plan.FinishPipeline():
                assert all(job.state.ended for job in self.jobs.values()), "no job is unfinished when it ends"
                self.end = action
            case plan.WaitForJobs():
                assert any(not job.state.ended for job in self.jobs.values()), "an unfinished job must exist"

    def submit(self, action: plan.SubmitShards, shard: int) -> None:
        job_id = stage_job_id(self.pipeline.id, action.stage.name, shard)
        assert job_id not in self.jobs, "a shard is submitted once"
        part = PartOf(job_id=self.pipeline.id, stage=action.stage.name, shard=shard, shards=action.shard_count)
        asked = submitted(action.stage.work, part_of=part, max_cost_usd=action.max_cost_usd)
        self.jobs[job_id] = Job(id=job_id, tenant="acme", submitted=asked, created_at=self.now)

    def worker_acts(self) -> None:
        self.now += timedelta(seconds=1)
        unfinished = [job for job in self.jobs.values() if not job.state.ended]
        if not unfinished:
            return
        job = self.chance.choice(unfinished)
        cap = job.submitted.max_cost_usd
        usd = round(self.chance.random() * (0.2 if cap is None else max(0.0, cap - job.actual_usd)), 6)
        cost = Cost(device="cpu", seconds=1.0, usd=usd)
        costs = job.costs | {f"run_{len(job.costs)}": cost}
        end = {"costs": costs, "finished_at": self.now}
        name = f"{job.id[-12:]}.txt"
        self.artifacts[name] = Artifact(name=f"a{name}", key="k", bytes=1, sha256="0" * 64, media_type="text/plain")
        self.artifacts = {artifact.name: artifact for artifact in self.artifacts.values()}
        if job.cancel_requested:
            self.jobs[job.id] = replace(job, state=State.CANCELLED, **end)  # type: ignore[arg-type]
        elif (luck := self.chance.random()) < 0.75:
            self.jobs[job.id] = replace(job, state=State.SUCCEEDED, **end)  # type: ignore[arg-type]
        elif luck < 0.85:
            self.jobs[job.id] = replace(job, state=State.FAILED, failure="user", error=ERROR, **end)  # type: ignore[arg-type]
        elif luck < 0.9:
            self.pipeline = replace(self.pipeline, cancel_requested=True)
        elif luck < 0.92:
            self.now += timedelta(hours=2)
        else:
            self.jobs[job.id] = replace(job, costs=costs)  # an attempt was lost


def test_every_random_history_ends_and_counts_every_cost() -> None:
    seed = random.randrange(2**32)
    for number in range(400):
        history = History(random.Random(seed + number))
        try:
            for _ in range(2000):
                (history.dispatcher_acts if history.chance.random() < 0.5 else history.worker_acts)()
                if history.end:
                    break
            assert history.end, "it does not end"
            check_end(history)
        except AssertionError as error:
            error.add_note(f"seed {seed + number}")
            raise


def check_end(history: History) -> None:
    jobs = history.jobs.values()
    spent = round(sum(cost.usd for job in jobs for cost in job.costs.values()), 6)
    assert pipeline_attempt_cost(history.pipeline, jobs).usd == spent
    if (cap := history.pipeline.submitted.max_cost_usd) is not None:
        assert spent <= cap + 1e-9, "the stages together stay below the cap"
    assert set(history.published.artifacts) == set(history.artifacts), "every artifact is published"
    done = all(job.state is State.SUCCEEDED for job in jobs)
    if isinstance(history.end, plan.FinishPipeline):
        assert done
        assert history.published.completed == {"gather", "shape", "bind"}
        assert history.end.last.submitted.workload == "relay_bind"
    else:
        assert isinstance(history.end, plan.EndAttempt)
        failed = any(job.state is State.FAILED for job in jobs)
        late = history.now >= (history.pipeline.deadline or history.now)
        spent_up = history.end.error.code == ErrorCode.COST_CAP_REACHED
        assert failed or history.pipeline.cancel_requested or late or spent_up
        if failed and not history.pipeline.cancel_requested:
            assert history.end.error == ERROR


def part(shard: int, state: State, **fields: object) -> Job:
    asked = submitted("relay_shape")
    return Job(id=f"stg_{shard}", tenant="acme", submitted=asked, created_at=BEGIN, state=state, **fields)  # type: ignore[arg-type]


def test_the_first_failure_is_the_reason() -> None:
    other = SaccadeError(ErrorCode.CLIP_TOO_SHORT).body()
    late = part(0, State.FAILED, failure="user", error=other, finished_at=BEGIN + timedelta(seconds=9))
    first = part(1, State.FAILED, failure="user", error=ERROR, finished_at=BEGIN)
    stopped = part(2, State.CANCELLED, finished_at=BEGIN)
    action = plan.next_action(
        pipeline(), [StageSnapshot(Stage("shape", "", 1.0), (late, first, stopped))], PublishedStages(), {}, BEGIN
    )
    assert action == plan.EndAttempt("user", ERROR)


def test_a_cancelled_pipeline_retries_no_failed_job() -> None:
    failed = part(0, State.FAILED, failure="lost", error=ERROR, finished_at=BEGIN)
    stages = [StageSnapshot(Stage("shape", "", 1.0), (failed,))]
    assert plan.action_before_running(pipeline(state=State.STARTING), stages) == plan.RetryJobs([failed])
    cancelled = pipeline(state=State.STARTING, cancel_requested=True)
    assert plan.action_before_running(cancelled, stages) == plan.StartStages()


def test_a_second_attempt_does_not_count_the_cost_of_the_first() -> None:
    costs = {f"run_{number}": Cost(device="cpu", seconds=1.0, usd=0.25) for number in range(3)}
    snapshot = StageSnapshot(Stage("shape", "", 1.0), (part(0, State.SUCCEEDED, costs=costs),))
    again = pipeline(run_id="run_b", costs={"run_a": Cost(device="pipeline", seconds=1.0, usd=0.25)})
    assert pipeline_attempt_cost(again, snapshot.submitted).usd == 0.5


@pytest.mark.parametrize("shards", [0, 1000])
def test_a_stage_has_one_to_999_shards(shards: int) -> None:
    with pytest.raises(ValueError, match="shards"):
        plan.needed_stages(WHOLE, RelayParams(shards=shards))


def test_progress_is_weighted_by_share_and_averaged_over_shards() -> None:
    stages = [
        StageSnapshot(Stage("gather", "Gather", 0.2), (part(0, State.SUCCEEDED),)),
        StageSnapshot(
            Stage("shape", "Shape", 0.6),
            (part(1, State.SUCCEEDED), part(2, State.RUNNING), part(3, State.QUEUED), None),
        ),
        StageSnapshot(Stage("bind", "Bind", 0.2), (None,)),
    ]
    heartbeats = {"stg_2": Heartbeat("run", 5.0, 0.5, "Frame 7 of 14.")}
    progress = roll_up(stages, lambda job: heartbeats.get(job.id))
    assert progress.fraction == pytest.approx(0.2 + 0.6 * 1.5 / 4)
    assert (progress.stage, progress.stage_fraction) == ("shape", pytest.approx(1.5 / 4))
    assert progress.message == "1 of 4 parts are done. Frame 7 of 14."


def test_progress_never_decreases_and_its_speed_is_that_of_the_last_minute() -> None:
    history_of_progress = ProgressHistory("run")
    fractions = [
        history_of_progress.add(fraction, second) for second, fraction in enumerate([0.0, 0.1, 0.2, 0.15, 0.3, 0.4])
    ]
    assert fractions == [0.0, 0.1, 0.2, 0.2, 0.3, 0.4]
    assert history_of_progress.eta_s() == pytest.approx(0.6 * 5 / 0.4)
    assert ProgressHistory("run").fraction == 0.0


def test_jobs_of_stages_are_kept_until_their_pipeline_has_ended() -> None:
    jobs, whole = UnfinishedJobs(), pipeline()
    part_id = stage_job_id(whole.id, "shape", 0)
    costs = {"run_a": Cost(device="cpu", seconds=1.0, usd=0.25)}
    jobs.put(whole)
    jobs.put(replace(part(0, State.RUNNING), id=part_id, sequence=1, costs=costs))
    jobs.put(replace(part(0, State.FAILED), id=part_id, sequence=2))
    assert jobs.get(part_id) is None
    kept = jobs.stage_job(part_id)
    assert kept
    assert (kept.state, kept.costs) == (State.FAILED, costs)
    jobs.put(replace(part(0, State.RETRYING), id=part_id, sequence=3))
    again = jobs.get(part_id)
    assert again
    assert again.costs == costs
    jobs.put(replace(part(0, State.SUCCEEDED), id=part_id, sequence=4))
    jobs.put(replace(whole, state=State.SUCCEEDED, sequence=9))
    assert jobs.stage_job(part_id) is None
