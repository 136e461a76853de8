// Code that checks a webhook's signature without a library, in four languages; each is run by the tests.

export const SNIPPETS = {
  python: `import base64, hashlib, hmac, os, time

def verify(body: bytes, headers) -> bool:
    """headers: those of the request; body: its bytes, before any parsing."""
    key = base64.b64decode(os.environ["SACCADE_WEBHOOK_SECRET"].removeprefix("whsec_"))
    identity, sent = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(sent)) > 300:
        return False
    signed = f"{identity}.{sent}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return any(hmac.compare_digest(wanted, given) for given in headers["webhook-signature"].split(" "))
`,
  javascript: `import { createHmac, timingSafeEqual } from "node:crypto";

// headers: those of the request, in lower case; body: a Buffer, before any parsing.
export function verify(body, headers) {
  const key = Buffer.from(process.env.SACCADE_WEBHOOK_SECRET.replace("whsec_", ""), "base64");
  const sent = headers["webhook-timestamp"];
  if (Math.abs(Date.now() / 1000 - Number(sent)) > 300) return false;
  const hmac = createHmac("sha256", key).update(headers["webhook-id"] + "." + sent + ".").update(body);
  const wanted = Buffer.from("v1," + hmac.digest("base64"));
  return headers["webhook-signature"].split(" ").some((given) => {
    const other = Buffer.from(given);
    return other.length === wanted.length && timingSafeEqual(other, wanted);
  });
}
`,
  go: `package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Verify reports whether a request comes from Saccade; body is as it was received.
func Verify(body []byte, header http.Header) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SACCADE_WEBHOOK_SECRET"), "whsec_"))
	sent := header.Get("webhook-timestamp")
	seconds, problem := strconv.ParseInt(sent, 10, 64)
	if err != nil || problem != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(header.Get("webhook-id") + "." + sent + "."))
	mac.Write(body)
	wanted := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, given := range strings.Split(header.Get("webhook-signature"), " ") {
		if hmac.Equal([]byte(given), []byte(wanted)) {
			return true
		}
	}
	return false
}
`,
  shell: `# The body is in the file "body"; the headers are in ID, TIMESTAMP and SIGNATURE.
key=$(printf %s "\${SACCADE_WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \\n')
wanted=$( { printf %s "$ID.$TIMESTAMP."; cat body; } |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
case " $SIGNATURE " in *" v1,$wanted "*) echo valid ;; *) echo invalid; exit 1 ;; esac
`,
};

export const LANGUAGES = { python: "Python", javascript: "JavaScript", go: "Go", shell: "curl / openssl" };
