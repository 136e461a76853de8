// From the fields of the form to the body of a request, and back.

/** Return the fields of the form for an endpoint; for a new one without. */
export const fieldsOf = (endpoint) => ({
  url: endpoint?.url ?? "",
  description: endpoint?.description ?? "",
  types: (endpoint?.types ?? []).join(", "),
  format: endpoint?.format ?? "cloudevents",
  template: endpoint?.template ?? "",
  subject: endpoint?.subject ?? "",
  signing: endpoint?.signing ?? "v1",
  rate_per_s: endpoint?.rate_per_s == null ? "" : String(endpoint.rate_per_s),
  ordered: endpoint?.ordered ?? false,
  headers: "",
});

/** Return the body of a new endpoint: only what differs from what a new one has without it. */
export function bodyOf(fields) {
  return { url: fields.url.trim(), ...changesOf(null, { ...fields, url: "" }) };
}

/** Return what differs between an endpoint and the fields, as the body of a change. */
export function changesOf(endpoint, fields) {
  const before = valuesOf(fieldsOf(endpoint));
  const after = valuesOf(fields);
  return Object.fromEntries(Object.entries(after).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
}

function valuesOf(fields) {
  const headers = headersOf(fields.headers);
  return {
    url: fields.url.trim(),
    description: fields.description.trim(),
    types: fields.types.split(/[\s,]+/).filter(Boolean),
    format: fields.format,
    template: fields.format === "cloudevents" ? null : fields.template.trim() || null,
    subject: fields.format === "email" ? fields.subject.trim() || null : null,
    signing: fields.signing,
    rate_per_s: fields.rate_per_s.trim() ? Number(fields.rate_per_s) : null,
    ordered: fields.ordered,
    // Stored headers are not shown again: an empty field leaves them as they are.
    ...(Object.keys(headers).length ? { headers } : {}),
  };
}

/** Parse lines of "Name: value". */
export function headersOf(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return Object.fromEntries(lines.map((line) => [line.split(":")[0].trim(), line.slice(line.indexOf(":") + 1).trim()]));
}

/** Return the command that creates an endpoint with this body. */
export function commandOf(body, quoted) {
  const words = ["saccade", "webhooks", "create", quoted(body.url || "URL")];
  for (const type of body.types ?? []) words.push("--type", quoted(type));
  if (body.description) words.push("--description", quoted(body.description));
  for (const [name, value] of Object.entries(body.headers ?? {})) words.push("--header", quoted(`${name}=${value}`));
  if (body.rate_per_s) words.push("--rate", String(body.rate_per_s));
  if (body.ordered) words.push("--ordered");
  if (body.signing) words.push("--signing", body.signing);
  if (body.format) words.push("--format", body.format);
  if (body.template) words.push("--template", quoted(body.template));
  if (body.subject) words.push("--subject", quoted(body.subject));
  return words.join(" ");
}
