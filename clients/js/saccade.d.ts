/** Types of saccade.js. Objects of the API keep its names and may have more fields than listed here. */

export class SaccadeError extends Error {
  constructor(code: string, message: string, more?: SaccadeErrorDetails);
  readonly name: "SaccadeError";
  /** Stable: see contracts/errors.py, and `server_unreachable`, `upload_refused`, `unexpected_answer`. */
  readonly code: string;
  /** What to do. */
  readonly hint: string;
  /** HTTP status; 0 without an answer. */
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
  /** `<id>.<secret>`; not needed by an embedded server, and never put into a public page. */
  apiKey?: string;
  /** For a page without a key: returns a ticket for an event stream; called again when the ticket has expired. */
  ticket?: (resource: string) => string | Promise<string>;
  /** All jobs' events over one connection; by default in browsers only. */
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
  /** Id of an interrupted upload in parts of the same file. */
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
  /** The same key and body return the same job. */
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
  /** The server answers when the job has ended or after so many seconds. */
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
  /** The result in one sentence, and the route of the page that shows it. */
  readonly headline: string | null;
  readonly report: string | null;
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
  /** Whether this is the manifest, which is written after all files. */
  readonly complete: boolean;
  readonly job_id: string;
  readonly result: Record<string, unknown> | null;
  readonly artifacts: Artifact[];
  readonly [field: string]: unknown;
}

export interface SaccadeEvent {
  /** `job.succeeded` and so on; `gap` and `snapshot` are items of the stream itself. */
  readonly type: string;
  /** Resume position after this event; null for progress, `gap` and `snapshot`. */
  readonly cursor: string | null;
  readonly id: string | null;
  /** The id of the job, session, upload or endpoint. */
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
  /** Cursor of the last known event. */
  cursor?: string;
  signal?: AbortSignal;
}

/** Events for one `for await`. */
export class EventFeed implements AsyncIterable<SaccadeEvent> {
  private constructor();
  /** Cursor of the newest durable event that was returned. */
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
  /** In Node `file` may also be a path or a file URL, whose file is streamed. */
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

/** One event of an event stream. */
export interface Block {
  event: string;
  /** The id of this block; null if it has none. */
  id: string | null;
  data: string[];
  /** The id of this block, or of the newest before it. */
  lastEventId: string;
}

/** Incremental parser of an event stream. */
export class BlockParser {
  constructor(lastEventId?: string);
  /** Where to resume; a block without data sets it too. */
  get lastEventId(): string;
  /** Reconnection time, at most one minute; null if the stream has set none. */
  get retryMs(): number | null;
  get unfinished(): boolean;
  push(chunk: Uint8Array | string): Block[];
}
