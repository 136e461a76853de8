// Proxy of the replaced vision system's clients: checks the magic word, adds the secrets, and relays HTTP and WebSocket to
// the gateway of Saccade. Captions in passing acknowledgements are stored there too.

const BASE = "/compat/vision";
/** Routes that are relayed, by method; nothing else of the gateway is reachable with the key that is added here. */
const ROUTES = new Set(["GET /health", "GET /vision/stream", "POST /poke/send", "POST /captions/upload"]);
const PUBLIC = "/health";
const WORD_HEADER = "x-magic-word";
const WORD_QUERY = "magic_word";
/** Codes of RFC 6455 that say something about a connection and cannot be sent. */
const UNSENDABLE = new Set([1006, 1015]);
const NO_CODE = 1005;
const BROKEN = 1011;

export default {
  /** Answer a request. */
  async fetch(request, env, context) {
    const url = new URL(request.url);
    if (url.pathname !== PUBLIC && !(await isAdmitted(request, url, env.MAGIC_WORD))) {
      return text("forbidden", 403);
    }
    if (!ROUTES.has(`${request.method} ${url.pathname}`)) {
      return text("not found", 404);
    }
    const gateway = new Gateway(env);
    try {
      return request.headers.get("upgrade")?.toLowerCase() === "websocket"
        ? await relaySocket(request, url, gateway, context)
        : await fetch(gateway.request(request, url));
    } catch (error) {
      console.error(`the gateway does not answer: ${error.name}`);
      return text("the gateway does not answer", 502);
    }
  },
};

/** Address of the gateway and what is added to each request. */
class Gateway {
  constructor(env) {
    this.origin = env.GATEWAY_URL.replace(/\/+$/, "");
    this.added = {
      authorization: env.SACCADE_API_KEY && `Bearer ${env.SACCADE_API_KEY}`,
      "x-poke-api-key": env.POKE_API_KEY,
    };
  }

  /** Return the request to the gateway, with the secrets and without the word. */
  request(request, url) {
    const query = new URLSearchParams(url.search);
    query.delete(WORD_QUERY);
    const target = new URL(`${this.origin}${BASE}${url.pathname}`);
    target.search = query.toString();
    const headers = new Headers(request.headers);
    headers.delete(WORD_HEADER);
    this.add(headers);
    return new Request(target, { method: request.method, headers, body: request.body, redirect: "manual" });
  }

  /** Store a caption; a failure is logged, without the caption. */
  async keep(ack) {
    const headers = new Headers({ "content-type": "application/json" });
    this.add(headers);
    const now = Date.now();
    const body = JSON.stringify({
      windowId: `ws-cap-${now}-${crypto.randomUUID()}`,
      timestamp: now,
      chunkStartS: ack.chunk_start_s ?? 0,
      chunkEndS: ack.chunk_end_s ?? 0,
      caption: ack.caption,
      latencyMs: ack.latency_ms,
      tokensGenerated: ack.tokens_generated,
    });
    try {
      const answer = await fetch(`${this.origin}${BASE}/captions/upload`, { method: "POST", headers, body });
      if (!answer.ok) {
        console.error(`a caption was not stored: ${answer.status}`);
      }
      await answer.body?.cancel();
    } catch (error) {
      console.error(`a caption was not stored: ${error.name}`);
    }
  }

  add(headers) {
    for (const [name, value] of Object.entries(this.added)) {
      if (value) {
        headers.set(name, value);
      }
    }
  }
}

/** Return whether a request has the word: in a header, which wins even when it is empty, or in the query. */
async function isAdmitted(request, url, word) {
  if (!word) {
    return false;
  }
  const sent = request.headers.get(WORD_HEADER) ?? url.searchParams.get(WORD_QUERY);
  const [expected, given] = await Promise.all([digest(word), digest(sent ?? "")]);
  // All bytes are compared, so that the time tells nothing.
  return sent !== null && expected.reduce((different, byte, at) => different | (byte ^ given[at]), 0) === 0;
}

async function digest(value) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(value)));
}

async function relaySocket(request, url, gateway, context) {
  const answer = await fetch(gateway.request(request, url));
  const upstream = answer.webSocket;
  if (!upstream) {
    await answer.body?.cancel();
    console.error(`the gateway opened no socket: ${answer.status}`);
    return text("the gateway opened no socket", 502);
  }
  const [client, relay] = Object.values(new WebSocketPair());
  for (const socket of [relay, upstream]) {
    socket.binaryType = "arraybuffer";
    socket.accept();
  }
  pass(relay, upstream);
  pass(upstream, relay, (message) => {
    const ack = captionOf(message);
    if (ack) {
      context.waitUntil(gateway.keep(ack));
    }
  });
  return new Response(null, { status: 101, webSocket: client });
}

/** Pass the messages and the end of one socket on to another. */
function pass(from, to, onMessage = () => {}) {
  from.addEventListener("message", ({ data }) => {
    try {
      to.send(data);
    } catch {
      close(from, BROKEN, "the other side is gone");
      return;
    }
    onMessage(data);
  });
  from.addEventListener("close", ({ code, reason }) => {
    if (code === NO_CODE) {
      close(to);
    } else {
      close(to, UNSENDABLE.has(code) ? BROKEN : code, reason);
    }
    close(from, code === NO_CODE || UNSENDABLE.has(code) ? 1000 : code);
  });
  from.addEventListener("error", () => {
    close(to, BROKEN, "the connection broke");
    close(from, BROKEN, "the connection broke");
  });
}

function close(socket, ...codeAndReason) {
  try {
    socket.close(...codeAndReason);
  } catch {
    // Closed already.
  }
}

/** Return an acknowledgement that carries a caption; null for every other message. */
function captionOf(message) {
  if (typeof message !== "string" || !message.includes('"caption"')) {
    return null;
  }
  try {
    const ack = JSON.parse(message);
    return typeof ack.caption === "string" && ack.caption ? ack : null;
  } catch {
    return null;
  }
}

function text(body, status) {
  return new Response(body, { status, headers: { "content-type": "text/plain;charset=UTF-8" } });
}
