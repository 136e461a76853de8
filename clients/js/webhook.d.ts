/** Types of webhook.js. */

/** Allowed difference between the time of signing and now, in seconds. */
export const TOLERANCE_S: number;

/** The request is not a valid webhook: answer it with 400 and do nothing. */
export class WebhookError extends Error {
  readonly name: "WebhookError";
  readonly code: "headers_missing" | "timestamp_outside_tolerance" | "signature_mismatch" | "body_unreadable";
  /** What to check. */
  readonly hint: string;
}

/** A secret or public key that was passed is invalid: an error of the receiver, not of the request. */
export class KeyUnusableError extends TypeError {
  readonly name: "KeyUnusableError";
  readonly code: "key_unusable";
  readonly hint: string;
}

export interface VerifyKeys {
  /** The endpoint's "whsec_…"; several during a rotation. */
  secrets?: string | string[];
  /** "whpk_…", or the key set of `GET /v1/webhooks/{id}/keys`. */
  publicKeys?: string | string[] | { keys: object[] };
  /** Allowed difference between the time of signing and now, s; 300 by default. */
  toleranceS?: number;
  /** Unix time in seconds; the system clock by default. */
  nowS?: number;
}

export interface Delivery {
  /** The event's id, the same in every delivery: store those that were handled. */
  id: string;
  /** Unix time of signing, in seconds. */
  timestampS: number;
  /** The body: a CloudEvent. */
  event: Record<string, unknown> & { id: string; type: string; subject: string; data: Record<string, unknown> };
}

/** Verify a webhook and return it; one valid signature by one of the keys is enough. */
export function verify(
  body: string | ArrayBuffer | Uint8Array,
  headers: Headers | Map<string, string> | Record<string, string | string[] | undefined>,
  keys: VerifyKeys,
): Promise<Delivery>;
