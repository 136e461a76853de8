"""What follows for a pipeline, by random histories: it goes on to an end, counts every cost, leaves no job alone."""

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
from services.dispatcher.jobs.unfinished_jobs import Heard, Jobs
from services.dispatcher.pipelines import stage_plan as rules
from services.dispatcher.pipelines.pipeline_progress import Pace, roll_up
from services.dispatcher.pipelines.stage_plan import StageNow, Told
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
    """Plays the dispatcher and the workers of a pipeline's stages, by chance, one thing at a time."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        cap = chance.choice([None, None, 1.0])
        self.pipeline = pipeline(max_cost_usd=cap)
        self.jobs: dict[str, Job] = {}
        self.told = Told()
        self.left: dict[str, Artifact] = {}
        self.now = BEGIN
        self.over: rules.Move | None = None
        self.shards = chance.randint(1, 4)

    @property
    def stages(self) -> list[StageNow]:
        """Give the stages as the dispatcher reads them: up to the first that is not done."""
        found: list[StageNow] = []
        for stage, shards in rules.shards_of(WHOLE, RelayParams(shards=self.shards)):
            ids = rules.job_ids(self.pipeline.id, stage, shards)
            found.append(StageNow(stage, tuple(self.jobs.get(one) for one in ids)))
            if not found[-1].done:
                break
        return found

    def dispatcher_moves(self) -> None:
        move = rules.while_running(self.pipeline, self.stages, self.told, self.left, self.now)
        match move:
            case rules.Submit():
                for shard in move.shards[: self.chance.randint(1, len(move.shards))]:  # it may die in between
                    self.submit(move, shard)
            case rules.Cancel(jobs):
                for job in jobs:
                    assert not job.state.ended
                    self.jobs[job.id] = replace(job, cancel_requested=True)
            case rules.Show(artifacts):
                self.told = Told(self.told.completed, {**self.told.artifacts, **{one.name: one for one in artifacts}})
            case rules.Complete(stage):
                assert stage.stage.name not in self.told.completed, "a stage is done once"
                self.told = Told(self.told.completed | {stage.stage.name}, self.told.artifacts)
            case rules.Stop() | rules.Finish():
                assert all(job.state.ended for job in self.jobs.values()), "nothing is under way when it ends"
                self.over = move
            case rules.Wait():
                assert any(not job.state.ended for job in self.jobs.values()), "somebody must wake it"

    def submit(self, move: rules.Submit, shard: int) -> None:
        job_id = stage_job_id(self.pipeline.id, move.stage.name, shard)
        assert job_id not in self.jobs, "a shard is submitted once"
        part = PartOf(job_id=self.pipeline.id, stage=move.stage.name, shard=shard, shards=move.of)
        asked = submitted(move.stage.work, part_of=part, max_cost_usd=move.max_cost_usd)
        self.jobs[job_id] = Job(id=job_id, tenant="acme", submitted=asked, created_at=self.now)

    def somebody_moves(self) -> None:
        self.now += timedelta(seconds=1)
        going = [job for job in self.jobs.values() if not job.state.ended]
        if not going:
            return
        job = self.chance.choice(going)
        cap = job.submitted.max_cost_usd
        usd = round(self.chance.random() * (0.2 if cap is None else max(0.0, cap - job.actual_usd)), 6)
        cost = Cost(device="cpu", seconds=1.0, usd=usd)
        costs = job.costs | {f"run_{len(job.costs)}": cost}
        end = {"costs": costs, "finished_at": self.now}
        name = f"{job.id[-12:]}.txt"
        self.left[name] = Artifact(name=f"a{name}", key="k", bytes=1, sha256="0" * 64, media_type="text/plain")
        self.left = {one.name: one for one in self.left.values()}
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


def test_by_chance_it_always_comes_to_an_end_that_counts_everything() -> None:
    seed = random.randrange(2**32)
    for number in range(400):
        history = History(random.Random(seed + number))
        try:
            for _ in range(2000):
                (history.dispatcher_moves if history.chance.random() < 0.5 else history.somebody_moves)()
                if history.over:
                    break
            assert history.over, "it does not end"
            check_end(history)
        except AssertionError as error:
            error.add_note(f"seed {seed + number}")
            raise


def check_end(history: History) -> None:
    jobs = history.jobs.values()
    spent = round(sum(cost.usd for job in jobs for cost in job.costs.values()), 6)
    assert rules.cost_of_run(history.pipeline, history.stages).usd == spent
    if (cap := history.pipeline.submitted.max_cost_usd) is not None:
        assert spent <= cap + 1e-9, "together the stages cost no more than the whole may"
    assert set(history.told.artifacts) == set(history.left), "whatever was left is told"
    done = all(job.state is State.SUCCEEDED for job in jobs)
    if isinstance(history.over, rules.Finish):
        assert done
        assert history.told.completed == {"gather", "shape", "bind"}
        assert history.over.last.submitted.workload == "relay_bind"
    else:
        assert isinstance(history.over, rules.Stop)
        failed = any(job.state is State.FAILED for job in jobs)
        late = history.now >= (history.pipeline.deadline or history.now)
        spent_up = history.over.error.code == ErrorCode.COST_CAP_REACHED
        assert failed or history.pipeline.cancel_requested or late or spent_up
        if failed and not history.pipeline.cancel_requested:
            assert history.over.error == ERROR


def part(shard: int, state: State, **fields: object) -> Job:
    asked = submitted("relay_shape")
    return Job(id=f"stg_{shard}", tenant="acme", submitted=asked, created_at=BEGIN, state=state, **fields)  # type: ignore[arg-type]


def test_the_first_to_fail_says_why() -> None:
    other = SaccadeError(ErrorCode.CLIP_TOO_SHORT).body()
    late = part(0, State.FAILED, failure="user", error=other, finished_at=BEGIN + timedelta(seconds=9))
    first = part(1, State.FAILED, failure="user", error=ERROR, finished_at=BEGIN)
    stopped = part(2, State.CANCELLED, finished_at=BEGIN)
    move = rules.while_running(
        pipeline(), [StageNow(Stage("shape", "", 1.0), (late, first, stopped))], Told(), {}, BEGIN
    )
    assert move == rules.Stop("user", ERROR)


def test_a_second_attempt_counts_only_what_was_not_told_by_the_first() -> None:
    costs = {f"run_{number}": Cost(device="cpu", seconds=1.0, usd=0.25) for number in range(3)}
    one = StageNow(Stage("shape", "", 1.0), (part(0, State.SUCCEEDED, costs=costs),))
    again = pipeline(run_id="run_b", costs={"run_a": Cost(device="pipeline", seconds=1.0, usd=0.25)})
    assert rules.cost_of_run(again, [one]).usd == 0.5


@pytest.mark.parametrize("shards", [0, 1000])
def test_a_stage_has_one_to_999_shards(shards: int) -> None:
    with pytest.raises(ValueError, match="shards"):
        rules.shards_of(WHOLE, RelayParams(shards=shards))


def test_progress_is_the_shares_of_what_is_done_and_of_what_the_shards_say() -> None:
    stages = [
        StageNow(Stage("gather", "Gather", 0.2), (part(0, State.SUCCEEDED),)),
        StageNow(
            Stage("shape", "Shape", 0.6),
            (part(1, State.SUCCEEDED), part(2, State.RUNNING), part(3, State.QUEUED), None),
        ),
        StageNow(Stage("bind", "Bind", 0.2), (None,)),
    ]
    heard = {"stg_2": Heard("run", 5.0, 0.5, "Frame 7 of 14.")}
    now = roll_up(stages, lambda job: heard.get(job.id))
    assert now.fraction == pytest.approx(0.2 + 0.6 * 1.5 / 4)
    assert (now.stage, now.stage_fraction) == ("shape", pytest.approx(1.5 / 4))
    assert now.message == "1 of 4 parts are done. Frame 7 of 14."


def test_the_whole_never_goes_back_and_its_pace_is_that_of_the_last_minute() -> None:
    pace = Pace("run")
    told = [pace.take(fraction, second) for second, fraction in enumerate([0.0, 0.1, 0.2, 0.15, 0.3, 0.4])]
    assert told == [0.0, 0.1, 0.2, 0.2, 0.3, 0.4]
    assert pace.eta_s() == pytest.approx(0.6 * 5 / 0.4)
    assert Pace("run").fraction == 0.0


def test_jobs_of_stages_are_kept_until_their_pipeline_has_ended() -> None:
    jobs, whole = Jobs(), pipeline()
    part_id = stage_job_id(whole.id, "shape", 0)
    costs = {"run_a": Cost(device="cpu", seconds=1.0, usd=0.25)}
    jobs.put(whole)
    jobs.put(replace(part(0, State.RUNNING), id=part_id, sequence=1, costs=costs))
    jobs.put(replace(part(0, State.FAILED), id=part_id, sequence=2))
    assert jobs.get(part_id) is None
    kept = jobs.part(part_id)
    assert kept
    assert (kept.state, kept.costs) == (State.FAILED, costs)
    jobs.put(replace(part(0, State.RETRYING), id=part_id, sequence=3))
    again = jobs.get(part_id)
    assert again
    assert again.costs == costs
    jobs.put(replace(part(0, State.SUCCEEDED), id=part_id, sequence=4))
    jobs.put(replace(whole, state=State.SUCCEEDED, sequence=9))
    assert jobs.part(part_id) is None
