/** Types of webhook.js. */

/** How far the sender's clock and ours may be apart, in seconds. */
export const TOLERANCE_S: number;

/** A request that is not a webhook of ours, or not any more: answer it with 400 and do nothing. */
export class WebhookError extends Error {
  readonly name: "WebhookError";
  readonly code: "headers_missing" | "timestamp_outside_tolerance" | "signature_mismatch" | "body_unreadable";
}

/** A secret or public key that was given cannot be one: a mistake of the receiver's, not of the request. */
export class KeyUnusableError extends TypeError {
  readonly name: "KeyUnusableError";
  readonly code: "key_unusable";
}

export interface VerifyKeys {
  /** The endpoint's "whsec_…"; several while they are rotated. */
  secrets?: string | string[];
  /** "whpk_…", or the key set of `GET /v1/webhooks/keys`. */
  publicKeys?: string | string[] | { keys: object[] };
  /** How far the time of signing may be from now; 300 if left out. */
  toleranceS?: number;
  /** Now, in seconds since 1970; the clock's if left out. */
  nowS?: number;
}

export interface Delivery {
  /** The event's id, the same each time it comes: remember those that were handled. */
  id: string;
  /** When it was signed, in seconds since 1970. */
  timestampS: number;
  /** The body: a CloudEvent. */
  event: Record<string, unknown> & { id: string; type: string; subject: string; data: Record<string, unknown> };
}

/** Verify a webhook and read it; one right signature by one of the keys is enough. */
export function verify(
  body: string | ArrayBuffer | Uint8Array,
  headers: Headers | Map<string, string> | Record<string, string | string[] | undefined>,
  keys: VerifyKeys,
): Promise<Delivery>;
