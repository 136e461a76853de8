// A plain Node server of event streams, as a peer for bench/sse_peers.py: POST /publish, GET /events.
const http = require("node:http");

const streams = new Set();
let number = 0;

http
  .createServer((request, response) => {
    if (request.method === "POST") {
      const parts = [];
      request.on("data", (part) => parts.push(part));
      request.on("end", () => {
        number += 1;
        const head = Buffer.from(`id: ${number}\nevent: job.stage_completed\ndata: `);
        const frame = Buffer.concat([head, ...parts, Buffer.from("\n\n")]);
        for (const stream of streams) stream.write(frame);
        response.end();
      });
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(":\n");
    streams.add(response);
    response.on("close", () => streams.delete(response));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
