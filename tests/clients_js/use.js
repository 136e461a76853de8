// Uses of saccade.js that a test asks for, in Node and in a page; each gives what the test looks at.

/** What a call was refused with. */
async function refusal(promise) {
  try {
    return { answer: await promise };
  } catch (error) {
    return { name: error.name, code: error.code, status: error.status, hint: error.hint, requestId: error.requestId };
  }
}

/** Get a file of the test's by its URL, as one that a user picked. */
async function picked(url, name) {
  const bytes = await (await fetch(url)).arrayBuffer();
  return new File([bytes], name, { type: "video/mp4" });
}

export function uses({ Client, SaccadeError, BlockParser }) {
  return {
    async upload(url, file, options = {}) {
      const client = new Client({ url });
      const told = [];
      const given = file.startsWith("http") ? await picked(file, "lap.mp4") : file;
      const upload = await client.upload(given, { ...options, onProgress: (done, total) => told.push([done, total]) });
      return { upload, told };
    },

    async words(url, sessionId) {
      const client = new Client({ url });
      const asked = await client.prompt(sessionId, "What is red?", { answerSchema: { type: "object" } });
      const refused = await refusal(client.prompt(sessionId, ""));
      const session = await client.cancelText(sessionId);
      const words = [];
      for await (const word of client.texts(sessionId, { pageSize: 1 })) words.push(word);
      return { asked, refused, words, session };
    },

    async health(url) {
      return refusal(new Client({ url }).health());
    },

    async rules(url, wanted) {
      const client = new Client({ url });
      const made = await client.createRule(wanted, { idempotencyKey: wanted.name });
      const again = await client.createRule(wanted, { idempotencyKey: wanted.name });
      const tried = await client.tryRule(wanted, { since: new Date(0), limit: 5 });
      const listed = [];
      for await (const rule of client.rules({ pageSize: 1 })) listed.push(rule.id);
      const changed = await client.changeRule(made.id, { enabled: false });
      const read = await client.rule(made.id);
      const jobs = [];
      for await (const job of client.jobs({ rule: made.id })) jobs.push(job.id);
      await client.deleteRule(made.id);
      return { made, again, tried, listed, changed, read, jobs, gone: await refusal(client.rule(made.id)) };
    },

    async past(url, jobId) {
      const client = new Client({ url });
      const submitted = await client.job(jobId);
      await client.cancel(jobId);
      const then = await client.job(jobId, { at: submitted.cursor });
      const listed = {};
      for await (const job of client.jobs({ at: submitted.cursor, pageSize: 1 })) listed[job.id] = job.message;
      const changes = await client.jobChanges(jobId, submitted.cursor, { until: "0" });
      const early = await refusal(client.job(jobId, { at: new Date(0) }));
      return { submitted, then, listed, changes, early };
    },

    async incompleteJobs(url) {
      const told = [];
      const listed = [];
      for await (const job of new Client({ url }).jobs({ pageSize: 1, onIncomplete: (lacks) => told.push(lacks) })) listed.push(job.id);
      return { told, listed };
    },

    async wholeJobs(url) {
      const listed = [];
      for await (const job of new Client({ url }).jobs({ pageSize: 1 })) listed.push(job.id);
      return listed;
    },

    async pastOfTenant(url) {
      const told = [];
      const read = async () => {
        for await (const event of new Client({ url }).events({ types: ["job.failed"], since: 3600, follow: false })) {
          told.push([event.type, event.cursor]);
        }
      };
      return { told, refused: (await refusal(read())).code ?? null };
    },

    /** Upload to a bucket whose URL expires, then follow a stream that a proxy answers for a while. */
    async comingBack(url) {
      const client = new Client({ url, multiplex: false });
      const upload = await client.upload(new Blob(["a film"]), { filename: "a.mp4" });
      const { value } = await client.events()[Symbol.asyncIterator]().next();
      return { upload, type: value.type };
    },

    async brokenAnswers(url, file) {
      const client = new Client({ url });
      const cut = await client.call("GET", "/v1/cut");
      const hung = await refusal(client.call("GET", "/v1/hung", { timeoutMs: 500 }));
      const aborted = new AbortController();
      setTimeout(() => aborted.abort(), 500);
      const stopped = await refusal(client.call("GET", "/v1/hung", { signal: aborted.signal }));
      const leaving = new AbortController();
      const page = await client.artifact("job_1", "report.html", { signal: leaving.signal });
      setTimeout(() => leaving.abort(), 100);
      return { cut, hung, stopped, page: await refusal(page.text()), gone: await refusal(client.artifact("job_1", file)) };
    },

    async budget(url, limits) {
      const client = new Client({ url });
      const made = await client.setBudget(limits);
      const read = await client.budget();
      await client.removeBudget();
      return { made, read, gone: await refusal(client.removeBudget()) };
    },

    async check(url, inputs) {
      const client = new Client({ url });
      const wanted = { workload: "lap_compare", params: { sectors: 4 } };
      const early = await client.check({ ...wanted, partial: true });
      const refused = await refusal(client.check(wanted));
      return { early, refused, whole: await client.check({ ...wanted, inputs }) };
    },

    async plan(url, inputs) {
      const client = new Client({ url });
      const job = await client.submit({ workload: "lap_compare", inputs, metadata: { key: `${Math.random()}` } });
      const search = { text: job.id, state: "submitted" };
      const trial = await client.checkJobPlan("cancel", search);
      let plan = await client.createJobPlan("cancel", trial.count, { ...search, why: "test" });
      while (plan.state === "running") plan = await client.jobPlan(plan.id);
      const listed = (await client.jobPage({ plan: plan.id })).data.map((found) => found.id);
      const plans = (await client.jobPlans()).map((found) => found.id);
      return { id: job.id, trial, plan, listed, plans };
    },

    async interruptedUpload(url, file, afterBytes) {
      const client = new Client({ url });
      const given = file.startsWith("http") ? await picked(file, "lap.mp4") : file;
      const controller = new AbortController();
      let id;
      const first = await refusal(
        client.upload(given, {
          multipart: true,
          signal: controller.signal,
          onCreated: (upload) => (id = upload.id),
          onProgress: (done) => done > afterBytes && controller.abort(),
        }),
      );
      const told = [];
      const upload = await client.upload(given, { resume: id, onProgress: (done) => told.push(done) });
      const other = await refusal(client.upload(new Blob(["another file"]), { resume: id, filename: "a.mp4" }));
      return { first, id, upload, told, other };
    },

    async refusals(url, nobody, notAFilm) {
      const client = new Client({ url });
      return {
        workload: await refusal(client.submit({ workload: "no_such_workload" })),
        job: await refusal(client.job("job_00000000-0000-7000-8000-000000000000")),
        film: await refusal(client.upload(new Blob([notAFilm]), { filename: "text.mp4" })),
        nobody: await refusal(new Client({ url: nobody }).workloads()),
        silence: await refusal(new Client({ url: nobody }).events()[Symbol.asyncIterator]().next()),
        stream: await refusal(
          client.events({ jobId: "job_00000000-0000-7000-8000-000000000000" })[Symbol.asyncIterator]().next(),
        ),
        ticket: await refusal(
          new Client({ url, ticket: () => Promise.reject(new Error("no session")) }).events()[Symbol.asyncIterator]().next(),
        ),
        isError: new SaccadeError("code", "message") instanceof Error,
      };
    },

    async submitted(url, inputs, multiplex) {
      const client = new Client({ url, multiplex });
      const wanted = { workload: "lap_compare", inputs, metadata: { a: "b" }, idempotencyKey: `key-${Math.random()}` };
      const jobs = [await client.submit(wanted), await client.submit(wanted), await client.submit({ ...wanted, idempotencyKey: undefined })];
      const listed = [];
      for await (const job of client.jobs({ pageSize: 2 })) listed.push(job.id);
      const cancelled = await jobs[0].cancel();
      const told = [];
      for await (const event of jobs[0].events()) {
        told.push(event.type);
        if (told.length === 2) break;
      }
      const only = [];
      const feed = jobs[0].events({ types: ["job.cancel_requested"] });
      for await (const event of feed) {
        only.push(event.type);
        feed.close();
      }
      const retry = await refusal(jobs[0].retry());
      const page = (await client.jobPage({ text: jobs[0].id.slice(4).toUpperCase(), pageSize: 2 })).data.map((job) => job.id);
      const counts = await client.countJobs({ text: jobs[0].id, workload: "lap_compare" });
      client.close();
      return { ids: jobs.map((job) => job.id), listed, cancelled, told, only, cursor: feed.cursor, retry, page, counts };
    },

    async ended(url, jobId, multiplex) {
      const client = new Client({ url, multiplex });
      const job = await client.job(jobId);
      const told = [];
      for await (const event of job.events()) told.push(event.type);
      const manifest = await job.artifacts();
      const texts = {};
      for (const file of manifest.artifacts) texts[file.name] = await (await job.artifact(file.name)).text();
      const missing = await refusal(job.artifact("nothing"));
      const link = await client.artifactLink(jobId, "more/why.txt", { expiresInS: 60 });
      const linked = await (await fetch(link.url)).text();
      client.close();
      return { ended: job.ended, told, complete: manifest.complete, texts, missing, linked };
    },

    /** Follow the tenant and say so; ends with an event about `last`. */
    async tenant(url, last, multiplex, options = {}) {
      const client = new Client({ url, multiplex, silenceMs: 1000 });
      const told = [];
      for await (const event of client.events(options)) {
        if (event.cursor) told.push(event.cursor);
        if (event.subject === last) break;
      }
      client.close();
      return told;
    },

    /** Follow a job after a cursor that may be lost; give the types that came. */
    async after(url, jobId, cursor, multiplex) {
      const client = new Client({ url, multiplex });
      const told = [];
      for await (const event of client.events({ jobId, cursor })) told.push([event.type, event.data]);
      client.close();
      return told;
    },

    /** Follow with tickets, the first of which is worth nothing. */
    async ticketed(url, apiKey, jobId) {
      const asked = [];
      const server = new Client({ url, apiKey });
      const client = new Client({
        url,
        ticket: async (resource) => (asked.push(resource) === 1 ? "no.ticket" : (await server.ticket(resource)).ticket),
      });
      const told = [];
      for await (const event of client.events({ jobId })) told.push(event.type);
      const refused = await refusal(new Client({ url }).events({ jobId })[Symbol.asyncIterator]().next());
      return { asked, told, refused };
    },

    /** Submit and follow many jobs at once, as a page does that shows them all, and read the API meanwhile. */
    async page(url, inputs, count, ready) {
      const client = new Client({ url, multiplex: true, silenceMs: 2000 });
      const jobs = await Promise.all(Array.from({ length: count }, () => client.submit({ workload: "lap_compare", inputs })));
      const told = Object.fromEntries(jobs.map((job) => [job.id, []]));
      const following = jobs.map(async (job) => {
        for await (const event of job.events()) if (event.cursor) told[job.id].push([event.cursor, event.type]);
      });
      await client.submit({ workload: "lap_compare", inputs, metadata: { ready } });
      const read = await Promise.all(jobs.map((job) => job.refresh()));
      await Promise.all(following);
      client.close();
      return { told, read: read.length };
    },

    /** Abort, and end from afar. */
    async endings(url, jobId, multiplex) {
      const client = new Client({ url, multiplex });
      const next = async (feed) => {
        const events = feed[Symbol.asyncIterator]();
        await events.next();
        return events;
      };
      const controller = new AbortController();
      const aborted = await next(client.events({ jobId, signal: controller.signal }));
      setTimeout(() => controller.abort(new RangeError("enough")), 50);
      const abortion = await refusal(aborted.next());
      const feed = client.events({ jobId });
      const closed = await next(feed);
      setTimeout(() => feed.close(), 50);
      const closing = await refusal(closed.next());
      const twice = await refusal(feed[Symbol.asyncIterator]().next());
      const other = await next(client.events({ jobId }));
      setTimeout(() => client.close(), 50);
      const all = await refusal(other.next());
      return { abortion: abortion.name, closing: closing.answer, twice: twice.name, all: all.answer };
    },

    /**
     * Parse streams, each cut in all ways: `{name: [chunks, pairs]}`, where a character of a chunk is one byte, to the
     * distinct results; `pairs` asks for all pairs of cuts.
     */
    async parsed(streams) {
      const outcome = (pieces) => {
        const parser = new BlockParser();
        const events = [];
        for (const piece of pieces) {
          for (const block of parser.push(piece)) events.push([block.event, block.data.join("\n"), block.lastEventId]);
        }
        return JSON.stringify([events, parser.lastEventId, parser.retryMs]);
      };
      return Object.fromEntries(
        Object.entries(streams).map(([name, [chunks, pairs]]) => {
          const received = chunks.map((chunk) => Uint8Array.from(chunk, (character) => character.charCodeAt(0)));
          const whole = Uint8Array.from(chunks.join(""), (character) => character.charCodeAt(0));
          const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(whole);
          const found = new Set([outcome(received), outcome([...text])]);
          found.add(outcome(Array.from(whole, (_, at) => whole.subarray(at, at + 1))));
          for (let first = 0; first <= whole.length; first += 1) {
            found.add(outcome([whole.subarray(0, first), whole.subarray(first)]));
            for (let second = first + 1; pairs && second < whole.length; second += 1) {
              found.add(outcome([whole.subarray(0, first), whole.subarray(first, second), whole.subarray(second)]));
            }
          }
          return [name, [...found].map((one) => JSON.parse(one))];
        }),
      );
    },

    /** Parse a line of so many bytes in reads of 1 kB, then as many bytes in lines of 1 kB; give the milliseconds. */
    async parseTimes(bytes) {
      const time = (piece) => {
        let best = Infinity;
        for (let round = 0; round < 3; round += 1) {
          const parser = new BlockParser();
          const begin = performance.now();
          for (let at = 0; at < bytes; at += 1024) parser.push(piece);
          parser.push(new TextEncoder().encode("\n\n"));
          best = Math.min(best, performance.now() - begin);
        }
        return best;
      };
      const long = new Uint8Array(1024).fill(97);
      const short = long.slice();
      short[1023] = 10;
      return { long: time(long), short: time(short) };
    },

    /** Follow a job to its end or for `count` events; give types, data and cursors, and what it was refused with. */
    async followed(url, jobId, count, multiplex = false) {
      const client = new Client({ url, multiplex });
      const told = [];
      const refused = await refusal(
        (async () => {
          for await (const event of client.events({ jobId })) {
            if (told.push([event.type, event.data, event.cursor]) === count) break;
          }
        })(),
      );
      client.close();
      return { told, refused };
    },
  };
}
