// Build of services/gateway/console/vendor: Preact with signals and htm, uPlot, and the JavaScript client.
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const target = new URL("../../services/gateway/console/vendor/", import.meta.url);
const options = { bundle: true, minify: true, format: "esm", target: "es2022", charset: "utf8", legalComments: "none", logLevel: "info" };
await build({
  ...options,
  entryPoints: [new URL("entry.js", import.meta.url).pathname],
  outfile: new URL("preact.js", target).pathname,
  banner: { js: "/* Preact and its signals (MIT), htm (Apache-2.0): see LICENSES.txt beside this file. */" },
});
await build({
  ...options,
  stdin: { contents: 'export { default } from "uplot";', resolveDir: new URL(".", import.meta.url).pathname },
  outfile: new URL("uplot.js", target).pathname,
  banner: { js: "/* uPlot (MIT): see LICENSES.txt beside this file. */" },
});
await copyFile(new URL("node_modules/uplot/dist/uPlot.min.css", import.meta.url), new URL("uplot.css", target));
await copyFile(new URL("../../clients/js/saccade.js", import.meta.url), new URL("saccade.js", target));

const licences = await Promise.all(
  ["preact", "@preact/signals", "@preact/signals-core", "htm", "uplot"].map(async (name) => {
    const folder = new URL(`node_modules/${name}/`, import.meta.url);
    const { version } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
    return `${name} ${version}\n\n${(await readFile(new URL("LICENSE", folder), "utf8")).trim()}\n`;
  }),
);
await writeFile(new URL("LICENSES.txt", target), licences.join(`\n${"-".repeat(80)}\n\n`));
