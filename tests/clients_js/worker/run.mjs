// Runs a Worker in workerd until standard input ends: run.mjs <folder with node_modules> <script> <bindings as JSON>.
// Writes {"url"} once it listens; the Worker's log goes to standard error.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, script, bindings] = process.argv.slice(2);
const { Log, LogLevel, Miniflare } = createRequire(`${folder}/package.json`)("miniflare");
const date = readFileSync(new URL("wrangler.toml", `file://${script}`), "utf8").match(/compatibility_date = "(.*)"/)[1];
const miniflare = new Miniflare({
  modules: true,
  scriptPath: script,
  compatibilityDate: date,
  bindings: JSON.parse(bindings),
  host: "127.0.0.1",
  port: 0,
  log: new Log(LogLevel.ERROR),
  handleRuntimeStdio: (out, err) => {
    out.pipe(process.stderr);
    err.pipe(process.stderr);
  },
});
console.log(JSON.stringify({ url: String(await miniflare.ready) }));
for await (const _ of process.stdin) {
  // Until the end.
}
await miniflare.dispose();
