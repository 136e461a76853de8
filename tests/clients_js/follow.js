// Follows one job with each client there is, as its users would, and gives what it was told: [cursor, type] of every
// durable event. Runs in Node and in a page.

const ADVISORY = "job.progressed";
const END = "job.succeeded";

/** Take one event: its data must be whole and be of its type. */
function told(got, cursor, type, data) {
  const event = JSON.parse(data);
  if (type === "gap" || type === "snapshot") throw new Error(`the stream says ${type}: ${data}`);
  if (event.type !== type) throw new Error(`${type} holds ${event.type}`);
  if (type !== ADVISORY) got.push([cursor, type]);
}

/** The browser's EventSource, or npm's `eventsource`: it comes back by itself, and ends with the answer 204 at last. */
export function followEventSource(EventSource, url, untilTold, types) {
  return new Promise((resolve, reject) => {
    const got = [];
    const source = new EventSource(url);
    for (const type of types) {
      source.addEventListener(type, (event) => {
        try {
          told(got, event.lastEventId, type, event.data);
          if (untilTold && type === END) {
            source.close();
            resolve(got);
          }
        } catch (error) {
          source.close();
          reject(error);
        }
      });
    }
    source.onmessage = (event) => reject(new Error(`a message without a name: ${event.data}`));
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      if (got.length && got.at(-1)[1] === END) resolve(got);
      else reject(new Error(`it gave up after ${got.length} events`));
    };
  });
}

/** `@microsoft/fetch-event-source`: a clean end must be thrown, or it never comes back. */
export async function followFetchEventSource(fetchEventSource, url, untilTold) {
  class Ended extends Error {}
  const got = [];
  let cursor = null;
  try {
    await fetchEventSource(url, {
      openWhenHidden: true,
      // It notes a cursor when the line is there, before the event is: a cut between the two would lose the event.
      fetch: (input, { headers, ...init }) => {
        const { "last-event-id": _, ...others } = headers;
        return fetch(input, { ...init, headers: cursor ? { ...others, "last-event-id": cursor } : others });
      },
      async onopen(response) {
        if (response.status === 204) throw new Ended();
        if (!response.ok) throw new Error(`it was answered ${response.status}`);
      },
      onmessage({ id, event, data }) {
        told(got, id, event, data);
        if (id) cursor = id;
        if (untilTold && event === END) throw new Ended();
      },
      onclose() {
        throw new Error("come back");
      },
      onerror(error) {
        if (error instanceof Ended) throw error;
      },
    });
  } catch (error) {
    if (!(error instanceof Ended)) throw error;
  }
  return got;
}

/** Saccade's own client. */
export async function followOurs(Client, url, jobId, multiplex) {
  const client = new Client({ url, multiplex, silenceMs: 2000 });
  const got = [];
  for await (const event of client.events({ jobId })) {
    told(got, event.cursor, event.type, JSON.stringify(event.envelope));
  }
  client.close();
  return got;
}

/** Follow several jobs with one client, one reader each. */
export async function followMany(Client, url, jobIds, multiplex) {
  const client = new Client({ url, multiplex, silenceMs: 2000 });
  const all = await Promise.all(
    jobIds.map(async (jobId) => {
      const got = [];
      for await (const event of client.events({ jobId })) {
        if (event.subject !== jobId) throw new Error(`${jobId} was told of ${event.subject}`);
        told(got, event.cursor, event.type, JSON.stringify(event.envelope));
      }
      return got;
    }),
  );
  client.close();
  return all;
}

/** Run what a test asks for: `{name: [client, ...arguments]}` to `{name: result}`. */
export async function followAll(clients, wanted) {
  const pairs = Object.entries(wanted).map(async ([name, [client, ...given]]) => {
    try {
      return [name, await clients[client](...given)];
    } catch (error) {
      throw new Error(`${name}: ${error?.stack ?? error}`);
    }
  });
  return Object.fromEntries(await Promise.all(pairs));
}
