// Who publishes and who receives each type of event, from the reference of the server.
import { addressOf } from "../../api.js";

/** Read the reference: a map from a type to {summary, said, heard, durable}. */
export async function readReference(signal) {
  const response = await fetch(addressOf("/asyncapi.json"), { signal });
  if (!response.ok) throw new Error(`asyncapi.json: ${response.status}`);
  return referenceOf(await response.json());
}

/** Return a map from a type to {summary, said, heard, durable} for an AsyncAPI 3 document. */
export function referenceOf({ channels, operations }) {
  const found = new Map();
  for (const [type, channel] of Object.entries(channels)) {
    // Records and commands of the services are in the reference too, but no stream of events has them.
    if (!/^saccade\.(evt|prog)\./.test(channel.address)) continue;
    found.set(type, { summary: channel.summary, durable: channel["x-stream"]?.durable ?? false, said: [], heard: [] });
  }
  for (const [name, operation] of Object.entries(operations)) {
    const entry = found.get(operation.channel.$ref.split("/").at(-1));
    const service = name.split(".")[0];
    if (entry) (operation.action === "send" ? entry.said : entry.heard).push(service);
  }
  return found;
}
