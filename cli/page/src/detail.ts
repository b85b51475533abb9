// One key: what is known of it, its value if the server shows values, and what may be done to it.
import { byId, element } from "./dom";
import { count, duration, instant, keyText, size } from "./format";
import type { Entry, Report } from "./types";

const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
if (token !== "") history.replaceState(null, "", location.pathname);

async function ask(address: string, body?: object): Promise<Record<string, unknown>> {
  const answer = await fetch(address, {
    method: body ? "POST" : "GET",
    headers: { "X-MemStream-Token": token, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  const data = (await answer.json()) as Record<string, unknown>;
  if (!answer.ok) throw new Error(String(data.error));
  return data;
}

function facts(entry: Entry, now: number): HTMLElement {
  const rows: [string, string][] = [
    ["Value", `${size(entry.value_size)} (${count(entry.value_size)} bytes)`],
    ["Stored in", size(entry.stored_size)],
    ["Reads", count(entry.access_count)],
    ["Stored", `${instant(entry.created_at_ms)}, ${duration(Math.max(0, now - entry.created_at_ms))} ago`],
    ["Last read", `${instant(entry.last_access_ms)}, ${duration(Math.max(0, now - entry.last_access_ms))} ago`],
    ["Expires", entry.expires_at_ms === 0 ? "never" : `${instant(entry.expires_at_ms)}, in ${duration(Math.max(0, entry.expires_at_ms - now))}`],
    ["Flags", `0x${entry.flags.toString(16)}`],
    ["Shard", String(entry.shard)],
  ];
  return element("dl", { class: "pairs one" }, ...rows.map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text))));
}

export function openDetail(entry: Entry, report: Report, isLive: boolean): void {
  const dialog = byId<HTMLDialogElement>("detail");
  const close = element("button", { type: "button", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => dialog.close());
  const title = element("h2", { id: "detail-title" }, keyText(entry.key));
  const place = element("div", {}, facts(entry, report.stat.time_ms));
  const note = element("p", { class: "muted", role: "status" });
  const actions = element("div", { class: "actions" });
  const perform = (work: () => Promise<string>): void => {
    note.textContent = "…";
    work().then(
      (text) => (note.textContent = text),
      (error: unknown) => (note.textContent = error instanceof Error ? error.message : String(error)),
    );
  };
  const hint = report.shows_values ? "" : "Values are hidden. memstream serve --show-values shows them.";
  note.textContent = hint;
  if (isLive) {
    perform(async () => {
      const fresh = (await ask(`/api/entry?key=${encodeURIComponent(entry.key)}`)) as unknown as Entry;
      place.replaceChildren(facts(fresh, Date.now()));
      return hint;
    });
    if (report.shows_values) {
      const show = element("button", { type: "button" }, "Show value");
      show.addEventListener("click", () =>
        perform(async () => {
          const data = await ask(`/api/value?key=${encodeURIComponent(entry.key)}`);
          place.append(element("pre", { tabindex: "0" }, String(data.value)));
          show.remove();
          return data.is_cut ? "Only the first 64 KiB are shown." : "";
        }),
      );
      actions.append(show);
    }
    if (report.allows_writes) {
      const remove = element("button", { type: "button", class: "danger" }, "Delete key");
      let isSure = false;
      remove.addEventListener("click", () => {
        if (!isSure) {
          isSure = true;
          remove.textContent = "Really delete?";
          return;
        }
        perform(async () => {
          await ask("/api/delete", { key: entry.key });
          remove.remove();
          return "Deleted.";
        });
      });
      const forget = element("button", { type: "button" }, "Expire in 1 min");
      forget.addEventListener("click", () =>
        perform(async () => {
          await ask("/api/touch", { key: entry.key, ttl_ms: 60000 });
          return "The key expires in one minute.";
        }),
      );
      actions.append(forget, remove);
    }
  }
  dialog.replaceChildren(element("div", { class: "head" }, title, close), place, actions, note);
  dialog.showModal();
}

export const search = (pattern: string): Promise<Record<string, unknown>> => ask(`/api/keys?match=${encodeURIComponent(pattern)}`);
