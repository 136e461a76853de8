// Which workload files are for, from the declarations of GET /v1/workloads alone: kinds, numbers and alternatives of the
// inputs. Where more than one fits, or none for certain, it says so instead of choosing.

const VIDEO_TYPES = {
  mp4: "video/mp4", m4v: "video/x-m4v", mov: "video/quicktime", webm: "video/webm", mkv: "video/x-matroska", avi: "video/x-msvideo",
  mpg: "video/mpeg", mpeg: "video/mpeg", mts: "video/mp2t", m2ts: "video/mp2t", ts: "video/mp2t", "3gp": "video/3gpp", wmv: "video/x-ms-wmv",
};
const TYPES = {
  ...VIDEO_TYPES,
  jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", tif: "image/tiff", tiff: "image/tiff", bmp: "image/bmp",
  gif: "image/gif", heic: "image/heic", heif: "image/heif", avif: "image/avif", zip: "application/zip",
};
const ZIP_TYPES = new Set(["application/zip", "application/x-zip-compressed", "application/x-zip"]);
/** Limit of an upload (contracts/limits.py, UPLOAD_BYTES). */
const UPLOAD_BYTES = 20 * 1024 ** 3;
/** An input that takes many files is made for several; its declaration does not say from how many on. */
const SEVERAL = 3;

/** Return what a file is, {media, type}, or why it cannot be an input, {reason, type}. */
export function judge({ name, type = "", size }) {
  const extension = /\.([^./\\]+)$/.exec(name)?.[1].toLowerCase() ?? "";
  const found = (type.split(";")[0].trim().toLowerCase() || TYPES[extension]) ?? "";
  const media = ZIP_TYPES.has(found) ? "archive" : /^(video|image)\/[a-z0-9][a-z0-9.+-]{0,99}$/.exec(found)?.[1];
  if (!media) return { reason: "kind", type: found || extension };
  // A drawing has no pixels: the server's decoder refuses it.
  if (found === "image/svg+xml") return { reason: "drawing", type: found };
  if (size === 0) return { reason: "empty", type: found };
  if (size > UPLOAD_BYTES) return { reason: "large", type: found };
  return { media, type: found };
}

/**
 * Return {chosen, question, candidates, unsuitable}.
 *
 * `files` are {name, size, type, use}; `use` is the input that somebody has chosen for the file, or "" for none.
 * `chosen` is the name of the only workload that fits; without one, `question` is "none" (no files), "several" (more
 * than one fits), "unclear" (none fits as it is) or "nothing" (none takes any of the files). `candidates` are
 * {workload, state, inputs, unused, missing}, the best first: `state` is "fits"; "few" (an input for many files has one
 * or two); "left" (files are left over); "short" (files are missing); or "no". `inputs` and `unused` hold positions in
 * `files`; `missing` are {alternatives: [input …], count}. `unsuitable` are {index, reason, type}.
 */
export function choose(workloads, files) {
  const judged = files.map(judge);
  const unsuitable = judged.flatMap((one, index) => (one.media ? [] : [{ index, ...one }]));
  const candidates = workloads
    .filter((workload) => workload.kind !== "session")
    .map((workload) => candidateOf(workload, files, judged))
    .sort((one, other) => rank(one) - rank(other) || one.unused.length - other.unused.length);
  const fitting = candidates.filter((one) => one.state === "fits");
  const usable = files.length - unsuitable.length;
  let question = null;
  if (usable === 0) question = files.length ? "nothing" : "none";
  else if (fitting.length > 1) question = "several";
  else if (fitting.length === 0) question = candidates.some((one) => one.state !== "no") ? "unclear" : "nothing";
  return { chosen: question === null ? fitting[0].workload.name : null, question, candidates, unsuitable };
}

const STATES = ["fits", "few", "left", "short", "no"];
const rank = ({ state, workload }) => 2 * STATES.indexOf(state) + (workload.available ? 0 : 1);

