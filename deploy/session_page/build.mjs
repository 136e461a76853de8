// Build of modal_workers/gaussians/viewer/splat_viewer.js: Spark and three.js as one self-contained ES module.
import { readFile, writeFile } from "node:fs/promises";
import { gunzipSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const INLINED = /const WASM = decode64\("([A-Za-z0-9+/=]+)"\)\.buffer;/;

// Spark embeds 1.7 MB of WebAssembly as text; compressed it is a third. Every browser with WebGL2 and modules can
// decompress it.
const compressed = {
  name: "compressed-wasm",
  setup(building) {
    building.onLoad({ filter: /spark\.module\.js$/ }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      const found = source.match(INLINED);
      if (!found) throw new Error("this version of Spark embeds its WebAssembly differently: adapt build.mjs");
      const wasm = Buffer.from(found[1], "base64");
      const small = gzipSync(wasm, { level: 9 });
      if (!gunzipSync(small).equals(wasm)) throw new Error("the compressed WebAssembly differs from the original");
      const inflate =
        "const WASM = await new Response(new Blob([" + `decode64("${small.toString("base64")}")` +
        ']).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();';
      return { contents: source.replace(INLINED, () => inflate), loader: "js" };
    });
  },
};

const licences = await Promise.all(
  ["@sparkjsdev/spark", "three", "fflate"].map(async (name) => {
    const folder = new URL(`node_modules/${name}/`, import.meta.url);
    const { version } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
    return `${name} ${version}\n\n${(await readFile(new URL("LICENSE", folder), "utf8")).trim()}\n`;
  }),
);
await build({
  entryPoints: [new URL("entry.js", import.meta.url).pathname],
  outfile: new URL("../../modal_workers/gaussians/viewer/splat_viewer.js", import.meta.url).pathname,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  banner: { js: "/* Spark, three.js and fflate, under the MIT licence: see LICENSES.txt beside this file. */" },
  plugins: [compressed],
  logLevel: "info",
});
await writeFile(new URL("../../modal_workers/gaussians/viewer/LICENSES.txt", import.meta.url), licences.join(`\n${"-".repeat(80)}\n\n`));
