/**
 * Verification of received webhooks: sender, time and unchanged body.
 *
 * Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): `v1` (HMAC-SHA-256, a secret for each endpoint) and
 * `v1a` (Ed25519, a public key). No dependencies; Node 18 or newer, Deno, Bun, workers and browsers, by WebCrypto.
 *
 *     const delivery = await verify(await request.arrayBuffer(), request.headers, { secrets: "whsec_…" });
 *     console.log(delivery.id, delivery.event.type);
 *
 * A webhook may come more than once, each time with the same id: store the ids that were handled.
 */

/** Allowed difference between the time of signing and now, s. An older request may be a replay. */
export const TOLERANCE_S = 300;
/** At most so many signatures are checked; a rotation makes two, an attacker may send thousands. */
const SIGNATURES = 16;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** What to check, by the code of an error. */
const HINTS = {
  headers_missing:
    "Check that the request comes from Saccade, and that no proxy removes headers that begin with webhook-.",
  timestamp_outside_tolerance:
    "Check the clock of this machine. If it is right, the request is a replay: refuse it.",
  signature_mismatch:
    "Pass the secret or the public key of this endpoint, and the body as it was received, before any parsing.",
  body_unreadable: "The sender has the key but is not Saccade: rotate the secret of the endpoint.",
  key_unusable: "Pass the secret as it was shown when the endpoint was created (whsec_…), or a public key (whpk_…).",
};

/**
 * The request is not a valid webhook: answer it with 400 and do nothing.
 * `code`: headers_missing, timestamp_outside_tolerance, signature_mismatch or body_unreadable; `hint`: what to check.
 */
export class WebhookError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "WebhookError";
    this.code = code;
    this.hint = HINTS[code];
  }
}

/** A secret or public key that was passed is invalid: an error of the receiver, not of the request. */
export class KeyUnusableError extends TypeError {
  constructor(message) {
    super(message);
    this.name = "KeyUnusableError";
    this.code = "key_unusable";
    this.hint = HINTS.key_unusable;
  }
}

/**
 * Verify a webhook and return it; one valid signature by one of the keys is enough.
 *
 * @param {string | ArrayBuffer | Uint8Array} body the received bytes, before any parsing
 * @param {Headers | Record<string, string | string[] | undefined>} headers those of the request; names in any case
 * @param {object} keys
 * @param {string | string[]} [keys.secrets] the endpoint's "whsec_…"; several during a rotation
 * @param {string | string[] | {keys: object[]}} [keys.publicKeys] "whpk_…", or the key set of
 *   `GET /v1/webhooks/{id}/keys`
 * @param {number} [keys.toleranceS] allowed difference between the time of signing and now
 * @param {number} [keys.nowS] unix time in seconds; the system clock by default
 * @returns {Promise<{id: string, timestampS: number, event: object}>} the event's id, the same in every
 *   delivery, the unix time of signing in seconds, and the body
 * @throws {WebhookError} refuse the request
 * @throws {KeyUnusableError} a key is invalid, or none was passed
 */
export async function verify(body, headers, { secrets = [], publicKeys = [], toleranceS = TOLERANCE_S, nowS } = {}) {
  const subtle = await webCrypto();
  const keys = [
    ...(await Promise.all([secrets].flat().map((secret) => secretKey(subtle, secret)))),
    ...(await Promise.all(publicBytes(publicKeys).map((raw) => publicKey(subtle, raw)))),
  ];
  if (keys.length === 0) throw new KeyUnusableError("Pass a secret (whsec_…) or a public key (whpk_…).");
  const { id, timestamp, signatures } = read(headers);
  const now = nowS ?? Date.now() / 1000;
  if (!(Math.abs(now - Number(timestamp)) <= toleranceS)) {
    const when = Number(timestamp) > now ? "in the future" : "too long ago";
    const message = `The webhook was signed ${when}: ${timestamp}, and it is ${Math.round(now)}.`;
    throw new WebhookError("timestamp_outside_tolerance", message);
  }
  const raw = bytesOf(body);
  const signed = joined(new TextEncoder().encode(`${id}.${timestamp}.`), raw);
  const checks = keys.flatMap(({ version, algorithm, key }) =>
    signatures
      .filter((listed) => listed.version === version)
      .map(({ signature }) => subtle.verify(algorithm, key, signature, signed)),
  );
  if (!(await Promise.all(checks)).includes(true)) {
    throw new WebhookError(
      "signature_mismatch",
      "No signature matches: check that the key belongs to this endpoint and that the body is the received bytes.",
    );
  }
  return { id, timestampS: Number(timestamp), event: parsed(raw) };
}

