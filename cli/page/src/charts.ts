// Charts over time, and the curve. Each has a text for those who cannot see it.
import uPlot from "uplot";
import { colour, element, setText } from "./dom";
import { clock } from "./format";

export interface Line {
  title: string;
  colour: string; // Name of a variable of the style sheet.
  format: (value: number) => string;
  isFilled?: boolean;
  isDashed?: boolean;
}

export interface ChartOptions {
  title: string;
  hint: string;
  lines: Line[];
  isStacked?: boolean;
  isLogarithmic?: boolean;
  range?: [number, number];
  axis: (value: number) => string;
}

const HEIGHT = 190;

export class Chart {
  readonly root: HTMLElement;
  private readonly frame = element("div", { class: "plot" });
  private readonly summary = element("p", { class: "hidden" });
  private readonly empty = element("p", { class: "empty over" });
  private readonly legend = element("ul", { class: "legend" });
  private readonly values: HTMLElement[] = [];
  private plot: uPlot | null = null;
  private times: number[] = [];
  private series: (number | null)[][] = [];
  private begin = 0;
  private end = 1;

  constructor(private readonly options: ChartOptions) {
    for (const line of options.lines) {
      const mark = element("i", { class: line.isDashed ? "dashed" : "", "aria-hidden": "true" });
      mark.style.setProperty("--mark", `var(--${line.colour})`);
      const value = element("b");
      this.values.push(value);
      this.legend.append(element("li", {}, mark, `${line.title} `, value));
    }
    this.root = element(
      "article",
      { class: "card chart" },
      element("div", { class: "head" }, element("h2", {}, options.title), element("span", { class: "muted" }, options.hint)),
      this.legend,
      this.frame,
      this.summary,
    );
    this.frame.append(this.empty);
    this.frame.setAttribute("role", "img");
    this.frame.setAttribute("aria-label", options.title);
    new ResizeObserver(() => {
      const width = this.frame.clientWidth;
      if (this.plot && width > 0 && this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
      else if (!this.plot) this.build();
    }).observe(this.frame);
  }

  set(times: number[], series: (number | null)[][], begin: number, end: number): void {
    Object.assign(this, { times, series, begin, end });
    const hasAny = series.some((values) => values.some((value) => value !== null));
    this.empty.hidden = hasAny;
    setText(this.empty, times.length < 2 ? "Waiting for the first samples." : "Nothing in this time.");
    this.plot?.setData(this.data(), false);
    this.plot?.setScale("x", { min: begin, max: end });
    this.tell(null);
    const last = this.options.lines.map((line, index) => `${line.title} ${this.text(index, null)}`);
    setText(this.summary, `${this.options.title}, now: ${last.join(", ")}.`);
  }

  build(): void {
    this.plot?.destroy();
    this.plot = null;
    const width = this.frame.clientWidth;
    if (width === 0) return;
    const { options } = this;
    const grid = { stroke: colour("grid"), width: 1 };
    const axis = { stroke: colour("muted"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, 6, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "time" }, drag: { x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: true, auto: false },
          y: {
            distr: options.isLogarithmic ? 3 : 1,
            range: (_, low, high) => {
              if (options.range) return options.range;
              if (options.isLogarithmic) {
                return low === null || !(high > 0) ? [10, 10000] : [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high))];
              }
              return [0, high > 0 ? high * 1.12 : 1];
            },
          },
        },
        axes: [
          { ...axis, size: 30, gap: 8, space: 80, values: (_, splits) => splits.map((split) => clock(1000 * split)) },
          {
            ...axis,
            size: 62,
            values: (_, splits) =>
              splits.map((split) =>
                options.isLogarithmic && (split === null || Math.log10(split) % 1 !== 0) ? "" : options.axis(split),
              ),
          },
        ],
        series: [
          {},
          ...options.lines.map((line) => ({
            label: line.title,
            stroke: colour(line.colour),
            width: options.isStacked ? 0 : 1.5,
            dash: line.isDashed ? [4, 3] : undefined,
            fill: line.isFilled ? `${colour(line.colour)}${options.isStacked ? "cc" : "22"}` : undefined,
            points: { show: false },
            spanGaps: false,
          })),
        ],
        bands: options.isStacked
          ? options.lines.slice(1).map((_, index) => ({ series: [index + 2, index + 1] as [number, number] }))
          : undefined,
        hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx ?? null)] },
      },
      this.data(),
      this.frame,
    );
    this.plot.setScale("x", { min: this.begin, max: this.end });
  }

  private data(): uPlot.AlignedData {
    if (!this.options.isStacked) return [this.times, ...this.series];
    const sums = new Array<number>(this.times.length).fill(0);
    const stacked = this.series.map((values) => values.map((value, index) => (sums[index] += value ?? 0)));
    return [this.times, ...stacked];
  }

  private text(line: number, index: number | null): string {
    const values = this.series[line] ?? [];
    const value = index === null ? values[values.length - 1] : values[index];
    return value === null || value === undefined ? "–" : this.options.lines[line].format(value);
  }

  private tell(index: number | null): void {
    this.values.forEach((value, line) => setText(value, this.text(line, index)));
  }
}
