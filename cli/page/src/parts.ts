// The parts of the page that are not charts over time.
import { hierarchy, treemap, treemapSquarify } from "d3-hierarchy";
import { byId, colour, element, setText } from "./dom";
import { count, duration, keyText, percent, short, size } from "./format";
import type { Group, Spread, Stat, Survey } from "./types";

// ---- tiles ----

export class Tile {
  readonly root: HTMLElement;
  private readonly value = element("p", { class: "value" });
  private readonly note = element("p", { class: "note muted" });
  private readonly line = element("canvas", { width: "240", height: "48", "aria-hidden": "true" });

  constructor(title: string, id: string) {
    this.value.id = id;
    this.root = element("article", { class: "card tile" }, element("h2", {}, title), this.value, this.note, this.line);
  }

  set(text: string, note: string, exact: number | null, trend: (number | null)[], tint: string): void {
    setText(this.value, text);
    setText(this.note, note);
    if (exact !== null) this.value.dataset.value = String(exact);
    const context = this.line.getContext("2d");
    if (!context) return;
    const { width, height } = this.line;
    context.clearRect(0, 0, width, height);
    const known = trend.filter((value): value is number => value !== null);
    const high = Math.max(...known, 1e-9);
    const low = Math.min(...known, high * 0.9);
    context.beginPath();
    let isDrawing = false;
    trend.forEach((value, index) => {
      if (value === null) {
        isDrawing = false;
        return;
      }
      const x = (index / Math.max(1, trend.length - 1)) * width;
      const y = height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
      if (isDrawing) context.lineTo(x, y);
      else context.moveTo(x, y);
      isDrawing = true;
    });
    context.strokeStyle = colour(tint);
    context.lineWidth = 2.5;
    context.stroke();
  }
}

// ---- memory ----

export class Memory {
  private readonly bar = element("div", { class: "stack", role: "img" });
  private readonly legend = element("dl", { class: "pairs" });

  constructor(card: HTMLElement) {
    card.append(this.bar, this.legend);
  }

  set(stat: Stat): void {
    const overhead = Math.max(0, stat.used_memory - stat.value_memory - stat.key_memory);
    const live = stat.used_memory + stat.table_memory + stat.pinned_memory;
    const parts: [string, number, string][] = [
      ["Values", stat.value_memory, "blue"],
      ["Keys", stat.key_memory, "teal"],
      ["Headers, rounding", overhead, "violet"],
      ["Tables", stat.table_memory, "amber"],
      ["Pinned by views", stat.pinned_memory, "red"],
      ["Free", Math.max(0, stat.max_memory - live), "empty"],
    ];
    this.bar.replaceChildren(
      ...parts.map(([title, bytes, tint]) => {
        const part = element("span", { title: `${title}: ${size(bytes)}` });
        part.style.width = `${(100 * bytes) / stat.max_memory}%`;
        part.style.background = `var(--${tint})`;
        return part;
      }),
    );
    this.bar.setAttribute("aria-label", parts.map(([title, bytes]) => `${title} ${size(bytes)}`).join(", "));
    const rows: [string, number, string | null][] = [
      ...parts,
      ["Segment", stat.max_memory, null],
      ["Taken from the system", stat.committed_memory, null],
      ["Largest value allowed", stat.max_value_size, null],
    ];
    this.legend.replaceChildren(
      ...rows.map(([title, bytes, tint]) => {
        const term = element("dt", {}, title);
        if (tint) {
          const mark = element("i", { class: "square", "aria-hidden": "true" });
          mark.style.background = `var(--${tint})`;
          term.prepend(mark);
        }
        const value = element("dd", { title: `${count(bytes)} bytes` }, size(bytes));
        return element("div", {}, term, value);
      }),
    );
  }
}

// ---- the arena ----

export class Arena {
  private readonly canvas = element("canvas", { role: "img" });
  private readonly note = element("p", { class: "muted" });
  private survey: Survey | null = null;

