// Puts the page together: takes the report that lies in the file, or asks the server and listens to it.
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { Chart } from "./charts";
import { openDetail, search } from "./detail";
import { byId, element, setText } from "./dom";
import { count, duration, instant, keyText, nanoseconds, percent, short, size } from "./format";
import { Arena, Curve, Memory, Prefixes, Spreads, Tile, drawTotals, drawUsage } from "./parts";
import { Table, type Column } from "./table";
import type { Entry, Live, NearServer, Process, Report, Sample, Survey } from "./types";

const embedded = byId("report").textContent?.trim() ?? "";
const isLive = embedded === "";
const MOST_SAMPLES = 900;

let report: Report;
let history: Sample[] = [];
let survey: Survey | null = null;
let isPaused = false;
let rangeSeconds = 300;

// ---- the parts ----

const tiles = {
  hits: new Tile("Hit ratio", "now-hit-ratio"),
  gets: new Tile("Gets per second", "now-gets"),
  puts: new Tile("Puts per second", "now-puts"),
  evictions: new Tile("Evictions per second", "now-evictions"),
  memory: new Tile("Memory used", "now-memory"),
  entries: new Tile("Entries", "now-entries"),
};
byId("tiles").append(...Object.values(tiles).map((tile) => tile.root));

const rate = (value: number): string => `${short(value)}/s`;
const charts = {
  hits: new Chart({
    title: "Hit ratio",
    hint: "of gets in each second",
    lines: [{ title: "hits", colour: "teal", format: (value) => percent(value), isFilled: true }],
    range: [0, 1],
    axis: (value) => percent(value, 0),
  }),
  operations: new Chart({
    title: "Operations",
    hint: "per second",
    lines: [
      { title: "gets", colour: "blue", format: rate },
      { title: "puts", colour: "amber", format: rate },
      { title: "deletes", colour: "violet", format: rate },
    ],
    axis: short,
  }),
  evictions: new Chart({
    title: "Evictions by cause",
    hint: "per second",
    lines: [
      { title: "room", colour: "blue", format: rate, isFilled: true },
      { title: "large value", colour: "amber", format: rate, isFilled: true },
      { title: "table", colour: "violet", format: rate, isFilled: true },
      { title: "chain", colour: "red", format: rate, isFilled: true },
    ],
    isStacked: true,
    axis: short,
  }),
  latencies: new Chart({
    title: "Latency",
    hint: "of sampled calls, the last 10 looks together",
    lines: [
      { title: "get p50", colour: "blue", format: nanoseconds },
      { title: "get p99", colour: "blue", format: nanoseconds, isDashed: true },
      { title: "set p50", colour: "amber", format: nanoseconds },
      { title: "set p99", colour: "amber", format: nanoseconds, isDashed: true },
    ],
    isLogarithmic: true,
    axis: nanoseconds,
  }),
};
byId("charts").append(...Object.values(charts).map((chart) => chart.root));

const memory = new Memory(byId("memory"));
const arena = new Arena(byId("arena"));
const spreads = new Spreads(byId("spreads"));
const curve = new Curve(byId("curve"));

const now = (): number => report.stat.time_ms;
const open = (entry: Entry): void => openDetail(entry, report, isLive);
let mostReads = 1;
let mostBytes = 1;
const keyColumn: Column<Entry> = { title: "Key", value: (e) => e.key, text: (e) => keyText(e.key), isText: true };
const readsColumn: Column<Entry> = { title: "Reads", value: (e) => e.access_count, text: (e) => short(e.access_count), bar: (e) => e.access_count / mostReads };
const sizeColumn: Column<Entry> = { title: "Size", value: (e) => e.value_size, text: (e) => size(e.value_size), bar: (e) => e.value_size / mostBytes };
const rest: Column<Entry>[] = [
  { title: "Age", value: (e) => now() - e.created_at_ms, text: (e) => duration(Math.max(0, now() - e.created_at_ms)) },
  { title: "Idle", value: (e) => now() - e.last_access_ms, text: (e) => duration(Math.max(0, now() - e.last_access_ms)) },
  {
    title: "Expires",
    value: (e) => (e.expires_at_ms === 0 ? Infinity : e.expires_at_ms),
    text: (e) => (e.expires_at_ms === 0 ? "never" : duration(Math.max(0, e.expires_at_ms - now()))),
  },
];
const keyTable = (caption: string, columns: Column<Entry>[], sortedBy: number, empty: string): Table<Entry> =>
  new Table<Entry>({ caption, columns, id: (e) => e.key, sortedBy, empty, open });

