/** Types of saccade.js. Objects of the API keep its names and may have more fields than are named here. */

export class SaccadeError extends Error {
  constructor(code: string, message: string, more?: SaccadeErrorDetails);
  readonly name: "SaccadeError";
  /** Stable: see contracts/errors.py, and `server_unreachable`, `upload_refused`, `unexpected_answer`. */
  readonly code: string;
  /** What to do. */
  readonly hint: string;
  /** 0 when there was no answer. */
  readonly status: number;
  readonly retryable: boolean;
  readonly requestId: string;
  readonly problem?: Record<string, unknown>;
}

export interface SaccadeErrorDetails {
  hint?: string;
  status?: number;
  retryable?: boolean;
  requestId?: string;
  problem?: Record<string, unknown>;
  cause?: unknown;
}

export interface ClientOptions {
  url: string | URL;
  /** `<id>.<secret>`; an embedded server needs none, and a public page must hold none. */
  apiKey?: string;
  /** Gives a ticket for an event stream to a page that holds no key; asked again when the ticket's time is over. */
  ticket?: (resource: string) => string | Promise<string>;
  /** All jobs' events over one connection; as a rule in browsers only. */
  multiplex?: boolean;
  silenceMs?: number;
  fetch?: typeof fetch;
}

export interface UploadOptions {
  filename?: string;
  contentType?: string;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
  multipart?: boolean;
  onCreated?: (upload: Upload) => void;
  /** Id of an upload in parts of the same file that broke off. */
  resume?: string;
  signal?: AbortSignal;
}

export interface Upload {
  readonly id: string;
  readonly state: "created" | "completed" | "failed";
  readonly filename: string;
  readonly content_type: string;
  readonly size_bytes: number;
  readonly sha256: string | null;
  readonly [field: string]: unknown;
}

export type InputFile = string | Upload;

export interface NewJob {
  workload: string;
  inputs?: Record<string, InputFile | InputFile[]>;
  params?: Record<string, unknown>;
  priority?: number;
  maxCostUsd?: number;
  gpu?: string;
  metadata?: Record<string, string>;
  webhookUrl?: string;
  /** The same key and body make the same job. */
  idempotencyKey?: string;
  signal?: AbortSignal;
}

export type JobState =
  | "submitted"
  | "queued"
  | "starting"
  | "waiting_for_gpu"
  | "running"
  | "interrupted"
  | "retrying"
  | "succeeded"
  | "failed"
  | "cancelled";

export interface Reading {
  /** Let the server answer only when the job has ended, or after so many seconds. */
  waitS?: number;
  signal?: AbortSignal;
}

export interface JobSearch {
  state?: JobState | JobState[];
  workload?: string;
  since?: string | Date;
  until?: string | Date;
  pageSize?: number;
  signal?: AbortSignal;
}

export class Job {
  private constructor();
  readonly id: string;
  readonly workload: string;
  readonly state: JobState;
  readonly stage: string | null;
  /** 0 to 1. */
  readonly progress: number;
  readonly message: string;
  readonly attempt: number;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly inputs: Record<string, unknown>;
  readonly params: Record<string, unknown>;
  readonly result: Record<string, unknown> | null;
  readonly error: { code: string; message: string; hint: string } | null;
  readonly cost: { estimated_usd: number; actual_usd: number; [field: string]: unknown };
  readonly gpu: string | null;
  readonly metadata: Record<string, string>;
  readonly links: { self: string; events: string; artifacts: string };
  readonly cursor: string;
  get ended(): boolean;
  /** Follow the job from its first event (or after `cursor`) to its last. */
  events(options?: { types?: string[]; cursor?: string; signal?: AbortSignal }): EventFeed;
  refresh(options?: Reading): Promise<Job>;
  cancel(): Promise<Job>;
  retry(): Promise<Job>;
  artifacts(): Promise<Artifacts>;
  artifact(name: string, options?: { signal?: AbortSignal }): Promise<Response>;
}

export interface Artifact {
  readonly name: string;
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly media_type: string;
  readonly [field: string]: unknown;
}

export interface Artifacts {
  /** Whether this is the manifest, which is written when all files are there. */
  readonly complete: boolean;
  readonly job_id: string;
  readonly result: Record<string, unknown> | null;
  readonly artifacts: Artifact[];
  readonly [field: string]: unknown;
}

export interface SaccadeEvent {
  /** `job.succeeded` and so on; `gap` and `snapshot` are the stream's own. */
  readonly type: string;
  /** Where to go on after this event; null on progress, `gap` and `snapshot`. */
  readonly cursor: string | null;
  readonly id: string | null;
  /** The id of what the event is about. */
  readonly subject: string | null;
  readonly time: string | null;
  readonly data: Record<string, any>;
  /** The CloudEvents envelope, as it was published. */
  readonly envelope: Record<string, any>;
}

export interface EventSelection {
  jobId?: string;
  sessionId?: string;
  types?: string[];
  subject?: string | string[];
  /** A cursor, a time, or seconds before now. */
  since?: string | number | Date;
  /** The last event that is known already. */
  cursor?: string;
  signal?: AbortSignal;
}

/** Events for one `for await`. */
export class EventFeed implements AsyncIterable<SaccadeEvent> {
  private constructor();
  /** The cursor of the newest durable event that was given out. */
  get cursor(): string | null;
  close(): void;
  [Symbol.asyncIterator](): AsyncGenerator<SaccadeEvent, void, undefined>;
}

export class Client {
  constructor(options: ClientOptions);
  get url(): string;
  close(): void;
  health(): Promise<Record<string, unknown>>;
  workloads(): Promise<Record<string, any>[]>;
  /** In Node `file` may also be a path or a file URL, which is streamed. */
  upload(file: Blob | ArrayBuffer | ArrayBufferView | string | URL, options?: UploadOptions): Promise<Upload>;
  submit(wanted: NewJob): Promise<Job>;
  job(jobId: string, options?: Reading): Promise<Job>;
  jobs(search?: JobSearch): AsyncGenerator<Job, void, undefined>;
  cancel(jobId: string): Promise<Job>;
  retry(jobId: string): Promise<Job>;
  artifacts(jobId: string): Promise<Artifacts>;
  artifact(jobId: string, name: string, options?: { signal?: AbortSignal }): Promise<Response>;
  ticket(resource?: string): Promise<{ ticket: string; resource: string; url: string; expires_at: string }>;
  events(selection?: EventSelection): EventFeed;
}

export interface Block {
  event: string;
  id: string | null;
  retryMs: number | null;
  data: string[];
}

/** Parses server-sent events as text comes. */
export class BlockParser {
  get unfinished(): boolean;
  push(text: string): Block[];
}
