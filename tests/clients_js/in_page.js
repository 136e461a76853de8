// What a test calls in a page; the server of tests/harness/clients/chromium.py has the folders.
import { followAll, followEventSource, followFetchEventSource, followMany, followOurs } from "./follow.js";
import { uses } from "./use.js";

export async function run(wanted) {
  const saccade = await import("/clients/saccade.js");
  const { Client } = saccade;
  const clients = {
    ...uses(saccade),
    native: (...given) => followEventSource(EventSource, ...given),
    async microsoft(...given) {
      const { fetchEventSource } = await import("/packages/@microsoft/fetch-event-source/lib/esm/index.js");
      return followFetchEventSource(fetchEventSource, ...given);
    },
    ours: (...given) => followOurs(Client, ...given),
    many: (...given) => followMany(Client, ...given),
  };
  return followAll(clients, wanted);
}
