// Form of a JSON Schema: the fields that it describes, and the way from values to what is entered and back.
//
// What a reader has not touched is left out, so that the server's defaults hold. A construct that is not known here is
// one field with JSON in it; the server judges the values.

const NOTES = ["title", "description", "default", "examples", "deprecated"];
const NUMBERS = ["type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const TEXTS = ["type", "minLength", "maxLength", "pattern", "format"];
const DEEPEST = 6;

/** Return the fields of an object's schema. */
export function fieldsOf(schema) {
  return propertiesOf(schema, schema, 0);
}

function propertiesOf(schema, root, depth) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, property]) => ({
    name,
    required: required.has(name),
    ...fieldOf(property, root, depth),
  }));
}

/** Return a field without its name: {kind, hint, default, …}. */
function fieldOf(given, root, depth) {
  const schema = resolved(given, root);
  const kind = kindOf(schema, root, depth);
  const notes = { hint: schema.description ?? "", title: schema.title ?? "" };
  if ("default" in schema) notes.default = schema.default;
  return { ...notes, ...kind };
}

function resolved(schema, root) {
  if (typeof schema.$ref !== "string" || !schema.$ref.startsWith("#/")) return schema;
  const { $ref, ...notes } = schema;
  const target = $ref.slice(2).split("/").reduce((found, part) => found?.[part.replaceAll("~1", "/").replaceAll("~0", "~")], root);
  return { ...(target ?? {}), ...notes };
}

const only = (schema, names) => Object.keys(schema).every((name) => names.includes(name) || NOTES.includes(name));

function kindOf(schema, root, depth) {
  const json = { kind: "json" };
  if (depth > DEEPEST) return json;
  if ("const" in schema && only(schema, ["const", "type"])) return { kind: "choice", options: [schema.const] };
  // A limit of the length beside the values, which are known, says nothing more.
  if (schema.enum && only(schema, ["enum", ...TEXTS])) return { kind: "choice", options: schema.enum };
  if (schema.anyOf && only(schema, ["anyOf"])) return eitherOf(schema.anyOf, root, depth);
  if (schema.type === "null" && only(schema, ["type"])) return { kind: "null" };
  if (schema.type === "boolean" && only(schema, ["type"])) return { kind: "truth" };
  if (["integer", "number"].includes(schema.type) && only(schema, NUMBERS)) return { kind: schema.type, ...limits(schema, NUMBERS) };
  if (schema.type === "string" && only(schema, TEXTS)) return { kind: "text", ...limits(schema, TEXTS) };
  if (schema.type === "array" && only(schema, ["type", "items", "minItems", "maxItems"]) && schema.items) return listOf(schema, root, depth);
  if (schema.type !== "object") return json;
  const names = pointNames(schema);
  if (names) return { kind: "points", names, needed: schema.required ?? [] };
  if (isHint(schema)) return { kind: "hint" };
  if (schema.additionalProperties === false && schema.properties && only(schema, ["type", "properties", "required", "additionalProperties"]))
    return { kind: "group", fields: propertiesOf(schema, root, depth + 1) };
  return json;
}

const limits = (schema, names) =>
  Object.fromEntries(names.flatMap((name) => (name !== "type" && name in schema ? [[name, schema[name]]] : [])));

function eitherOf(branches, root, depth) {
  const fields = branches.map((branch) => fieldOf(branch, root, depth + 1));
  return fields.some(({ kind }) => kind === "json" && fields.length > 2) ? { kind: "json" } : { kind: "either", branches: fields };
}

function listOf(schema, root, depth) {
  const item = fieldOf(schema.items, root, depth + 1);
  const bounds = limits(schema, ["minItems", "maxItems"]);
  if (["integer", "number"].includes(item.kind) || (item.kind === "text" && !item.pattern)) return { kind: "lines", item, ...bounds };
  return item.kind === "group" ? { kind: "list", item, ...bounds } : { kind: "json" };
}

/** Return the names of points {name: [x, y]} that a schema describes; null if it describes something else. */
function pointNames({ propertyNames, additionalProperties: point }) {
  const isPair = point?.type === "array" && point.prefixItems?.length === 2 && point.prefixItems.every(({ type }) => type === "number");
  return isPair && Array.isArray(propertyNames?.enum) ? propertyNames.enum : null;
}

/** Return whether a schema describes a point or a box in one of the photos. */
function isHint({ properties = {} }) {
  return ["photo", "x", "y", "box"].every((name) => name in properties) && Object.keys(properties).length === 4;
}

/** Return what is entered for a value: an object that only `valueOf` reads; {json} where the field cannot show it. */
export function entryOf(field, value) {
  const entry = direct(field, value);
  if (entry !== undefined) {
    const back = valueOf(field, entry);
    if (!back.problem && same(back.value, value)) return entry;
  }
  return { json: JSON.stringify(value, null, 1) };
}

/** Return the entry, undefined if the value is of another kind than the field. */
function direct(field, value) {
  switch (field.kind) {
    case "null":
      return value === null ? {} : undefined;
    case "integer":
    case "number":
      return typeof value === "number" ? { text: String(value) } : undefined;
    case "text":
      return typeof value === "string" ? { text: value } : undefined;
    case "truth":
      return typeof value === "boolean" ? { truth: value } : undefined;
    case "choice": {
      const index = field.options.findIndex((option) => same(option, value));
      return index < 0 ? undefined : { index };
    }
    case "lines":
      return Array.isArray(value) ? { text: value.map(String).join("\n") } : undefined;
    case "list":
      return Array.isArray(value) ? { items: value.map((item) => entryOf(field.item, item)) } : undefined;
    case "group":
      return isObject(value) && Object.keys(value).every((name) => field.fields.some((inner) => inner.name === name))
        ? { entries: entriesOf(field.fields, value) }
        : undefined;
    case "either": {
      for (const [branch, inner] of field.branches.entries()) {
        const entry = direct(inner, value);
        if (entry === undefined) continue;
        const back = valueOf(inner, entry);
        if (!back.problem && same(back.value, value)) return { branch, entry };
      }
      return undefined;
    }
    case "points":
      return isObject(value) ? { json: JSON.stringify(value) } : undefined;
    default:
      return undefined;
  }
}