const tables = {
  hot: keyTable(
    "Hot keys, by gets per second",
    [keyColumn, { title: "Gets/s", value: (e) => e.gets_per_s ?? 0, text: (e) => short(e.gets_per_s ?? 0) }, readsColumn, sizeColumn, ...rest],
    1,
    "No key is hot: the sample finds keys that are read thousands of times.",
  ),
  read: keyTable("Most read keys", [keyColumn, readsColumn, sizeColumn, ...rest], 1, "No entries."),
  large: keyTable("Largest keys", [keyColumn, sizeColumn, readsColumn, ...rest], 1, "No entries."),
  found: keyTable("Keys that match", [keyColumn, sizeColumn, readsColumn, ...rest], 0, "Type a pattern such as user:* and press Enter."),
};
type TableName = keyof typeof tables;

const keysNote = element("p", { class: "muted", id: "keys-note", role: "status" });
const box = element("input", { type: "search", placeholder: "Filter; Enter searches all keys", "aria-label": "Filter keys", spellcheck: "false" });
const tabs = element("div", { class: "segmented", role: "group", "aria-label": "Which keys" });
const tableNames: [TableName, string][] = [
  ["hot", "Hot now"],
  ["read", "Most read"],
  ["large", "Largest"],
  ...(isLive ? ([["found", "Search"]] as [TableName, string][]) : []),
];
let shownTable: TableName = "hot";

function showTable(name: TableName): void {
  shownTable = name;
  for (const [other] of tableNames) tables[other].root.hidden = other !== name;
  [...tabs.children].forEach((tab, index) => tab.setAttribute("aria-pressed", String(tableNames[index][0] === name)));
  drawKeysNote();
}

function drawKeysNote(text?: string): void {
  if (text !== undefined) {
    setText(keysNote, text);
  } else if (shownTable === "hot") {
    setText(keysNote, "Live: a sample of gets finds these keys; rates are good to a tenth.");
  } else if (shownTable !== "found" && survey) {
    const age = duration(Math.max(0, now() - survey.end_ms));
    const share = survey.share >= 1 ? "all" : percent(survey.share);
    setText(keysNote, `Of ${share} of the entries (${count(survey.entries)} seen), looked at ${age} ago${survey.is_over ? "" : "; the first walk goes on"}.`);
  } else if (shownTable !== "found") {
    setText(keysNote, "The first walk over the entries has begun.");
  }
}

for (const [name, title] of tableNames) {
  const tab = element("button", { type: "button", id: `tab-${name}` }, title);
  tab.addEventListener("click", () => showTable(name));
  tabs.append(tab);
}
box.addEventListener("input", () => {
  for (const name of ["hot", "read", "large"] as const) tables[name].search(box.value);
});
async function find(pattern: string): Promise<void> {
  showTable("found");
  drawKeysNote("Searching …");
  try {
    const found = await search(/[*?[]/.test(pattern) ? pattern : `*${pattern}*`);
    tables.found.set(found.keys as Entry[], "No key matches.");
    drawKeysNote(`${count((found.keys as Entry[]).length)} keys match, of ${count(found.seen as number)} seen${found.has_all ? "" : "; the search stopped early"}.`);
  } catch (error) {
    drawKeysNote(error instanceof Error ? error.message : String(error));
  }
}
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && isLive) void find(box.value);
});
const keysCard = byId("keys");
keysCard.querySelector("h2")?.replaceWith(element("div", { class: "head" }, element("h2", {}, "Keys"), tabs, box));
keysCard.append(keysNote, ...tableNames.map(([name]) => tables[name].root));

const prefixes = new Prefixes(byId("prefixes"), (prefix) => {
  box.value = prefix;
  if (isLive) void find(`${prefix.replace(/[*?[\\]/g, "\\$&")}*`);
  else box.dispatchEvent(new Event("input"));
  box.focus();
});

const processes = new Table<Process>({
  caption: "Attached processes",
  columns: [
    { title: "Process", value: (p) => p.pid, text: (p) => String(p.pid), isText: true },
    { title: "State", value: (p) => p.state, text: (p) => p.state, isText: true },
    { title: "Gets", value: (p) => p.hits + p.misses, text: (p) => short(p.hits + p.misses) },
    { title: "Hits", value: (p) => p.hits / Math.max(1, p.hits + p.misses), text: (p) => percent(p.hits + p.misses === 0 ? null : p.hits / (p.hits + p.misses)) },
    { title: "Puts", value: (p) => p.puts, text: (p) => short(p.puts) },
    { title: "Views", value: (p) => p.pins, text: (p) => count(p.pins) },
    { title: "Holds", value: (p) => p.holds.join(), text: (p) => p.holds.join(", ") || "–", isText: true },
    { title: "Command", value: (p) => p.command, text: (p) => keyText(p.command), isText: true },
  ],
  id: (p) => String(p.pid),
  sortedBy: 2,
  empty: "No process is attached.",
});
byId("processes").append(processes.root);
const nearNote = element("p", { class: "muted", id: "near-note" });
const nearServers = new Table<NearServer>({
  caption: "Servers whose values are copied",
  columns: [
    { title: "Server", value: (s) => s.name, text: (s) => s.name, isText: true },
    { title: "Agent", value: (s) => s.agent_pid, text: (s) => (s.agent_pid === 0 ? "none" : String(s.agent_pid)) },
    { title: "Heard", value: (s) => s.lag_ms ?? Infinity, text: (s) => (s.lag_ms === null ? "never" : `${duration(s.lag_ms)} ago`) },
    { title: "Invalidations", value: (s) => s.invalidations, text: (s) => short(s.invalidations) },
    { title: "Epochs", value: (s) => s.epochs, text: (s) => count(s.epochs) },
    { title: "Subscriptions", value: (s) => s.subscriptions, text: (s) => count(s.subscriptions) },
  ],
  id: (s) => `${s.name} ${s.epoch}`,
  sortedBy: 2,
  empty: "No server was ever heard.",
});
byId("near").append(nearNote, nearServers.root);
byId("advice").append(element("ul", { class: "advice" }));

