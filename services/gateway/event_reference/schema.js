// What a JSON Schema says of a value, in words; and a value that it admits.

/** Return what a reference of the document leads to. */
export function resolved(document, part) {
  while (part && part.$ref) {
    const path = decodeURIComponent(part.$ref).slice(2).split("/");
    part = path.reduce((at, name) => at && at[name.replaceAll("~1", "/").replaceAll("~0", "~")], document);
  }
  return part ?? {};
}

export const nameOf = schema => schema.$ref && decodeURIComponent(schema.$ref).split("/").pop();
const isNull = schema => schema.type === "null" || schema.const === null;
const choices = schema => (schema.anyOf ?? schema.oneOf ?? [schema]).filter(one => !isNull(one));

/** Return the type in words: `list of string`, `Cost or null`. */
export function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map(typeOf).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map(value => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return schema.items ? `list of ${typeOf(schema.items)}` : "list";
  if (schema.type === "object") {
    const inside = schema.additionalProperties;
    return inside && typeof inside === "object" ? `map to ${typeOf(inside)}` : "object";
  }
  if (schema.format === "date-time") return "time, RFC 3339";
  if (schema.format === "date") return "date";
  return Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type ?? "any value";
}

/** Return the names of the schemas inside: those whose fields are worth showing below a field. */
export function parts(schema) {
  if (schema.$ref) return [nameOf(schema)];
  const inside = [...(schema.anyOf ?? schema.oneOf ?? []), schema.items, schema.additionalProperties];
  return inside.filter(one => one && typeof one === "object").flatMap(parts);
}

const LIMITS = {
  minimum: "at least", exclusiveMinimum: "more than", maximum: "at most", exclusiveMaximum: "less than",
  minLength: "characters: at least", maxLength: "characters: at most", pattern: "matches",
  minItems: "items: at least", maxItems: "items: at most", maxProperties: "entries: at most",
};

/** Return default and limits as short texts. */
export function limits(schema) {
  const found = [];
  for (const one of choices(schema)) {
    for (const [key, words] of Object.entries(LIMITS)) if (key in one) found.push(`${words} ${one[key]}`);
  }
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`);
  return found;
}

const ID = "0198c0de-7d4a-7c3e-8f21-5a9b6c4d3e2f";
const TIME = "2026-01-31T12:00:00Z";
/** Texts for a field of this name, or else the first one that its pattern admits. */
const TEXTS = {
  id: `evt_${ID}`, tenant: "acme", source: "/saccade", run_id: `run_${ID}`, job_id: `job_${ID}`, upload_id: `upl_${ID}`,
  filename: "lap.mp4", url: "https://example.org/lap.mp4", webhook_url: "https://example.org/hook", content_type: "video/mp4",
  session_id: `ses_${ID}`, rule_id: `rul_${ID}`, group_id: `grp_${ID}`, endpoint_id: `whk_${ID}`, event_id: `evt_${ID}`,
  workload: "lap_compare", workload_version: "1", gpu: "A10", key: "name", manifest_key: "jobs/manifest.json", stage: "render",
  sha256: "0123456789abcdef".repeat(4), code: "worker_crashed", message: "A sentence about it.",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
};
const CANDIDATES = [
  "text", "lap_compare", "filename", "metadata.car", "0123456789abcdef".repeat(4), "lap.mp4",
  ...["job", "upl", "rul", "grp", "ses", "run", "evt", "whk", "req"].map(prefix => `${prefix}_${ID}`),
];

function text(schema, field) {
  if (schema.format === "date-time") return TIME;
  if (schema.format === "date") return TIME.slice(0, 10);
  if (schema.pattern) return CANDIDATES.find(one => new RegExp(schema.pattern, "u").test(one)) ?? "text";
  const least = schema.minLength ?? 0;
  const chosen = TEXTS[field] ?? "text";
  return chosen.length < least ? chosen.padEnd(least, "x") : chosen.slice(0, schema.maxLength ?? 200);
}

/** Return a value that the schema admits, as good as names and limits tell. */
export function example(document, schema, field = "", depth = 0) {
  if (schema.examples?.length) return schema.examples[0];
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (schema.$ref) return depth > 6 ? {} : example(document, resolved(document, schema), field, depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map(one => example(document, one, field, depth + 1)));
  if (schema.anyOf ?? schema.oneOf) {
    const [first] = choices(schema);
    return first && !(depth > 3 && schema.default === null) ? example(document, first, field, depth + 1) : null;
  }
  if (schema.type === "array") {
    const least = Math.max(schema.minItems ?? 0, schema.items && depth < 4 ? 1 : 0);
    return Array.from({ length: least }, () => example(document, schema.items ?? {}, field.replace(/s$/, ""), depth + 1));
  }
  if (schema.type === "object" || schema.properties) {
    const fields = Object.entries(schema.properties ?? {});
    const value = Object.fromEntries(fields.map(([name, one]) => [name, example(document, one, name, depth + 1)]));
    const inside = schema.additionalProperties;
    if (!fields.length && inside && typeof inside === "object") value.key = example(document, inside, "key", depth + 1);
    return value;
  }
  if (schema.type === "integer" || schema.type === "number") {
    if (schema.exclusiveMinimum !== undefined) return schema.exclusiveMinimum + Math.min(1, ((schema.maximum ?? Infinity) - schema.exclusiveMinimum) / 2);
    return schema.minimum ?? Math.min(1, schema.maximum ?? 1);
  }
  if (schema.type === "boolean") return true;
  if (schema.type === "string") return text(schema, field);
  return null;
}