  constructor(card: HTMLElement) {
    card.append(this.canvas, this.note);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  set(survey: Survey): void {
    this.survey = survey;
    this.draw();
  }

  draw(): void {
    const { canvas, survey } = this;
    const width = canvas.clientWidth;
    const context = canvas.getContext("2d");
    if (!survey || !context || width === 0) return;
    const fill = survey.map.fill_percent;
    const columns = width > 560 ? 64 : 32;
    const rows = Math.ceil(fill.length / columns);
    const cell = width / columns;
    const high = Math.max(5, Math.min(9, cell));
    const scale = devicePixelRatio;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(rows * high * scale);
    canvas.style.height = `${rows * high}px`;
    context.scale(scale, scale);
    const [empty, full] = [colour("empty"), colour("blue")];
    fill.forEach((part, index) => {
      const x = (index % columns) * cell;
      const y = Math.floor(index / columns) * high;
      context.globalAlpha = 1;
      context.fillStyle = empty;
      context.fillRect(x, y, cell - 1, high - 1);
      if (part === 0) return;
      context.globalAlpha = 0.15 + (0.85 * Math.min(100, part)) / 100;
      context.fillStyle = full;
      context.fillRect(x, y, cell - 1, high - 1);
    });
    context.globalAlpha = 1;
    const live = fill.filter((part) => part > 0).length;
    const text = `${live} of ${fill.length} cells hold live values; each cell is ${size(survey.map.size_bytes / fill.length)}.`;
    canvas.setAttribute("aria-label", `Map of the segment: ${text}`);
    const part = survey.share < 1 ? ` Drawn are the ${percent(survey.share)} of the entries that the walk saw.` : "";
    setText(this.note, `${text} Addresses run from left to right, then down.${part}`);
  }
}

// ---- spreads ----

const SPREADS: [string, string, string][] = [
  ["size", "Value size", "No entries."],
  ["age", "Age of values", "No entries."],
  ["ttl", "Time to live", "No entry expires."],
  ["idle", "Since last read", "No entries."],
];

export class Spreads {
  private readonly cards = new Map<string, HTMLElement>();

  constructor(parent: HTMLElement) {
    for (const [of, title] of SPREADS) {
      const body = element("div", { class: "bars" });
      this.cards.set(of, body);
      parent.append(element("article", { class: "card", id: `spread-${of}` }, element("h2", {}, title), body));
    }
  }

  set(histograms: Record<string, Spread>): void {
    for (const [of, title, none] of SPREADS) {
      const body = this.cards.get(of);
      const spread = histograms[of];
      if (!body || !spread) continue;
      const rows: [string, number][] = spread.buckets.map(({ below, entries }) => [
        `< ${spread.unit === "bytes" ? size(below).replace(/\.0+ /, " ") : duration(below)}`,
        entries,
      ]);
      if (spread.never > 0) rows.push(["never", spread.never]);
      const all = rows.reduce((sum, [, entries]) => sum + entries, 0);
      if (all === 0) {
        body.replaceChildren(element("p", { class: "empty" }, none));
        continue;
      }
      const most = Math.max(...rows.map(([, entries]) => entries));
      const list = element("ul", { "aria-label": `${title}: entries by bucket` });
      for (const [label, entries] of rows) {
        const bar = element("span", { class: "fill", "aria-hidden": "true" });
        bar.style.width = `${(100 * entries) / most}%`;
        list.append(
          element("li", {}, element("span", { class: "label" }, label), element("span", { class: "track" }, bar), element("span", { class: "count" }, short(entries))),
        );
      }
      body.replaceChildren(list);
    }
  }
}

// ---- prefixes ----

type By = "stored_bytes" | "accesses" | "entries";
const BY: [By, string][] = [
  ["stored_bytes", "Bytes"],
  ["accesses", "Reads"],
  ["entries", "Entries"],
];
interface Leaf extends Group {
  prefix: string;
  children?: Leaf[];
}

export class Prefixes {
  private readonly map = element("div", { class: "treemap", role: "list", "aria-label": "Prefixes by share" });
  private readonly note = element("p", { class: "muted" });
  private by: By = "stored_bytes";
  private survey: Survey | null = null;

  constructor(card: HTMLElement, private readonly choose: (prefix: string) => void) {
    const group = element("div", { class: "segmented", role: "group", "aria-label": "Area of the map" });
    for (const [by, title] of BY) {
      const button = element("button", { type: "button", "aria-pressed": String(by === this.by) }, title);
      button.addEventListener("click", () => {
        this.by = by;
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
        this.draw();
      });
      group.append(button);
    }
    card.querySelector("h2")?.replaceWith(element("div", { class: "head" }, element("h2", {}, "Prefixes"), group));
    card.append(this.map, this.note);
    new ResizeObserver(() => this.draw()).observe(this.map);
  }

  set(survey: Survey): void {
    this.survey = survey;
    this.draw();
  }

