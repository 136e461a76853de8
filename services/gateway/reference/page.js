// Renders the OpenAPI documents of both services as one.
"use strict";

/** Public path of the server, with a slash at both ends: this file is `docs/files/<version>/page.js` there. */
const BASE = new URL("../../../", document.currentScript.src).pathname;
const DOCUMENTS = ["openapi.json", "v1/webhooks/openapi.json"].map(name => BASE + name);
/** Sections that few readers look for, last. */
const LAST = ["replaced", "service", "internal"];
const ABOUT = `HEAD is answered wherever GET is, another method with 405 and \`Allow\`. Requests and answers are JSON; errors are \`application/problem+json\` (schema *Problem*) with a stable
\`code\` and a \`hint\`. Live events are Server-Sent Events under \`/v1/jobs/{job_id}/events\` and \`/v1/events\`.

For machines: [OpenAPI](${BASE}openapi.json), [OpenAPI of streams and webhooks](${BASE}v1/webhooks/openapi.json),
[events as AsyncAPI](${BASE}asyncapi.json) ([page](${BASE}asyncapi)), [workloads with their parameters](${BASE}v1/workloads).`;

async function read(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

/** Return one document with the tags, routes and components of all; the first one that has something wins. */
function merged(documents) {
  const [whole, ...others] = documents;
  whole.info.description = [whole.info.summary && `${whole.info.summary}`, ABOUT].filter(Boolean).join("\n\n");
  delete whole.info.summary;
  whole.components ??= {};
  if (BASE !== "/") whole.servers = [{ url: BASE.slice(0, -1) }]; // for the requests that are sent from the page
  for (const other of others) {
    const known = new Set((whole.tags ?? []).map(tag => tag.name));
    whole.tags = [...(whole.tags ?? []), ...(other.tags ?? []).filter(tag => !known.has(tag.name))];
    for (const [path, methods] of Object.entries(other.paths)) whole.paths[path] = { ...methods, ...whole.paths[path] };
    for (const [kind, named] of Object.entries(other.components ?? {})) {
      whole.components[kind] = { ...named, ...whole.components[kind] };
    }
  }
  for (const methods of Object.values(whole.paths)) delete methods.head; // one line for each route is enough
  whole.tags.sort((a, b) => LAST.indexOf(a.name) - LAST.indexOf(b.name));
  return whole;
}

async function show() {
  const answers = await Promise.allSettled(DOCUMENTS.map(read));
  const missing = DOCUMENTS.filter((_, i) => answers[i].status === "rejected");
  if (missing.length) {
    const note = document.getElementById("missing");
    note.textContent = `Not the whole reference: ${missing.join(" and ")} did not answer. Reload the page later.`;
    note.hidden = false;
  }
  const documents = answers.filter(answer => answer.status === "fulfilled").map(answer => answer.value);
  if (!documents.length) {
    document.getElementById("reference").textContent = "";
    return;
  }
  SwaggerUIBundle({
    spec: merged(documents),
    dom_id: "#reference",
    deepLinking: true,
    docExpansion: "list",
    defaultModelRendering: "model",
    defaultModelExpandDepth: 2,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
  });
}

show();