// ---- drawing ----

function drawLive(): void {
  const { stat } = report;
  const last = history[history.length - 1];
  const recent = history.slice(-60);
  const gets = stat.hits + stat.misses;
  tiles.hits.set(percent(last?.hit_ratio ?? null), `${percent(gets === 0 ? null : stat.hits / gets)} since creation`, gets === 0 ? null : stat.hits / gets, recent.map((s) => s.hit_ratio), "teal");
  tiles.gets.set(short(last?.gets_per_s ?? 0), `${count(gets)} in total`, gets, recent.map((s) => s.gets_per_s), "blue");
  tiles.puts.set(short(last?.puts_per_s ?? 0), `${count(stat.puts)} in total`, stat.puts, recent.map((s) => s.puts_per_s), "amber");
  tiles.evictions.set(short(last?.evictions_per_s ?? 0), `${count(stat.evictions)} in total`, stat.evictions, recent.map((s) => s.evictions_per_s), "violet");
  const used = stat.used_memory + stat.table_memory;
  tiles.memory.set(percent(used / stat.max_memory), `${size(used)} of ${size(stat.max_memory)}`, used, recent.map((s) => s.used_memory), "blue");
  tiles.entries.set(count(stat.entries), `${count(stat.shards)} shards, ${count(stat.processes)} processes`, stat.entries, recent.map((s) => s.entries), "teal");

  const end = last ? last.time_ms / 1000 : stat.time_ms / 1000;
  const begin = end - rangeSeconds;
  const part = history.filter((s) => s.time_ms / 1000 >= begin - 1);
  const times = part.map((s) => s.time_ms / 1000);
  const pick = (of: (s: Sample) => number | null): (number | null)[] => part.map(of);
  charts.hits.set(times, [pick((s) => s.hit_ratio)], begin, end);
  charts.operations.set(times, [pick((s) => s.gets_per_s), pick((s) => s.puts_per_s), pick((s) => s.deletes_per_s)], begin, end);
  const cause = (name: string) => pick((s) => s.evictions_by_cause_per_s[name] ?? 0);
  charts.evictions.set(times, [cause("room"), cause("large_value"), cause("table"), cause("chain")], begin, end);
  charts.latencies.set(times, [pick((s) => s.get_ns?.p50 ?? null), pick((s) => s.get_ns?.p99 ?? null), pick((s) => s.set_ns?.p50 ?? null), pick((s) => s.set_ns?.p99 ?? null)], begin, end);

  memory.set(stat);
  curve.set(stat);
  mostReads = Math.max(1, ...report.hot.map((e) => e.access_count), ...(survey?.most_read ?? []).map((e) => e.access_count));
  mostBytes = Math.max(1, ...(survey?.largest ?? []).map((e) => e.value_size));
  tables.hot.set(report.hot);
  processes.set(report.processes);
  byId("near-section").hidden = stat.near === undefined;
  if (stat.near) {
    const { hits, fills, conflicts, merged, bypasses, stale, errors, servers } = stat.near;
    setText(nearNote, `${count(hits)} hits, ${count(fills)} fills, ${count(conflicts)} conflicts, ${count(merged)} merged, ${count(bypasses)} bypasses, ${count(stale)} stale, ${count(errors)} errors.`);
    nearServers.set(servers);
  }
  drawUsage(stat);
  drawTotals(stat);
  drawKeysNote(shownTable === "found" ? (keysNote.textContent ?? "") : undefined);
  const list = byId("advice").querySelector("ul");
  const text = JSON.stringify(report.advice);
  if (list && list.dataset.shown !== text) {
    list.dataset.shown = text;
    list.replaceChildren(...report.advice.map(({ what, why }) => element("li", {}, element("b", {}, what), element("span", { class: "muted" }, why))));
  }
  setText(byId("title"), `${stat.backend}:${stat.name}`);
  setText(byId("subtitle"), `MemStream · ${size(stat.max_memory)} · created ${instant(stat.created_at_ms)}${stat.read_only ? " · read-only" : ""}`);
  document.title = `${stat.backend}:${stat.name} – MemStream`;
}

