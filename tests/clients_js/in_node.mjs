// Usage: node in_node.mjs <folder with node_modules> <url of saccade.js> <what to run, as JSON>; writes JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { followAll, followEventSource, followMany, followOurs } from "./follow.js";
import { uses } from "./use.js";

const [packages, module, wanted] = process.argv.slice(2);
const saccade = await import(module);
const { Client } = saccade;
const clients = {
  ...uses(saccade),
  async npm(...given) {
    const place = createRequire(`${packages}/x.js`).resolve("eventsource");
    const { EventSource } = await import(pathToFileURL(place).href);
    return followEventSource(EventSource, ...given);
  },
  ours: (...given) => followOurs(Client, ...given),
  many: (...given) => followMany(Client, ...given),
};
process.stdout.write(JSON.stringify(await followAll(clients, JSON.parse(wanted))));
