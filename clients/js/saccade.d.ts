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

/** Use of the budget in the present day or month (UTC); the amounts that depend on a limit are null without one. */
export interface BudgetPeriod {
  readonly limit_usd: number | null;
  readonly spent_usd: number;
  readonly reserved_usd: number;
  readonly remaining_usd: number | null;
  readonly began_at: string;
  readonly ends_at: string;
}

export interface Budget {
  readonly daily_usd: number | null;
  readonly monthly_usd: number | null;
  readonly warn_share: number;
  readonly set_at: string | null;
  readonly made_by: string | null;
  /** Limits of every tenant. */
  readonly operator: { readonly daily_usd: number | null; readonly monthly_usd: number | null };
  readonly day: BudgetPeriod;
  readonly month: BudgetPeriod;
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
  /** Rules match on it. */
  metadata?: Record<string, string>;
  /** Id of the job whose result the file is: no rule that had a part in this job applies to it. */
  fromJob?: string;
  signal?: AbortSignal;
}

export interface Upload {
  readonly id: string;
  readonly state: "created" | "completed" | "failed";
  readonly filename: string;
  readonly content_type: string;
  readonly size_bytes: number;
  readonly sha256: string | null;
  readonly metadata: Record<string, string>;
  readonly from_job: string | null;
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
  /** Id of an earlier job that this one repeats with other parameters. */
  retryOf?: string;
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

/** Uploads that a rule applies to: all given parts must hold. Texts are shell patterns without regard to case. */
export interface RuleMatch {
  media?: "video" | "image" | "archive" | null;
  filename?: string | null;
  metadata?: Record<string, string>;
  minimum_bytes?: number | null;
  maximum_bytes?: number | null;
}

/** Several uploads for one job: when `needs` have come, or when none came for `quiet_s`. */
export interface RuleGroup {
  /** `metadata.lap`: uploads with the same value belong together. */
  by?: string | null;
  needs?: number | null;
  quiet_s?: number | null;
  minimum?: number;
  /** `completed_at`, `filename` or `metadata.…`. */
  order?: string;
}

export interface NewRule {
  name: string;
  workload: string;
  enabled?: boolean;
  match?: RuleMatch;
  group?: RuleGroup | null;
  inputs?: string[];
  params?: Record<string, unknown>;
  priority?: number;
  max_cost_usd?: number | null;
  gpu?: string | null;
  metadata?: Record<string, string>;
  webhook_url?: string | null;
  jobs_per_day?: number;
}

export interface Rule extends Required<NewRule> {
  readonly id: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly made_by: string | null;
  readonly jobs_today: number;
  readonly last_job: string | null;
  readonly last_skipped: {
    at: string;
    upload_ids: string[];
    group_id: string | null;
    error: { code: string; message: string; hint: string };
  } | null;
}

/** What a rule would have done with past uploads. */
export interface RuleTrial {
  readonly considered: number;
  readonly matched: number;
  readonly jobs: {
    outcome: "submitted" | "waiting" | "skipped";
    group: string | null;
    inputs: Record<string, { upload_id: string; filename: string; completed_at: string }[]>;
    error: { code: string; message: string; hint: string } | null;
  }[];
  readonly estimate: Record<string, unknown>;
  readonly estimated_usd: number;
  readonly [field: string]: unknown;
}

export interface Reading {
  /** The server answers when the job has ended or after so many seconds. */
  waitS?: number;
  /** A point of the history: a cursor, a time or seconds ago; the answer is as of then. */
  at?: Point;
  signal?: AbortSignal;
}

/** A point of the history: a cursor, an RFC 3339 time, or seconds before now as text. */
export type Point = string | Date;

/** Point of the history that an answer describes. */
export interface AsOf {
  readonly cursor: string;
  readonly time: string | null;
  /** The files that it had then were deleted since. */
  readonly files_removed: boolean;
}

/** Changes of a job between two points of the history. */
export interface Changes {
  readonly id: string;
  readonly since: AsOf;
  readonly until: AsOf;
  /** Whether it existed at `since` already. */
  readonly existed: boolean;
  /** Fields with another value, by JSON pointer: `/cost/actual_usd`. */
  readonly changed: readonly { readonly pointer: string; readonly before: unknown; readonly after: unknown }[];
  readonly cost_usd: number;
  readonly events: readonly { readonly cursor: string; readonly event: Record<string, any> }[];
  readonly events_left_out: number;
}

/** Numbers of jobs for the filters of a list. */
export interface JobCounts {
  readonly count: number;
  readonly by_state: Partial<Record<JobState, number>>;
  readonly by_workload: Record<string, number>;
  /** Whether all jobs were looked at; otherwise there may be more. */
  readonly complete: boolean;
}

export type JobChoice = Omit<JobSearch, "at" | "pageSize" | "pipeline">;

/** Jobs that an act on all that match would be on. */
export interface JobPlanTrial {
  readonly action: "cancel" | "retry";
  readonly count: number;
  readonly by_state: Partial<Record<JobState, number>>;
  readonly by_workload: Record<string, number>;
  readonly sample: { id: string; workload: string; state: JobState; created_at: string; metadata: Record<string, string> }[];
}

/** An act on many jobs; when it has ended, `done`, `failed` and `skipped` add up to `count`. */
export interface JobPlan {
  readonly id: string;
  readonly action: "cancel" | "retry";
  readonly state: "running" | "ended" | "abandoned";
  readonly count: number;
  readonly done: number;
  readonly failed: number;
  readonly skipped: number;
  readonly skips: { id: string; code: string; message: string }[];
  readonly failures: { id: string; code: string; message: string }[];
  readonly [field: string]: unknown;
}

/** Answer of a dry run: the job would be accepted. */
export interface JobCheck {
  readonly workload: string;
  readonly workload_version: string;
  /** With defaults. */
  readonly params: Record<string, any>;
  readonly inputs: Record<string, { upload_id: string; filename: string; size_bytes: number; [field: string]: unknown }[]>;
  /** Inputs that are still required. */
  readonly missing_inputs: string[];
  readonly estimate: {
    device: string;
    seconds: number;
    usd: number;
    basis: "history" | "spec";
    runs: number;
    warm_usd_per_hour: number;
  };
  /** Attempts start on the first; the next ones follow. */
  readonly devices: { device: string; usd_per_s: number; confirmed: boolean; read_on: string }[];
  readonly stages: { name: string; title: string; share: number; needed: boolean; [field: string]: unknown }[];
  readonly deadline_s: number;
  readonly max_attempts: number;
  readonly budget: { allowed: boolean; reserved_usd: number; [field: string]: unknown } | null;
  readonly warnings: { code: string; message: string }[];
  readonly [field: string]: unknown;
}

/** How far a list goes that was answered before the server had read its history. */
export interface Incomplete {
  /** Cursor of the newest event that the list takes into account. */
  readonly read_to: string;
  /** Events of all tenants after it. */
  readonly events_missing: number;
}

export interface JobSearch {
  state?: JobState | JobState[];
  workload?: string;
  /** Id of the rule that submitted them. */
  rule?: string;
  /** Id of the pipeline whose stages' jobs they are. */
  pipeline?: string;
  /** Id of the act on many jobs that they are part of. */
  plan?: string;
  /** Part of the id, the workload, a file name or the metadata (`lap=7`), in any case. */
  text?: string;
  since?: string | Date;
  until?: string | Date;
  /** The list as it was then. */
  at?: Point;
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
  /** The rule that submitted it, and the uploads that it did so for; null for a job that a client submitted. */
  readonly rule: { rule_id: string; upload_ids: string[]; group_id: string | null } | null;
  /** The earlier job that its owner repeats with this one. */
  readonly retry_of: string | null;
  readonly gpu: string | null;
  readonly metadata: Record<string, string>;
  readonly links: { self: string; events: string; artifacts: string };
  readonly cursor: string;
  /** Null but in answers as of a point of the history. */
  readonly as_of: AsOf | null;
  get ended(): boolean;
  /** Follow the job from its first event (or after `cursor`) to its last. */
  events(options?: { types?: string[]; cursor?: string; signal?: AbortSignal }): EventFeed;
  refresh(options?: Reading): Promise<Job>;
  cancel(): Promise<Job>;
  retry(): Promise<Job>;
  artifacts(options?: { presign?: boolean; signal?: AbortSignal }): Promise<Artifacts>;
  artifact(name: string, options?: { signal?: AbortSignal }): Promise<Response>;
}

export interface Artifact {
  readonly name: string;
  readonly key: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly media_type: string;
  /** Path under the server. */
  readonly url: string;
  /** With `presign`: address in the bucket, which needs no key; null for HTML pages. */
  readonly presigned_url: string | null;
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

/** A text, an alert or a question of a session. */
export interface SessionWord {
  readonly type: "session.text" | "session.alert" | "session.prompt_requested";
  readonly time: string;
  readonly data: Record<string, any>;
}

/** A question about the live video of a session, and its answer once there is one. */
export interface Prompt {
  readonly prompt_id: string;
  readonly session_id: string;
  readonly text: string;
  readonly state: "waiting" | "answered";
  readonly answer: Record<string, any> | null;
}

export interface PromptOptions {
  /** JSON Schema of an object, which the answer satisfies. */
  answerSchema?: Record<string, unknown>;
  /** Wait for the answer, at most 60 seconds. */
  waitS?: number;
  idempotencyKey?: string;
  signal?: AbortSignal;
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
  /** False: the feed ends behind the events until now. */
  follow?: boolean;
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
  /** Call any route of the API. */
  call(
    method: string,
    path: string,
    options?: {
      query?: Record<string, unknown>;
      body?: unknown;
      idempotencyKey?: string;
      timeoutMs?: number;
      signal?: AbortSignal;
    },
  ): Promise<any>;
  health(): Promise<Record<string, unknown>>;
  workloads(): Promise<Record<string, any>[]>;
  budget(): Promise<Budget>;
  setBudget(limits: { daily_usd?: number; monthly_usd?: number; warn_share?: number }): Promise<Budget>;
  removeBudget(): Promise<void>;
  /** In Node `file` may also be a path or a file URL, whose file is streamed. */
  upload(file: Blob | ArrayBuffer | ArrayBufferView | string | URL, options?: UploadOptions): Promise<Upload>;
  submit(wanted: NewJob): Promise<Job>;
  /** Validate and estimate; with `partial`, inputs may be left out. */
  check(wanted: Omit<NewJob, "idempotencyKey"> & { partial?: boolean }): Promise<JobCheck>;
  job(jobId: string, options?: Reading): Promise<Job>;
  jobChanges(jobId: string, since: Point, options?: { until?: Point; signal?: AbortSignal }): Promise<Changes>;
  /** `onIncomplete` is told what the list lacks while the server starts; without it such a list is refused. */
  jobs(search?: JobSearch & { onIncomplete?: (incomplete: Incomplete) => void }): AsyncGenerator<Job, void, undefined>;
  jobPage(
    search?: JobSearch & { cursor?: string; incomplete?: boolean },
  ): Promise<{
    data: Record<string, any>[];
    next_cursor: string | null;
    searched_to: string | null;
    incomplete: Incomplete | null;
  }>;
  checkJobPlan(action: "cancel" | "retry", search?: JobChoice): Promise<JobPlanTrial>;
  createJobPlan(
    action: "cancel" | "retry",
    expectedCount: number,
    search?: JobChoice & { why?: string; idempotencyKey?: string },
  ): Promise<JobPlan>;
  jobPlan(planId: string, options?: { signal?: AbortSignal }): Promise<JobPlan>;
  jobPlans(options?: { signal?: AbortSignal }): Promise<JobPlan[]>;
  countJobs(search?: Omit<JobSearch, "at" | "pageSize">): Promise<JobCounts>;
  cancel(jobId: string): Promise<Job>;
  retry(jobId: string): Promise<Job>;
  createRule(rule: NewRule, options?: { idempotencyKey?: string; signal?: AbortSignal }): Promise<Rule>;
  tryRule(
    rule: NewRule,
    options?: { since?: string | Date; limit?: number; signal?: AbortSignal },
  ): Promise<RuleTrial>;
  rule(ruleId: string, options?: { signal?: AbortSignal }): Promise<Rule>;
  rules(options?: { pageSize?: number; signal?: AbortSignal }): AsyncGenerator<Rule, void, undefined>;
  changeRule(ruleId: string, changes: Partial<NewRule>, options?: { signal?: AbortSignal }): Promise<Rule>;
  deleteRule(ruleId: string, options?: { signal?: AbortSignal }): Promise<void>;
  prompt(sessionId: string, text: string, options?: PromptOptions): Promise<Prompt>;
  cancelText(sessionId: string): Promise<Record<string, any>>;
  texts(
    sessionId: string,
    options?: { pageSize?: number; signal?: AbortSignal },
  ): AsyncGenerator<SessionWord, void, undefined>;
  artifacts(jobId: string, options?: { presign?: boolean; signal?: AbortSignal }): Promise<Artifacts>;
  /** Address that opens an artifact without an API key, for an hour or `expiresInS`, and when it expires. */
  artifactLink(
    jobId: string,
    name: string,
    options?: { expiresInS?: number; signal?: AbortSignal },
  ): Promise<{ url: string; expires_at: string | null }>;
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
  /** Whether the history is behind it: the server says so by the comment `live`. */
  get live(): boolean;
  /** Comments without text: one begins a stream, others come only when it is live. */
  get emptyComments(): number;
  push(chunk: Uint8Array | string): Block[];
}