function candidateOf(workload, files, judged) {
  const found = combinations(workload.one_of).map((active) => distribute(workload, active, files, judged));
  const worst = ({ missing, unused }) => missing.reduce((sum, { count }) => sum + count, 0) * 1000 + unused.length;
  const best = found.reduce((one, other) => (worst(other) < worst(one) ? other : one));
  return { workload, ...best, state: stateOf(workload, best, judged) };
}

function stateOf(workload, { inputs, unused, missing }, judged) {
  const placed = Object.values(inputs).reduce((sum, list) => sum + list.length, 0);
  if (placed === 0) return "no";
  if (missing.length) return "short";
  if (unused.some((index) => judged[index].media)) return "left";
  const few = workload.inputs.some(({ name, minimum, maximum }) => {
    const count = inputs[name].length;
    const isAlternative = workload.one_of.some((names) => names.includes(name));
    return (minimum > 0 || isAlternative) && minimum < count && count < Math.min(SEVERAL, maximum);
  });
  return few ? "few" : "fits";
}

/** Return each choice of one alternative from each set, as a set of the inputs that are left out. */
function combinations(oneOf) {
  let found = [[]];
  for (const names of oneOf) found = found.flatMap((others) => names.map((name) => [...others, { name, names }]));
  return found;
}

function distribute(workload, active, files, judged) {
  const closed = new Set(active.flatMap(({ name, names }) => names.filter((other) => other !== name)));
  const wanted = new Set(active.map(({ name }) => name));
  const open = workload.inputs.filter(({ name }) => !closed.has(name));
  const names = new Set(workload.inputs.map(({ name }) => name));
  const inputs = Object.fromEntries(workload.inputs.map(({ name }) => [name, []]));
  const free = new Set(judged.flatMap((one, index) => (one.media ? [index] : [])));
  const place = (input, index) => {
    if (!free.has(index) || judged[index].media !== input.media || inputs[input.name].length >= input.maximum) return;
    inputs[input.name].push(index);
    free.delete(index);
  };
  const isRequired = ({ name, minimum }) => minimum > 0 || wanted.has(name);
  const kept = new Set(files.flatMap((file, index) => (file.use === "" ? [index] : [])));
  for (const index of kept) free.delete(index);
  // What somebody has chosen, then what file names say, then the order of the files.
  for (const input of open) files.forEach((file, index) => file.use === input.name && place(input, index));
  const fixed = (index) => names.has(files[index].use);
  for (const input of open) {
    const named = [...free].filter((index) => !fixed(index) && says(files[index].name, input.name));
    const others = [...free].filter((index) => !named.includes(index) && judged[index].media === input.media);
    if (isRequired(input) ? input.maximum === 1 && named.length === 1 : others.length > 0) for (const index of named) place(input, index);
  }
  const fill = (chosen, limit) => {
    for (const input of chosen)
      for (const index of [...free]) if (!fixed(index) && inputs[input.name].length < limit(input)) place(input, index);
  };
  fill(open.filter(isRequired), (input) => Math.max(1, input.minimum));
  fill(open.filter(isRequired), (input) => input.maximum);
  const served = new Set(open.filter((input) => isRequired(input)).map(({ media }) => media));
  fill(open.filter((input) => !isRequired(input) && !served.has(input.media)), (input) => input.maximum);
  for (const list of Object.values(inputs)) list.sort((one, other) => one - other);
  const missing = open
    .filter((input) => input.minimum > inputs[input.name].length)
    .map((input) => ({ alternatives: [input], count: input.minimum - inputs[input.name].length }));
  for (const { name, names: set } of active)
    if (inputs[name].length === 0)
      missing.push({ alternatives: set.map((other) => workload.inputs.find((input) => input.name === other)), count: 1 });
  return { inputs, unused: [...free, ...kept].sort((one, other) => one - other), missing };
}

/** Return whether a file's name or folder has the name of an input as a word: masks/001.png, lap_reference.mp4. */
function says(path, input) {
  const words = path.toLowerCase().split(/[^a-z]+/);
  return words.includes(input) || words.includes(input.replace(/s$/, ""));
}
