// Renders the AsyncAPI document: events by noun, commands, schemas; each entry is filled when it is first opened.
import { example, limits, nameOf, parts, resolved, typeOf } from "./schema.js";

const byId = id => document.getElementById(id);
/** Entries in the order of the page: `{ id, group, name, kind, says, words, fill, element, link }`. */
const entries = [];

function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

/** Return text whose parts in back quotes are code. */
function prose(text) {
  const pieces = (text ?? "").split(/`{1,2}([^`]+)`{1,2}/);
  return pieces.map((piece, i) => (i % 2 ? node("code", { textContent: piece }) : piece));
}

const plain = text => (text ?? "").split(/\n\s*\n/)[0].replace(/\s+/g, " ").trim();

function fieldTable(api, schema) {
  const body = node("tbody");
  const required = new Set(schema.required ?? []);
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const says = field.description && node("div", {}, ...prose(field.description));
    const notes = limits(field);
    const inside = [...new Set(parts(field))].filter(part => resolved(api, { $ref: `#/components/schemas/${part}` }).properties);
    body.append(node("tr", {},
      node("th", { scope: "row" }, node("code", { textContent: name }), required.has(name) ? null : node("em", { textContent: "optional" })),
      node("td", {}, node("code", { textContent: typeOf(field) })),
      node("td", {}, says, notes.length ? node("div", { className: "note", textContent: notes.join(", ") }) : null,
        ...inside.map(part => folded(api, part)))));
  }
  return node("table", { className: "fields" }, body);
}

/** Return the fields of a schema, folded, made when they are first asked for: schemas can contain themselves. */
function folded(api, name) {
  const details = node("details", { className: "more" }, node("summary", { textContent: `Fields of ${name}` }));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(fieldTable(api, api.components.schemas[name]));
  });
  return details;
}

function exampleOf(value) {
  const text = JSON.stringify(value, null, 2);
  const copy = node("button", { className: "copy", type: "button", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(copy.nextElementSibling); // without https there is no clipboard
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  });
  return node("div", { className: "example" }, copy, node("pre", { tabIndex: 0, textContent: text }));
}

function facts(pairs) {
  return node("dl", {}, ...pairs.filter(([, value]) => value?.length).flatMap(([name, value]) => [
    node("dt", { textContent: name }), node("dd", {}, ...value)]));
}

const days = seconds => (seconds % 86400 ? `${seconds / 3600} hours` : `${seconds / 86400} days`);

function storage(stream) {
  const kept = stream.max_age_s ? ` for ${days(stream.max_age_s)}` : "";
  return [`stream `, node("code", { textContent: stream.name }), `${kept}; live copies at `, node("code", { textContent: stream.live_copies })];
}

/** Return the id that an event of this type is about: a prefix of its noun and a UUID; a budget is its tenant's. */
function subjectOf(name, payload) {
  const noun = name.split(".")[0];
  const prefix = { webhook: "whk", group: "grp" }[noun] ?? noun.slice(0, 3);
  return noun === "budget" ? payload.tenant : `${prefix}_${payload.id.slice(4)}`;
}

function fillEvent(api, name, channel, operations, inside) {
  const [message] = Object.values(channel.messages).map(one => resolved(api, one));
  const schemas = message.payload.allOf ?? [message.payload];
  const data = schemas.map(one => one.properties?.data).find(Boolean);
  const envelope = schemas.find(one => one.$ref);
  const process = (id, verb) => id.slice(0, -(name.length + verb.length + 2));
  const who = verb => Object.keys(operations).filter(id => id.endsWith(`.${verb}.${name}`)).map(id => process(id, verb));
  const reactions = Object.entries(operations).filter(([, one]) => one["x-consumer"]);
  inside.append(facts([
    ["Subject", [node("code", { textContent: channel.address })]],
    ["Stored in", channel["x-stream"] ? storage(channel["x-stream"]) : []],
    ["Published by", [who("send").join(", ")].filter(Boolean)],
    ["Received by", [who("receive").join(", ")].filter(Boolean)],
    ["Reactions", reactions.flatMap(([id, one], i) => [
      i ? ", " : "", `${process(id, "react")}, consumer `, node("code", { textContent: one["x-consumer"] })])],
  ]));
  const schema = data ? resolved(api, data) : resolved(api, message.payload);
  inside.append(node("h3", { textContent: Object.keys(schema.properties ?? {}).length ? "Fields of data" : "data has no fields" }));
  inside.append(fieldTable(api, schema));
  if (envelope) inside.append(folded(api, nameOf(envelope)));
  const payload = example(api, message.payload);
  if (payload.specversion) Object.assign(payload, { subject: subjectOf(name, payload), type: name, data: example(api, schema) });
  inside.append(node("h3", { textContent: "Example, made from the schema" }), exampleOf(payload));
}

function fillCommand(api, channel, operation, inside) {
  const [asked] = Object.values(channel.messages).map(one => resolved(api, one));
  inside.append(facts([["Subject", [node("code", { textContent: channel.address })]],
    ["Answered by", [Object.keys(operation)[0].split(".")[0]]]]));
  inside.append(node("h3", { textContent: "Request" }), fieldTable(api, resolved(api, asked.payload)),
    node("h3", { textContent: "Example, made from the schema" }), exampleOf(example(api, asked.payload)));
  const reply = Object.values(operation)[0].reply;
  for (const answer of (reply?.messages ?? []).map(one => resolved(api, one))) {
    const schema = resolved(api, answer.payload);
    inside.append(node("h3", {}, `Answer: ${nameOf(answer.payload) ?? answer.name}. `, ...prose(plain(schema.description))), fieldTable(api, schema));
  }
}

