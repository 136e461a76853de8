// The job that somebody wants: submitted as soon as its files are uploaded, whichever page is shown by then.
import { effect } from "../../../vendor/preact.js";
import { call } from "../../../api.js";
import { pageOf } from "../../../page_table.js";
import { go, href, route } from "../../../router.js";
import { files, wanted } from "../file_list.js";
import { removeFile } from "./files.js";
import { bodyOf as optionsOf } from "./more_options.js";

/** The same request sent again, after an answer that was lost, is the same job. */
let sent = { content: "", key: "" };

/** Want a job, {name, title, workload, used, params, options}, in place of the one that was wanted before. */
export function want(job) {
  if (wanted.value?.state !== "sending") wanted.value = { ...job, state: "waiting" };
}

/** No longer want the job that waits for its uploads. */
export function giveUp() {
  if (wanted.value?.state === "waiting") wanted.value = null;
}

/** Return the body of a request for a job, with the uploads that are known so far. */
export function bodyOf({ workload, used, params, options }) {
  const inputs = {};
  for (const { name, key } of used) {
    const { upload } = files.value.find((item) => item.key === key) ?? {};
    if (!upload) continue;
    // An input for many files gets a list.
    const many = workload.inputs.find((input) => input.name === name).maximum > 1;
    if (many) (inputs[name] ??= []).push(upload.id);
    else inputs[name] = upload.id;
  }
  return { workload: workload.name, inputs, params, ...optionsOf(options).body };
}

effect(() => {
  const job = wanted.value;
  if (job?.state !== "waiting") return;
  const items = job.used.map(({ key }) => files.value.find((item) => item.key === key));
  // Without one of its files it is another job.
  if (items.some((item) => !item)) wanted.value = null;
  else if (items.every(({ upload }) => upload)) submit(job);
});

async function submit(job) {
  const body = bodyOf(job);
  const content = JSON.stringify(body);
  if (sent.content !== content) sent = { content, key: `console-${crypto.getRandomValues(new Uint32Array(4)).join("-")}` };
  wanted.value = { ...job, state: "sending" };
  try {
    const { id } = await call("POST", "/v1/jobs", { body, idempotencyKey: sent.key });
    sent = { content: "", key: "" };
    const isHere = pageOf(route.value.path) === "start";
    wanted.value = isHere ? null : { ...job, state: "done", id };
    for (const { key } of job.used) removeFile(key);
    if (isHere) go(href("jobs", id));
  } catch (error) {
    wanted.value = { ...job, state: "failed", error, content };
  }
}

// A closed tab would neither upload the files nor submit the job: the browser asks.
const keep = (event) => event.preventDefault();
effect(() => {
  const isOpen = ["waiting", "sending"].includes(wanted.value?.state) || files.value.some(({ phase }) => phase.value.name === "sending");
  (isOpen ? addEventListener : removeEventListener)("beforeunload", keep);
});
