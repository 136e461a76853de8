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
      client.close();
      return { ids: jobs.map((job) => job.id), listed, cancelled, told, only, cursor: feed.cursor, retry };
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
      client.close();
      return { ended: job.ended, told, complete: manifest.complete, texts, missing };
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

    /** Parse a text cut into pieces of each size, and give what comes of each. */
    async parsed(text, sizes) {
      return sizes.map((size) => {
        const parser = new BlockParser();
        const blocks = [];
        for (let at = 0; at < text.length; at += size) blocks.push(...parser.push(text.slice(at, at + size)));
        return { blocks, unfinished: parser.unfinished };
      });
    },
  };
}
