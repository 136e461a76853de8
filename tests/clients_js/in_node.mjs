// Usage: node in_node.mjs <folder with node_modules> <url of saccade.js> <what to run, as JSON>; writes JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { followAll, followEventSource, followMany, followOurs } from "./follow.js";
import { uses } from "./use.js";

const [packages, module, wanted] = process.argv.slice(2);
const saccade = await import(module);
const { Client } = saccade;
const packageFile = (name) => createRequire(`${packages}/x.js`).resolve(name);

/** What the parser of @microsoft/fetch-event-source makes of bytes: its calls, in order. */
async function microsoftParser() {
  const { default: parse } = await import(pathToFileURL(packageFile("@microsoft/fetch-event-source/lib/cjs/parse.js")));
  const calls = [];
  const onMessage = ({ id, event, data }) => calls.push(["message", event, data, id]);
  const parser = parse.getMessages((id) => calls.push(["id", id]), (ms) => calls.push(["retry", ms]), onMessage);
  return { calls, onChunk: parse.getLines(parser), getBytes: parse.getBytes };
}

const clients = {
  ...uses(saccade),
  async npm(...given) {
    const { EventSource } = await import(pathToFileURL(packageFile("eventsource")).href);
    return followEventSource(EventSource, ...given);
  },
  /** Read streams at once, opened one after the other: `[url, headers]` each, to the parser's calls. */
  async microsoftReads(streams) {
    const reading = [];
    for (const [url, headers] of streams) {
      const { body } = await fetch(url, { headers });
      const { calls, onChunk, getBytes } = await microsoftParser();
      reading.push(getBytes(body, onChunk).then(() => calls));
    }
    return Promise.all(reading);
  },
  /** Parse bytes (in base64) in one piece, byte by byte and cut at each position, to the distinct lists of calls. */
  async microsoftParses(base64) {
    const bytes = Buffer.from(base64, "base64");
    const cuttings = [[bytes], Array.from(bytes, (byte) => [byte])];
    for (let at = 1; at < bytes.length; at += 1) cuttings.push([bytes.subarray(0, at), bytes.subarray(at)]);
    const found = new Set();
    for (const pieces of cuttings) {
      const { calls, onChunk } = await microsoftParser();
      for (const piece of pieces) onChunk(Uint8Array.from(piece));
      found.add(JSON.stringify(calls));
    }
    return [...found].map((calls) => JSON.parse(calls));
  },
  ours: (...given) => followOurs(Client, ...given),
  many: (...given) => followMany(Client, ...given),
};
process.stdout.write(JSON.stringify(await followAll(clients, JSON.parse(wanted))));
