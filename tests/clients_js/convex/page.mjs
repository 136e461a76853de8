// Usage: node page.mjs <folder with node_modules> <base URL>. The page's Convex client: reads one command as JSON a line,
// writes one answer as JSON a line, and a line for each value of a query that it follows.
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const [packages, base] = process.argv.slice(2);
const load = createRequire(`${packages}/x.js`);
const { ConvexClient } = load("convex/browser");
const { makeFunctionReference } = load("convex/server");

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = new ConvexClient(base, { logger: false });

const commands = {
  follow: ({ name, args, as }) => {
    const told = (value) => say({ query: as, value });
    client.onUpdate(makeFunctionReference(name), args, told, (error) => say({ query: as, error: error.message }));
  },
  mutation: ({ name, args }) => client.mutation(makeFunctionReference(name), args),
  action: ({ name, args }) => client.action(makeFunctionReference(name), args),
  async upload({ url, path, type }) {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": type }, body: await readFile(path) });
    return { status: answer.status, body: await answer.json() };
  },
  connection: () => client.connectionState(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...given } = JSON.parse(line);
  Promise.resolve()
    .then(() => commands[command](given))
    .then((result) => say({ id, result: result ?? null }))
    .catch((error) => say({ id, error: error.message }));
}
await client.close();
process.exit(0);