/** Return the entries of an object's values by name; what it does not have is left out. */
export function entriesOf(fields, values) {
  const named = fields.filter(({ name }) => Object.hasOwn(values, name));
  return Object.fromEntries(named.map((field) => [field.name, entryOf(field, values[field.name])]));
}

/** Return {value} of an entry, or {problem: [code, limit]}. */
export function valueOf(field, entry) {
  if ("json" in entry) return field.kind === "points" ? pointsOf(field, entry.json) : parsed(entry.json);
  switch (field.kind) {
    case "null":
      return { value: null };
    case "integer":
    case "number":
      return numberOf(field, entry.text);
    case "text":
      return textOf(field, entry.text);
    case "truth":
      return { value: entry.truth };
    case "choice":
      return { value: field.options[entry.index] };
    case "either":
      return valueOf(field.branches[entry.branch], entry.entry);
    case "lines":
      return linesOf(field, entry.text);
    case "list": {
      const { values, problem } = all(entry.items.map((item) => valueOf(field.item, item)));
      return problem ? { problem } : counted(field, values);
    }
    case "group": {
      const { params, problems } = paramsOf(field.fields, entry.entries);
      const first = Object.values(problems)[0];
      return first ? { problem: first, problems } : { value: params };
    }
    default:
      return { problem: ["json"] };
  }
}

/** Return {params, problems} of entries: values by name, and [code, limit] by name where an entry has none. */
export function paramsOf(fields, entries) {
  const params = {};
  const problems = {};
  for (const field of fields) {
    const entry = entries[field.name];
    if (entry === undefined) {
      if (field.required) problems[field.name] = ["required"];
      continue;
    }
    const { value, problem } = valueOf(field, entry);
    if (problem) problems[field.name] = problem;
    else params[field.name] = value;
  }
  return { params, problems };
}

function parsed(text) {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { problem: ["json"] };
  }
}

function pointsOf({ needed }, text) {
  const { value, problem } = parsed(text);
  if (problem) return { problem };
  return needed.every((name) => Object.hasOwn(value, name)) ? { value } : { problem: ["points", needed.length] };
}

function numberOf(field, text) {
  // A comma is how most of Europe writes the decimal point.
  const plain = text.trim().replace(/^([^.,]*),([^.,]*)$/, "$1.$2");
  const value = Number(plain);
  if (plain === "" || !Number.isFinite(value)) return { problem: ["number"] };
  if (field.kind === "integer" && !Number.isInteger(value)) return { problem: ["integer"] };
  if (value < field.minimum) return { problem: ["minimum", field.minimum] };
  if (value > field.maximum) return { problem: ["maximum", field.maximum] };
  if (value <= field.exclusiveMinimum) return { problem: ["above", field.exclusiveMinimum] };
  if (value >= field.exclusiveMaximum) return { problem: ["below", field.exclusiveMaximum] };
  return { value };
}

function textOf(field, text) {
  // JSON Schema counts characters, not UTF-16 units.
  const length = [...text].length;
  if (length < field.minLength) return { problem: ["shorter", field.minLength] };
  if (length > field.maxLength) return { problem: ["longer", field.maxLength] };
  if (field.pattern && !matches(field.pattern, text)) return { problem: ["pattern", field.pattern] };
  return { value: text };
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    // A pattern of another dialect: the server judges.
    return true;
  }
}

function linesOf(field, text) {
  const isText = field.item.kind === "text";
  const words = text === "" ? [] : isText ? text.split("\n") : text.split(/[\s;,]+/).filter(Boolean);
  const { values, problem } = all(words.map((word) => valueOf(field.item, { text: word })));
  return problem ? { problem } : counted(field, values);
}

function counted(field, value) {
  if (value.length < field.minItems) return { problem: ["fewer", field.minItems] };
  if (value.length > field.maxItems) return { problem: ["more", field.maxItems] };
  return { value };
}

function all(results) {
  const problem = results.find((result) => result.problem)?.problem;
  return problem ? { problem } : { values: results.map(({ value }) => value) };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Return whether two JSON values are equal. */
export function same(one, other) {
  if (Object.is(one, other) || (one === 0 && other === 0)) return true;
  if (Array.isArray(one)) return Array.isArray(other) && one.length === other.length && one.every((item, index) => same(item, other[index]));
  if (!isObject(one) || !isObject(other)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => Object.hasOwn(other, name) && same(one[name], other[name]));
}

const UNITS = ["px", "s", "m", "deg", "usd", "hz", "bytes", "hours", "rad", "k"];

/** Return a label for a person: "Overlay height, px" of overlay_height_px; a title that differs from the name stays. */
export function labelOf({ name, title }) {
  const words = name.split("_");
  const made = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join(" ");
  if (title && title !== made) return title;
  const unit = words.length > 1 && UNITS.includes(words.at(-1)) ? `, ${words.pop()}` : "";
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1) + unit;
}
