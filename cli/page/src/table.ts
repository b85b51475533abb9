// A table that people sort, search and read with a keyboard. Rows stay the same elements while their values change.
import { element, setText } from "./dom";

export interface Column<Row> {
  title: string;
  value: (row: Row) => number | string; // What it is sorted by.
  text: (row: Row) => string;
  isText?: boolean; // Left-aligned.
  bar?: (row: Row) => number; // 0 to 1: a bar behind the text.
}

export interface Options<Row> {
  caption: string;
  columns: Column<Row>[];
  id: (row: Row) => string;
  sortedBy: number;
  empty: string;
  open?: (row: Row) => void; // Makes the first column a button.
}

export class Table<Row> {
  readonly root: HTMLElement;
  private rows: Row[] = [];
  private filter = "";
  private sorted: number;
  private isDown = true;
  private empty: string;
  private readonly body = element("tbody");
  private readonly heads: HTMLTableCellElement[] = [];
  private readonly shown = new Map<string, { line: HTMLTableRowElement; row: Row }>();
  private readonly none = element("p", { class: "empty" });

  constructor(private readonly options: Options<Row>) {
    this.sorted = options.sortedBy;
    this.isDown = !options.columns[options.sortedBy].isText;
    this.empty = options.empty;
    const line = element("tr");
    options.columns.forEach((column, index) => {
      const button = element("button", { type: "button" }, column.title);
      button.addEventListener("click", () => this.sort(index));
      const head = element("th", { scope: "col", class: column.isText ? "text" : "number" }, button);
      this.heads.push(head);
      line.append(head);
    });
    const table = element("table", {}, element("caption", { class: "hidden" }, options.caption), element("thead", {}, line), this.body);
    this.root = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.caption }, table, this.none);
    this.mark();
    this.draw();
  }

  set(rows: Row[], empty?: string): void {
    this.rows = rows;
    if (empty !== undefined) this.empty = empty;
    this.draw();
  }

  search(text: string): void {
    this.filter = text.toLowerCase();
    this.draw();
  }

  private sort(index: number): void {
    this.isDown = this.sorted === index ? !this.isDown : !this.options.columns[index].isText;
    this.sorted = index;
    this.mark();
    this.draw();
  }

  private mark(): void {
    this.heads.forEach((head, index) => {
      head.setAttribute("aria-sort", index !== this.sorted ? "none" : this.isDown ? "descending" : "ascending");
    });
  }

  private draw(): void {
    const { columns, id } = this.options;
    const value = columns[this.sorted].value;
    const sign = this.isDown ? -1 : 1;
    const rows = this.rows.filter((row) => this.filter === "" || id(row).toLowerCase().includes(this.filter));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return order !== 0 ? sign * order : id(a) < id(b) ? -1 : 1;
    });
    const wanted = new Set(rows.map(id));
    for (const [key, { line }] of this.shown) {
      if (wanted.has(key)) continue;
      line.remove();
      this.shown.delete(key);
    }
    rows.forEach((row, place) => {
      const key = id(row);
      const known = this.shown.get(key) ?? { line: this.line(key), row };
      known.row = row;
      this.shown.set(key, known);
      columns.forEach((column, index) => {
        const cell = known.line.cells[index];
        setText(cell.querySelector("button") ?? cell.querySelector("span") ?? cell, column.text(row));
        if (column.bar) cell.style.setProperty("--part", `${100 * column.bar(row)}%`);
      });
      if (this.body.children[place] !== known.line) this.body.insertBefore(known.line, this.body.children[place] ?? null);
    });
    this.none.hidden = rows.length !== 0;
    setText(this.none, this.filter !== "" && this.rows.length !== 0 ? `No row contains “${this.filter}”.` : this.empty);
  }

  private line(key: string): HTMLTableRowElement {
    const line = element("tr");
    this.options.columns.forEach((column, index) => {
      const cell = element("td", { class: `${column.isText ? "text" : "number"}${column.bar ? " gauge" : ""}` });
      if (index === 0 && this.options.open) {
        const button = element("button", { type: "button", class: "link" });
        button.addEventListener("click", () => {
          const known = this.shown.get(key);
          if (known) this.options.open?.(known.row);
        });
        cell.append(button);
      } else {
        cell.append(element("span"));
      }
      line.append(cell);
    });
    return line;
  }
}
