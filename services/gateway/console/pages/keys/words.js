import { dictionary } from "../../words.js";

export const words = dictionary({
  en: {
    title: "Keys",
    intro: "Keys are written in a file of the server, with tenant, scopes and quotas. This page shows the one in use.",
    none: "This server needs no keys: it answers requests from this machine only.",
    noneHint: "To let others in, start it with API keys: see docs/operations.md.",
    id: "Key",
    tenant: "Tenant",
    scopes: "Scopes",
    expires: "Logged in until",
    meanings: { read: "read: see everything of the tenant", write: "write: upload, submit, cancel, change", operate: "operate: dead letters, replays, audit log" },
  },
  de: {
    title: "Schlüssel",
    intro: "Schlüssel stehen in einer Datei des Servers, mit Mandant, Rechten und Kontingenten. Diese Seite zeigt den benutzten.",
    none: "Dieser Server verlangt keine Schlüssel: Er antwortet nur Anfragen von diesem Rechner.",
    noneHint: "Um andere zuzulassen, starten Sie ihn mit API-Schlüsseln: siehe docs/operations.md.",
    id: "Schlüssel",
    tenant: "Mandant",
    scopes: "Rechte",
    expires: "Angemeldet bis",
    meanings: { read: "read: alles des Mandanten sehen", write: "write: hochladen, einreichen, abbrechen, ändern", operate: "operate: nicht zustellbare Ereignisse, Replays, Audit-Protokoll" },
  },
});