function fillSchema(api, name, schema, inside) {
  const more = (schema.description ?? "").split(/\n\s*\n/).slice(1);
  inside.append(...more.map(text => node("p", { className: "note" }, ...prose(text))));
  const values = schema.properties ? fieldTable(api, schema) : node("p", {}, node("code", { textContent: typeOf(schema) }));
  inside.append(values, node("h3", { textContent: "Example, made from the schema" }), exampleOf(example(api, schema)));
}

/** Return the words that a search looks through. */
function words(api, ...texts) {
  const found = texts.filter(Boolean);
  for (const schema of found.filter(one => typeof one === "object")) {
    for (const [name, field] of Object.entries(schema.properties ?? {})) found.push(name, typeOf(field), field.description ?? "");
  }
  return found.filter(one => typeof one === "string").join(" ").toLowerCase();
}

const heading = noun => `${noun[0].toUpperCase()}${noun.slice(1)}s`;

function collect(api) {
  const operations = {};
  for (const [id, operation] of Object.entries(api.operations)) {
    const channel = decodeURIComponent(operation.channel.$ref).split("/").pop();
    (operations[channel] ??= {})[id] = operation;
  }
  const commands = [];
  for (const [name, channel] of Object.entries(api.channels)) {
    const own = operations[name] ?? {};
    if (!channel.address) continue; // where an answer goes
    const message = resolved(api, Object.values(channel.messages)[0]);
    const says = plain(channel.summary ?? channel.description ?? message.summary);
    if (Object.values(own).some(one => one.reply)) {
      commands.push({ id: name, group: "Commands", name, kind: "command", says,
        words: words(api, name, channel.address, says, resolved(api, message.payload)),
        fill: inside => fillCommand(api, channel, own, inside) });
      continue;
    }
    const data = (message.payload.allOf ?? []).map(one => one.properties?.data).find(Boolean);
    const stream = channel["x-stream"] ?? {};
    const kind = stream.durable === false ? "advisory" : channel.address.includes(".dlv.") ? "record" : "durable";
    entries.push({ id: name, group: heading(name.split(".")[0]), name, kind, says,
      words: words(api, name, channel.address, says, data && resolved(api, data)),
      fill: inside => fillEvent(api, name, channel, own, inside) });
  }
  entries.push(...commands);
  const used = new Set(Object.keys(api.channels));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    if (used.has(name)) continue;
    entries.push({ id: `schema-${name}`, group: "Schemas", name, kind: "schema", says: plain(schema.description),
      words: words(api, name, schema.description, schema), fill: inside => fillSchema(api, name, schema, inside) });
  }
}

function draw(entry) {
  const inside = node("div", { className: "inside" });
  entry.element = node("details", { className: "entry", id: entry.id },
    node("summary", {}, node("span", { className: "name", textContent: entry.name }),
      node("span", { className: "says" }, ...prose(entry.says)), node("span", { className: `kind ${entry.kind}`, textContent: entry.kind })),
    inside);
  entry.element.addEventListener("toggle", () => {
    if (!entry.element.open) return;
    if (!inside.childElementCount) entry.fill(inside);
    history.replaceState(null, "", `#${entry.id}`);
    mark();
  });
  entry.link = node("a", { href: `#${entry.id}`, className: "name", textContent: entry.name });
  return entry.element;
}

/** Return the id that the address names; of one that is not well-formed, its text. */
function namedId() {
  const text = location.hash.slice(1);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function mark() {
  const id = namedId();
  for (const entry of entries) entry.link.toggleAttribute("aria-current", entry.id === id);
}

/** Open the entry that the address names. */
function follow() {
  const entry = entries.find(one => one.id === namedId());
  if (!entry) return;
  if (entry.element.hidden) { byId("search").value = ""; search(); }
  entry.element.open = true;
  entry.element.scrollIntoView();
  mark();
}

function search() {
  const wanted = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const entry of entries) {
    const fits = wanted.every(word => entry.words.includes(word));
    entry.element.hidden = entry.link.hidden = !fits;
    count += fits;
  }
  for (const part of document.querySelectorAll(".group")) part.hidden = !part.querySelector(".entry:not([hidden]), a:not([hidden])");
  byId("found").textContent = wanted.length ? (count ? `${count} of ${entries.length}` : "Nothing contains all of these words.") : "";
}

async function show() {
  let api;
  try {
    const answer = await fetch(new URL("../../../asyncapi.json", import.meta.url));
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    api = await answer.json();
  } catch (error) {
    byId("missing").textContent = `/asyncapi.json did not answer (${error.message}). Reload the page later.`;
    byId("missing").hidden = false;
    return;
  }
  document.title = byId("title").textContent = api.info.title;
  byId("introduction").append(...prose(api.info.description));
  collect(api);
  for (const group of new Set(entries.map(entry => entry.group))) {
    const own = entries.filter(entry => entry.group === group);
    byId("entries").append(node("section", { className: "group" }, node("h2", { textContent: group }), ...own.map(draw)));
    byId("index").append(node("div", { className: "group" }, node("h2", { textContent: group }), ...own.map(entry => entry.link)));
  }
  byId("search").addEventListener("input", search);
  addEventListener("hashchange", follow);
  addEventListener("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea")) return;
    event.preventDefault();
    byId("search").focus();
  });
  follow();
}

show();