  draw(): void {
    const { survey, by } = this;
    const [width, height] = [this.map.clientWidth, this.map.clientHeight];
    if (!survey || width === 0) return;
    const all = survey.all_prefixes[by];
    const leaves: Leaf[] = survey.prefixes.filter((group) => group[by] > 0);
    const shown = [...leaves].sort((a, b) => b[by] - a[by]).slice(0, 40);
    const rest = all - shown.reduce((sum, leaf) => sum + leaf[by], 0);
    if (rest > 0) shown.push({ prefix: "others", entries: 0, stored_bytes: 0, accesses: 0, [by]: rest } as Leaf);
    if (all === 0) {
      this.map.replaceChildren(element("p", { class: "empty", role: "listitem" }, by === "accesses" ? "No entry was read yet." : "No entries."));
      setText(this.note, "");
      return;
    }
    const root = hierarchy<Leaf>({ prefix: "", entries: 0, stored_bytes: 0, accesses: 0, children: shown }).sum((leaf) => (leaf.children ? 0 : leaf[by]));
    treemap<Leaf>().size([width, height]).tile(treemapSquarify).paddingInner(2).round(true)(root);
    // Reads of each entry, compared with the other prefixes.
    const heats = survey.prefixes.map((group) => group.accesses / Math.max(1, group.entries)).sort((a, b) => a - b);
    const heat = (group: Group): number => {
      const place = heats.findIndex((other) => other >= group.accesses / Math.max(1, group.entries));
      return heats.length < 2 ? 3 : Math.min(4, Math.floor((5 * place) / heats.length));
    };
    const format = by === "stored_bytes" ? size : short;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.prefix : undefined;
    this.map.replaceChildren(
      ...root.leaves().map((leaf) => {
        const { x0, y0, x1, y1 } = leaf as unknown as Record<"x0" | "y0" | "x1" | "y1", number>;
        const { prefix } = leaf.data;
        const name = prefix === "" ? "(no prefix)" : keyText(prefix);
        const share = percent(leaf.data[by] / all);
        const isOthers = prefix === "others" && !survey.prefixes.includes(leaf.data as (typeof survey.prefixes)[number]);
        const box = element("button", { type: "button", title: `${name}: ${format(leaf.data[by])}, ${share}`, "aria-label": `${name}: ${format(leaf.data[by])}, ${share}`, class: `leaf ${isOthers ? "others" : `heat${heat(leaf.data)}`}` });
        if (x1 - x0 > 46 && y1 - y0 > 18) box.append(element("span", {}, name));
        if (x1 - x0 > 60 && y1 - y0 > 36) box.append(element("small", {}, `${format(leaf.data[by])} · ${share}`));
        box.dataset.prefix = prefix;
        if (isOthers) box.disabled = true;
        else box.addEventListener("click", () => this.choose(prefix));
        const item = element("div", { role: "listitem", class: "place" }, box);
        item.style.left = `${x0}px`;
        item.style.top = `${y0}px`;
        item.style.width = `${x1 - x0}px`;
        item.style.height = `${y1 - y0}px`;
        return item;
      }),
    );
    if (focused !== undefined) this.map.querySelector<HTMLElement>(`[data-prefix="${CSS.escape(focused)}"]`)?.focus();
    setText(this.note, `${count(survey.prefixes.length)} prefixes. The bluer, the more reads each entry has. Choose one to search its keys.`);
  }
}

// ---- the curve ----

const SVG = "http://www.w3.org/2000/svg";

function shape(name: string, attributes: Record<string, string | number>, text = ""): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== "") made.textContent = text;
  return made;
}

export class Curve {
  private readonly frame = element("div", { class: "curve" });
  private readonly note = element("p", { class: "muted" });
  private stat: Stat | null = null;
  private drawn = "";

  constructor(card: HTMLElement) {
    card.append(this.frame, this.note);
    new ResizeObserver(() => {
      this.drawn = "";
      if (this.stat) this.set(this.stat);
    }).observe(this.frame);
  }

