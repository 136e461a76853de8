// Checks of the pure modules of the pages Jobs and Job, run in a page: each returns what test_job_modules.py expects.
async (folder) => {
  const load = (name) => import(`${folder}pages/jobs/${name}`);
  const [{ foldTimeline, indexAt, marks, rectangles }, { idleGaps, makeAxis, ticks }, summary, table, differ, filters, rows] =
    await Promise.all(["job/timeline.js", "job/axis.js", "job/summary.js", "job/table_text.js", "job/differences.js", "list/filters.js", "list/live_rows.js"].map(load));
  const begin = Date.parse("2026-11-23T10:00:00Z");
  const event = (type, at_s, data = {}, subject = "job_a") => ({
    type: `job.${type}`, subject, data, id: `${type}${at_s}`, time: new Date(begin + at_s * 1000).toISOString(), cursor: `1a.${at_s}`,
  });
  const spans = (fold) => fold.lanes.map((lane) => [lane.kind, lane.name, ...lane.spans.map(({ kind, from, to }) => `${kind} ${(from - begin) / 1000}-${(to - begin) / 1000}`)].join(", "));

  const retried = [
    event("submitted", 0), event("starting", 2, { attempt: 1, device: "L4", rung: 0 }), event("started", 5, { attempt: 1, device: "L4" }),
    event("stage_completed", 9, { stage: "first", duration_s: 3, attempt: 1 }),
    event("interrupted", 10, { attempt: 1, cost: { usd: 0.25 } }), event("retrying", 10, { attempt: 2 }),
    event("starting", 7210, { attempt: 2, device: "A100", rung: 1 }), event("started", 7215, { attempt: 2, device: "A100" }),
    event("succeeded", 7220, { attempt: 2, cost: { usd: 0.5 } }),
  ];
  const fold = foldTimeline(retried, { own: "job_a", now_ms: begin + 9e9 });
  const gaps = idleGaps(fold);
  const axis = makeAxis({ from: fold.begin_ms, to: fold.end_ms, width: 600, gaps });
  const roundTrip = [0, 1, 100, 300, 321, 400, 599, 600].map((x) => Math.abs(axis.x(axis.time(x)) - x) < 0.01);

  const part = (stage, shard, shards) => ({ part_of: { job_id: "job_a", stage, shard, shards } });
  const pipeline = [
    event("submitted", 0), event("starting", 1, { attempt: 1, device: "pipeline" }),
    ...[0, 1].flatMap((shard) => [
      event("submitted", 2, part("train", shard, 2), `job_t${shard}`), event("starting", 3, { attempt: 1, device: "L4" }, `job_t${shard}`),
      event("started", 4, { attempt: 1, device: "L4" }, `job_t${shard}`), event("succeeded", 8 + shard, { cost: { usd: 1 } }, `job_t${shard}`),
    ]).sort((a, b) => Date.parse(a.time) - Date.parse(b.time)),
    event("succeeded", 10, { cost: { usd: 2 } }),
  ];
  const staged = foldTimeline(pipeline, { own: "job_a", now_ms: begin });

  const many = [event("submitted", 0)];
  for (let at = 1, attempt = 1; many.length < 20_000; at += 6, attempt += 1) {
    const run = { attempt, device: attempt % 3 ? "L4" : "A100", rung: attempt % 3 ? 0 : 1 };
    many.push(event("starting", at, run), event("started", at + 1, run), event("interrupted", at + 3, { ...run, cost: { usd: 0.01 } }), event("retrying", at + 4, run));
  }
  const large = foldTimeline(many, { own: "job_a", now_ms: begin });
  const wide = makeAxis({ from: large.begin_ms, to: large.end_ms, width: 800, gaps: idleGaps(large) });

  const job = { id: "job_a", state: "running", attempt: 1, progress: 0.2, started_at: null };
  const address = new URLSearchParams("state=failed&state=odd&state=queued&q=lap&since=2026-11-23T10:00:00Z&until=never&rule=");
  return {
    lanes: spans(fold), cost: fold.cost.map(({ usd }) => usd), gaps: gaps.map(({ from, to }) => (to - from) / 1000), roundTrip,
    ticks: ticks(axis, fold.begin_ms).length > 1, folds: axis.folds.map(({ width }) => width),
    picked: [0, 4.9, 5, 1e6].map((at_s) => indexAt(fold.times_ms, begin + at_s * 1000)),
    unfinished: spans(foldTimeline(retried.slice(0, 3), { own: "job_a", now_ms: begin + 60_000 })),
    staged: spans(staged), stagedCost: staged.cost.at(-1).usd, shardLines: staged.lanes.at(-1).rows,
    empty: foldTimeline([], { own: "job_a", now_ms: begin }).lanes.length,
    drawn: Math.max(...large.lanes.map((lane) => rectangles(lane.spans, wide).length), marks(large.times_ms, wide).length) <= 801,
    counted: rectangles(large.lanes[0].spans, wide).reduce((sum, { count }) => sum + count, 0) === large.lanes[0].spans.length,
    points: ["1a.5", "1a.6", "2026-11-23T10:00:09.500Z", "20s"].map((point) => summary.indexOfPoint(retried, point, fold.times_ms, begin + 29_000)),
    next: summary.nextStep({ ...job, state: "waiting_for_gpu" }, [event("waiting_for_gpu", 1, { device: "L4", next_device: "A100", next_at: "soon" })]),
    csv: [table.rowsOfCsv('a,b\r\n"1,""x""","two\nlines"\n\nlast'), table.rowsOfCsv("a,b\n1,2\n3,", 9, false), table.rowsOfCsv("a\nb\nc", 2)],
    json: [table.tableOfJson([{ a: 1 }, { b: { c: 2 } }]), table.tableOfJson([1]), table.tableOfJson({ a: 1 })],
    views: ["text/html; charset=utf-8", "image/svg+xml", "application/json", "application/pdf", "application/x-ply"].map((type) => table.viewOf({ media_type: type })),
    shown: table.shownFirst([{ name: "a.csv", media_type: "text/csv" }, { name: "spin.html", media_type: "text/html" }, { name: "b/report.html", media_type: "text/html" }, { name: "c.bin", media_type: "x/y" }]).map(({ name }) => name),
    filters: filters.filtersOf(address), sent: filters.queryOf(filters.filtersOf(address), ["state"]), commands: [{ state: ["failed"], q: "lap 7" }, { state: ["failed", "queued"] }, { state: [], rule: "rul_1" }].map(filters.commandOf),
    rows: [
      rows.patched(job, event("progressed", 1, { attempt: 1, fraction: 0.6, stage: "s", message: "m" })).progress,
      rows.patched(job, event("progressed", 1, { attempt: 2, fraction: 0.6 })) === job,
      rows.patched(job, event("succeeded", 2, { attempt: 1 })).state, rows.patched(job, event("retention_changed", 3)) === job,
      rows.joined([{ id: 1 }], [{ id: 1 }, { id: 2 }]).length,
    ],
    fresh: [
      {}, { workload: "v" }, { workload: "w" }, { q: "lap" }, { rule: "rul_1" }, { plan: "jbp_1" }, { pipeline: "job_p" }, { state: ["failed"] },
      { state: ["failed", "queued"] }, { until: "2026-11-23T10:00:00Z" }, { until: "2026-11-24T10:00:00Z" }, { since: "2026-11-24T10:00:00Z" },
    ].map((wanted) => rows.isNewJob(event("submitted", 0, { workload: "w" }), wanted)),
    caughtUp: rows.caughtUp([{ ...job, cursor: "1a.3" }, { ...job, id: "job_b", cursor: "1a.9" }], [
      event("failed", 2, { attempt: 1 }), event("succeeded", 4, { attempt: 1 }), event("failed", 5, { attempt: 1 }, "job_b"),
    ]).map(({ state }) => state),
    differences: differ.differences(
      { ...job, params: { a: 1, b: { c: 2 } }, cost: { actual_usd: 0 }, inputs: {} },
      { ...job, params: { a: 1, b: { c: 3 } }, cost: { actual_usd: 0 }, inputs: {} },
    ),
  };
}