/** Return WebCrypto; Node 18 has no global name for it. */
async function webCrypto() {
  return (globalThis.crypto ?? (await import("node:crypto")).webcrypto).subtle;
}

function read(headers) {
  const entries = typeof headers.entries === "function" ? [...headers.entries()] : Object.entries(headers);
  const named = new Map(entries.map(([name, value]) => [name.toLowerCase(), Array.isArray(value) ? value[0] : value]));
  const [id, timestamp, listed] = ["id", "timestamp", "signature"].map((name) => named.get(`webhook-${name}`));
  if (!id || !timestamp || !listed) {
    const message = "A webhook has the headers webhook-id, webhook-timestamp and webhook-signature.";
    throw new WebhookError("headers_missing", message);
  }
  if (!/^[0-9]{1,12}$/.test(timestamp)) {
    throw new WebhookError("headers_missing", "webhook-timestamp is not a number of seconds.");
  }
  return { id, timestamp, signatures: signaturesIn(listed) };
}

/** Parse "v1,… v1a,…"; skip what cannot be read, as a future version may be. */
function signaturesIn(listed) {
  return listed
    .split(" ")
    .slice(0, SIGNATURES)
    .map((part) => {
      const comma = part.indexOf(",");
      return { version: part.slice(0, comma), signature: comma < 0 ? null : fromBase64(part.slice(comma + 1)) };
    })
    .filter(({ signature }) => signature !== null);
}

async function secretKey(subtle, secret) {
  const raw = secret.startsWith("whsec_") ? fromBase64(secret.slice("whsec_".length)) : null;
  if (raw === null || raw.length < 24) {
    throw new KeyUnusableError("A secret is whsec_ followed by at least 24 bytes in base64.");
  }
  const key = await subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  return { version: "v1", algorithm: "HMAC", key };
}

async function publicKey(subtle, raw) {
  const key = await subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
  return { version: "v1a", algorithm: { name: "Ed25519" }, key };
}

function publicBytes(publicKeys) {
  if (Array.isArray(publicKeys?.keys)) {
    const found = publicKeys.keys.filter((key) => key.kty === "OKP" && key.crv === "Ed25519");
    if (found.length === 0) throw new KeyUnusableError("The key set contains no Ed25519 key.");
    return found.map(({ x }) => publicRaw(fromBase64(padded(x.replaceAll("-", "+").replaceAll("_", "/")))));
  }
  return [publicKeys].flat().map((text) => {
    if (typeof text !== "string" || !text.startsWith("whpk_")) {
      throw new KeyUnusableError("A public key is whpk_ followed by 32 bytes in base64.");
    }
    return publicRaw(fromBase64(text.slice("whpk_".length)));
  });
}

function publicRaw(raw) {
  if (raw === null || raw.length !== 32) throw new KeyUnusableError("A public key is 32 bytes in base64.");
  return raw;
}

function padded(text) {
  return text + "=".repeat((4 - (text.length % 4)) % 4);
}

/** Decode base64 strictly; return null if it is not base64. */
function fromBase64(text) {
  return BASE64.test(text) ? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) : null;
}

function bytesOf(body) {
  if (typeof body === "string") return new TextEncoder().encode(body);
  return body instanceof ArrayBuffer ? new Uint8Array(body) : body;
}

function joined(head, tail) {
  const whole = new Uint8Array(head.length + tail.length);
  whole.set(head);
  whole.set(tail, head.length);
  return whole;
}

function parsed(raw) {
  let event;
  try {
    event = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(raw));
  } catch (error) {
    throw new WebhookError("body_unreadable", `The signature is valid but the body is not JSON: ${error.message}`);
  }
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    throw new WebhookError("body_unreadable", "The signature is valid but the body is not a JSON object.");
  }
  return event;
}