  set(stat: Stat): void {
    this.stat = stat;
    const { points, error, sampled_keys, sampled_references } = stat.curve;
    const width = this.frame.clientWidth;
    const state = JSON.stringify([points, error, width]);
    if (state === this.drawn || width === 0) return;
    this.drawn = state;
    if (points.length === 0) {
      this.frame.replaceChildren(element("p", { class: "empty" }, "Too little was sampled so far."));
      setText(this.note, `${count(sampled_references)} gets of ${count(sampled_keys)} sampled keys. The estimate needs 1,000 gets of 30 keys.`);
      return;
    }
    const [left, right, top, bottom, height] = [44, 14, 12, 30, 220];
    const logs = points.map((point) => Math.log2(point.factor));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    const x = (factor: number): number => left + ((Math.log2(factor) - low) / (high - low)) * (width - left - right);
    const y = (ratio: number): number => top + (1 - Math.min(1, Math.max(0, ratio))) * (height - top - bottom);
    const graph = shape("svg", { width, height, role: "img", "aria-label": `Estimated hit ratio: ${points.map((p) => `${p.factor} times the size ${percent(p.hit_ratio)}`).join(", ")}` });
    for (const ratio of [0, 0.25, 0.5, 0.75, 1]) {
      graph.append(shape("line", { x1: left, x2: width - right, y1: y(ratio), y2: y(ratio), class: "gridline" }));
      graph.append(shape("text", { x: left - 6, y: y(ratio) + 4, "text-anchor": "end" }, percent(ratio, 0)));
    }
    const above = points.map((p) => `${x(p.factor)},${y(p.hit_ratio + error)}`);
    const below = points.map((p) => `${x(p.factor)},${y(p.hit_ratio - error)}`).reverse();
    graph.append(shape("polygon", { points: [...above, ...below].join(" "), class: "band" }));
    graph.append(shape("line", { x1: x(1), x2: x(1), y1: top, y2: height - bottom, class: "now" }));
    graph.append(shape("polyline", { points: points.map((p) => `${x(p.factor)},${y(p.hit_ratio)}`).join(" "), class: "curve-line" }));
    for (const point of points) {
      const dot = shape("circle", { cx: x(point.factor), cy: y(point.hit_ratio), r: point.factor === 1 ? 5 : 3, class: "dot" });
      dot.append(shape("title", {}, `${size(point.size_bytes)}: ${percent(point.hit_ratio)}`));
      graph.append(dot);
      const isTight = width < 480 && !Number.isInteger(Math.log2(point.factor));
      if (!isTight) graph.append(shape("text", { x: x(point.factor), y: height - 10, "text-anchor": "middle" }, `${point.factor}×`));
    }
    this.frame.replaceChildren(graph);
    setText(this.note, `Good to ${(100 * error).toFixed(1)} points, from ${count(sampled_keys)} sampled keys. The line marks the present size, ${size(stat.max_memory)}.`);
  }
}

// ---- counters ----

type Row = [title: string, name: string, value: number, kind?: string, capacity?: number];

function drawPairs(card: string, prefix: string, rows: Row[]): void {
  const list = byId(card);
  let body = list.querySelector("dl");
  if (!body) {
    body = element("dl", { class: "pairs" });
    list.append(body);
  }
  if (body.childElementCount !== rows.length) {
    body.replaceChildren(...rows.map(([title, name]) => element("div", {}, element("dt", {}, title), element("dd", { id: `${prefix}-${name}` }))));
  }
  for (const [, name, value, kind, capacity] of rows) {
    const cell = byId(`${prefix}-${name}`);
    setText(cell, capacity === undefined ? count(value) : `${count(value)} of ${count(capacity)}`);
    cell.dataset.value = String(value);
    cell.className = value > 0 && kind ? kind : "";
  }
}

export function drawUsage({ limits, waiters }: Stat): void {
  drawPairs("usage", "use", [
    ["Rate limits", "rates", limits.rates, undefined, limits.rate_capacity],
    ["Semaphores", "semaphores", limits.semaphores],
    ["Locks", "locks", limits.locks],
    ["Permits held", "permits", limits.permits],
    ["Places of holders", "holders", limits.holders, undefined, limits.holder_capacity],
    ["Waiters for a change", "change", waiters.change],
    ["Waiters for a permit", "permit", waiters.permit],
    ["Waiters for a lease", "lease", waiters.lease],
  ]);
}

export function drawTotals(stat: Stat): void {
  drawPairs("totals", "total", [
    ["Hits", "hits", stat.hits],
    ["Misses", "misses", stat.misses],
    ["Puts", "puts", stat.puts],
    ["Deletes", "deletes", stat.deletes],
    ["Evictions", "evictions", stat.evictions],
    ["Expirations", "expirations", stat.expirations],
    ["Lock waits", "lock_waits", stat.locks.waits],
    ["Lock timeouts", "lock_timeouts", stat.locks.timeouts, "bad"],
    ["Recoveries", "recoveries", stat.recoveries, "notable"],
    ["Processes that died", "dead_processes", stat.dead_processes, "notable"],
    ["Damaged entries", "damaged", stat.damaged, "bad"],
    ["Memory refused", "commit_failures", stat.commit_failures, "bad"],
    ["Slow reads", "slow_reads", stat.slow_reads],
    ["Repeated reads", "read_retries", stat.read_retries],
    ["Views copied", "view_copies", stat.view_copies],
    ["Entries cleared", "cleared", stat.removals.clear ?? 0],
    ["Tags invalidated", "invalidations", stat.invalidations],
  ]);
}