function drawSurvey(): void {
  if (!survey) return;
  arena.set(survey);
  spreads.set(survey.histograms);
  prefixes.set(survey);
  tables.read.set(survey.most_read);
  tables.large.set(survey.largest);
  drawKeysNote(shownTable === "found" ? (keysNote.textContent ?? "") : undefined);
}

function drawState(text: string, kind: string): void {
  const state = byId("state");
  setText(state, text);
  state.className = `pill ${kind}`;
}

function drawProblem(text: string): void {
  const place = byId("problem");
  place.hidden = text === "";
  setText(place, text);
}

// ---- controls ----

const THEMES = ["auto", "light", "dark"] as const;
const dark = matchMedia("(prefers-color-scheme: dark)");
let theme: (typeof THEMES)[number] = "auto";
try {
  const kept = localStorage.getItem("memstream-theme");
  if (kept === "light" || kept === "dark") theme = kept;
} catch {
  // A file may have no storage.
}

function applyTheme(): void {
  document.documentElement.dataset.theme = theme === "auto" ? (dark.matches ? "dark" : "light") : theme;
  const button = byId("theme");
  setText(button, theme[0].toUpperCase() + theme.slice(1));
  button.setAttribute("aria-label", `${theme[0].toUpperCase()}${theme.slice(1)} colours`);
  for (const chart of Object.values(charts)) chart.build();
  arena.draw();
  if (report) drawLive();
}
byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try {
    localStorage.setItem("memstream-theme", theme);
  } catch {
    // It holds for this view alone then.
  }
  applyTheme();
});
dark.addEventListener("change", applyTheme);

for (const [seconds, title] of [[60, "1 min"], [300, "5 min"], [900, "15 min"]] as const) {
  const button = element("button", { type: "button", "aria-pressed": String(seconds === rangeSeconds) }, title);
  button.addEventListener("click", () => {
    rangeSeconds = seconds;
    for (const other of byId("ranges").children) other.setAttribute("aria-pressed", String(other === button));
    drawLive();
  });
  byId("ranges").append(button);
}
byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  setText(byId("pause"), isPaused ? "Resume" : "Pause");
  drawState(isPaused ? "paused" : "live", isPaused ? "" : "good");
  if (!isPaused) {
    drawLive();
    drawSurvey();
  }
});

// ---- data ----

function begin(first: Report): void {
  report = first;
  history = first.history;
  survey = first.survey;
  drawProblem(first.problem);
  setText(byId("footer"), `MemStream ${first.version} · layout ${first.stat.layout_version} · a look every ${duration(first.interval_ms)}`);
  drawLive();
  drawSurvey();
}

function listen(): void {
  const events = new EventSource("/api/events");
  events.addEventListener("open", () => drawState(isPaused ? "paused" : "live", isPaused ? "" : "good"));
  events.addEventListener("sample", (event) => {
    const live = JSON.parse(event.data as string) as Live;
    Object.assign(report, live);
    const last = history[history.length - 1];
    if (live.sample && last?.time_ms !== live.sample.time_ms) history.push(live.sample);
    if (history.length > MOST_SAMPLES) history.splice(0, history.length - MOST_SAMPLES);
    drawProblem("");
    if (!isPaused && !document.hidden) drawLive();
  });
  events.addEventListener("survey", (event) => {
    survey = JSON.parse(event.data as string) as Survey;
    if (!isPaused && !document.hidden) drawSurvey();
  });
  events.addEventListener("problem", (event) => drawProblem((JSON.parse(event.data as string) as { message: string }).message));
  events.addEventListener("error", () => {
    drawState("no connection", "bad");
    drawProblem("The server does not answer. The page goes on when it does.");
    // After a refusal the browser does not try again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden || isPaused || !report) return;
  drawLive();
  drawSurvey();
});

async function start(): Promise<void> {
  showTable("hot");
  applyTheme();
  if (!isLive) {
    begin(JSON.parse(embedded) as Report);
    drawState(`saved ${instant(report.stat.time_ms)}`, "");
    byId("pause").hidden = true;
    showTable("read");
    return;
  }
  for (;;) {
    try {
      const answer = await fetch("/api/report");
      if (!answer.ok) throw new Error(((await answer.json()) as { error: string }).error);
      begin((await answer.json()) as Report);
      listen();
      return;
    } catch (error) {
      drawState("no connection", "bad");
      drawProblem(error instanceof Error ? error.message : String(error));
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
}
void start();
