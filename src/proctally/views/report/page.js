// The cursor, the values and the time axis of all charts, from native controls; the drawing itself is Bokeh's.
"use strict";
const proctally = (() => {
  const root = document.documentElement;
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const cells = [...document.querySelectorAll(".now")].map((place) => ({ place, text: "", ...place.dataset }));
  const slider = document.getElementById("cursor"), output = document.getElementById("at");
  const column = document.querySelector(".charts"), cursor = document.createElement("div");
  const two = (value) => String(value).padStart(2, "0");
  const LETTER = 6.6;  // pixels
  const MAX_DOTS = 300;  // samples in sight, up to which each has a dot
  const MAX_NAMES = 4;
  let page = null;

  function clock(milliseconds, step) {
    const negative = milliseconds < 0 ? "-" : "";
    let rest = Math.round(Math.abs(milliseconds));
    const days = Math.floor(rest / 86400000), hours = Math.floor(rest / 3600000) % 24;
    const minutes = Math.floor(rest / 60000) % 60, seconds = Math.floor(rest / 1000) % 60;
    const part = step < 1000 ? "." + String(rest % 1000).padStart(3, "0").slice(0, step < 10 ? 3 : step < 100 ? 2 : 1) : "";
    if (days) return `${negative}${days} d ${hours}:${two(minutes)}` + (step < 60000 ? `:${two(seconds)}${part}` : "");
    if (hours || step >= 3600000) return `${negative}${hours}:${two(minutes)}:${two(seconds)}${part}`;
    if (minutes || step >= 60000) return `${negative}${minutes}:${two(seconds)}${part}`;
    return `${negative}${seconds}${part} s`;
  }

  const digits = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 4 });

  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (Math.abs(value) >= 999.95 && unit < 4) { value /= 1024; unit += 1; }
    return `${unit ? digits(value) : value.toFixed(0)} ${units[unit]}`;
  }

  function said(unit, value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
    if (unit === "By" || unit === "By/s") return bytes(value) + unit.slice(2);
    if (unit === "1") return `${Number((100 * value).toFixed(1))} %`;
    if (unit === "W") return `${digits(value)} W`;
    return digits(value);
  }

  function tick(unit, value, ticks) {
    if (unit === "time") return clock(value, ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1000);
    if (unit === "By" || unit === "By/s") return value === 0 ? "0" : bytes(value);
    if (unit === "1") return `${Number((100 * value).toPrecision(6))} %`;
    return Number(value.toPrecision(6)).toLocaleString("en");
  }

  // the first row at this time or later
  function from(times, at) {
    let low = 0, high = times.length;
    while (low < high) { const middle = (low + high) >> 1; if (times[middle] < at) low = middle + 1; else high = middle; }
    return low;
  }

  function nearest(times, at) {
    const row = Math.min(from(times, at), times.length - 1);
    return row > 0 && at - times[row - 1] < times[row] - at ? row - 1 : row;
  }

  // -- samples ---------------------------------------------------------------------------------------------------

  // all samples of a table, from the element that payload.py describes
  async function unpacked(element) {
    const text = atob(element.textContent), packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const data = new Uint8Array(await new Response(stream).arrayBuffer());
    const rows = Number(element.dataset.rows), found = { time: new Float64Array(rows) };
    let ticks = 0;
    for (let row = 0; row < rows; row += 1) {
      ticks += data[row] * 16777216 + (data[row + rows] << 16 | data[row + 2 * rows] << 8 | data[row + 3 * rows]);
      found.time[row] = ticks * element.dataset.tick;
    }
    let at = 4 * rows;
    for (const key of JSON.parse(element.dataset.keys)) {
      const bits = new Uint32Array(rows);
      for (let row = 0; row < rows; row += 1)
        bits[row] = data[at + row] << 24 | data[at + row + rows] << 16 | data[at + row + 2 * rows] << 8;
      found[key] = new Float32Array(bits.buffer);
      at += 3 * rows;
    }
    return found;
  }

  async function read() {
    for (const [number, table] of page.tables.entries()) {
      const element = document.getElementById(`samples${number}`);
      if (element === null || !window.DecompressionStream) continue;
      try { table.all = await unpacked(element); element.remove(); } catch { continue; }  // the thinned table is there
    }
    fit();
    root.dataset.samples = page.tables.map((table) => table.all.time.length).join(" ");
  }

  // these rows; where there are more than that, of each pixel the smallest and the largest value, in their order
  function thinned(all, low, high, pixels) {
    const found = {};
    if (high - low <= 2 * pixels) {
      for (const key in all) found[key] = all[key].slice(low, high);
      return found;
    }
    const first = all.time[low], width = (all.time[high - 1] - first) / pixels, edges = [low];
    for (let row = low, pixel = 0; row < high; row += 1) {
      const now = Math.min(pixels - 1, Math.floor((all.time[row] - first) / width));
      if (now > pixel) { edges.push(row); pixel = now; }
    }
    edges.push(high);
    for (const key in all) {
      const values = all[key], kept = found[key] = new values.constructor(2 * edges.length - 2);
      for (let edge = 0; edge < edges.length - 1; edge += 1) {
        const begin = edges[edge], end = edges[edge + 1];
        if (key.startsWith("tree.time.")) {  // shares that stand on each other: their mean
          const known = values.subarray(begin, end).filter((value) => value === value);
          kept[2 * edge] = kept[2 * edge + 1] = known.reduce((sum, value) => sum + value, 0) / known.length;
          continue;
        }
        let least = begin, most = begin;
        for (let row = begin + 1; row < end; row += 1) {
          const value = values[row];
          if (!(value >= values[least])) { if (value === value || values[least] !== values[least]) least = row; }
          if (!(value <= values[most])) { if (value === value || values[most] !== values[most]) most = row; }
        }
        kept[2 * edge] = values[Math.min(least, most)];
        kept[2 * edge + 1] = values[Math.max(least, most)];
      }
    }
    return found;
  }

  function show(table, number, pixels) {
    const { start, end } = page.time, { all, source, first } = table;
    const low = Math.max(0, from(all.time, start) - 1), high = Math.min(all.time.length, from(all.time, end) + 1);
    const isWhole = start <= page.time.bounds[0] && end >= page.time.bounds[1];
    const isAll = isWhole || (all.time.length === first.time.length && all.time.length <= 2 * pixels);
    if (!isAll) source.data = thinned(all, low, high, pixels);
    else if (source.data !== first) source.data = first;
    const visible = high - low <= MAX_DOTS;
    for (const dots of page.dots[number]) if (dots.visible !== visible) dots.visible = visible;
  }

  // -- cursor ----------------------------------------------------------------------------------------------------

  function view(plot) { return Bokeh.index.get_by_id(plot.id); }

  // where the time begins and how long it is, in pixels: of all charts alike
  function measure() {
    const plot = page.plots.find((one) => view(one).el.clientWidth > 0);
    page.left = page.width = 0;
    if (plot === undefined) return;
    const box = view(plot).frame.bbox;
    page.left = view(plot).el.getBoundingClientRect().left + box.left - column.getBoundingClientRect().left;
    page.width = box.width;
  }

  function value(cell, table, row) {
    const text = said(cell.unit, table.all[cell.column][row] - (cell.below ? table.all[cell.below][row] : 0));
    const low = cell.low ? said(cell.unit, table.all[cell.low][row]) : text;
    if (low === text) return text;
    if (low === "unknown") return `at most ${text}`;
    const [amount, unit] = low.split(" ");
    return `${text.endsWith(" " + unit) ? amount : low} to ${text}`;
  }

  // what every line shows at this time
  function point(at) {
    if (page === null || !Number.isFinite(at)) return;
    page.at = at;
    const rows = page.tables.map((table) => nearest(table.all.time, at));
    for (const cell of cells) {
      const table = page.tables[cell.table], { time } = table.all;
      const text = time.length === 0 || at > time[time.length - 1] + 1000 ? "ended" : value(cell, table, rows[cell.table]);
      if (text !== cell.text) cell.place.textContent = cell.text = text;
    }
    for (const bars of page.bars) names(bars, at);
    let text = clock(at, 10);
    if (facts.started_at !== null) text += " · " + new Date(1000 * facts.started_at + at).toLocaleString();
    output.textContent = text;
    slider.value = at;
    slider.setAttribute("aria-valuetext", [text, ...cells.slice(0, 3).map((cell) => cell.text)].join(", "));
    place();
  }

  function place() {
    const { start, end } = page.time, share = (page.at - start) / (end - start);
    cursor.hidden = !(share >= 0 && share <= 1) || page.width === 0;
    cursor.style.transform = `translateX(${page.left + share * page.width}px)`;
  }

  // the bar under the pointer, else the names of those at this time
  function names(bars, at) {
    const { begin, end, lane, name, shown } = bars.data.data, slack = 2 * (page.time.end - page.time.start) / page.width;
    const there = [];
    for (let bar = 0; bar < begin.length; bar += 1) if (begin[bar] <= at && at <= end[bar]) there.push(bar);
    let text = there.slice(0, MAX_NAMES).map((bar) => name[bar]).join(", ");
    if (there.length > MAX_NAMES) text += ` and ${there.length - MAX_NAMES} more`;
    if (page.hit !== null && page.hit.plot === bars.plot)
      for (let bar = 0; bar < begin.length; bar += 1)
        if (lane[bar] === page.hit.lane && begin[bar] - slack <= at && at <= end[bar] + slack) text = `${name[bar]}: ${shown[bar]}`;
    if (bars.place.textContent !== text) bars.place.textContent = text;
  }

  function follow(event) {
    if (event.buttons === 0) event.stopPropagation();  // nothing for Bokeh, which would look for what is hit
    if (page.pointer === null) requestAnimationFrame(moved);
    page.pointer = event;
  }

  function moved() {
    const { clientX, clientY, target } = page.pointer, { start, end } = page.time;
    page.pointer = null;
    const share = (clientX - column.getBoundingClientRect().left - page.left) / page.width;
    if (!(share >= 0 && share <= 1)) return;
    page.hit = null;
    for (const bars of page.bars)
      if (bars.drawing.contains(target)) {
        const box = view(bars.plot).frame.bbox, { start: top, end: bottom } = bars.plot.y_range;
        const down = (clientY - view(bars.plot).el.getBoundingClientRect().top - box.top) / box.height;
        page.hit = { plot: bars.plot, lane: Math.round(bottom + down * (top - bottom)) };
      }
    point(Math.min(Math.max(start + share * (end - start), 0), Number(slider.max)));
  }

  function key(event) {
    const { time } = page.tables.reduce((most, table) => (table.all.time.length > most.all.time.length ? table : most)).all;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }, last = time.length - 1;
    const ends = { Home: 0, End: last };
    if (last < 0 || !(event.key in steps || event.key in ends)) return;
    event.preventDefault();
    page.hit = null;
    const row = event.key in ends ? ends[event.key] : nearest(time, Number(slider.value)) + steps[event.key];
    const at = time[Math.min(Math.max(row, 0), last)], { start, end } = page.time;
    if (at < start || at > end) move(at - (end - start) / 2, at + (end - start) / 2);
    point(at);
  }

  // -- controls --------------------------------------------------------------------------------------------------

  function move(from, to) {
    const [low, high] = page.time.bounds, length = Math.min(high - low, Math.max(to - from, 10));
    const start = Math.min(Math.max(from, low), high - length);
    page.time.setv({ start, end: start + length });
  }

  function act(name) {
    const { start, end } = page.time, length = end - start;
    const at = page.at >= start && page.at <= end ? page.at : (start + end) / 2;
    if (name === "in") move(at - (at - start) / 2, at + (end - at) / 2);
    if (name === "out") move(start - length / 2, end + length / 2);
    if (name === "left") move(start - length / 4, end - length / 4);
    if (name === "right") move(start + length / 4, end + length / 4);
    if (name === "all") move(...page.time.bounds);
    if (name === "theme") { root.dataset.theme = dark() ? "light" : "dark"; repaint(); }
  }

  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  // axes follow CSS by themselves, what else is drawn has the name of its colour as its tag
  function repaint() {
    const style = getComputedStyle(root);
    for (const plot of page.plots) {
      for (const model of [...plot.renderers.map((one) => one.glyph), ...plot.center]) {
        if (model === undefined || model.tags.length === 0) continue;
        const colour = style.getPropertyValue(`--chart-${model.tags[0]}`).trim();
        for (const name of ["line_color", "fill_color"]) if (name in model) model[name] = colour;
      }
      plot.change.emit();
    }
  }

  // at most once per frame, and before Bokeh paints a new range: one painting for the range and its samples
  function fit() {
    if (page === null) return;
    page.again = page.fitted;
    if (page.fitted) return;
    page.fitted = true;
    queueMicrotask(refit);
    requestAnimationFrame(() => {
      page.fitted = false;
      if (page.again) fit();
    });
  }

  // samples in sight, and as much of each name as its bar has room for
  function refit() {
    page.again = false;
    measure();
    if (page.width === 0) return;
    const { start, end } = page.time;
    for (const [number, table] of page.tables.entries()) show(table, number, Math.floor(page.width));
    for (const bars of page.bars) {
      const pixels = page.width / (end - start), data = bars.data.data, at = [], fits = [];
      for (let bar = 0; bar < data.name.length; bar += 1) {
        at.push(Math.max(data.begin[bar], start));
        const room = Math.floor(((Math.min(data.end[bar], end) - at[bar]) * pixels - 6) / LETTER);
        const name = data.name[bar];
        fits.push(room >= name.length ? name : room >= 4 ? name.slice(0, room - 1) + "…" : "");
      }
      bars.data.data = { ...data, at, fits };
    }
    place();
  }

  // paper has another width, and is always light: pictures of the charts take their places
  function picture() {
    const before = root.dataset.theme;
    root.dataset.theme = "light";
    repaint();
    for (const plot of page.plots) {
      if (view(plot).el.clientWidth === 0) continue;  // folded
      const place = document.getElementById("chart-" + plot.name);
      let image = place.querySelector("img");
      if (image === null) { image = document.createElement("img"); image.alt = ""; place.append(image); }
      image.src = view(plot).export("png", true).canvas.toDataURL();
      place.classList.add("drawn");
    }
    if (before === undefined) delete root.dataset.theme; else root.dataset.theme = before;
    repaint();
  }

  function ready() {
    const documents = window.Bokeh === undefined ? [] : Bokeh.documents;
    if (documents.length === 0 || !documents[0].is_idle) return void requestAnimationFrame(ready);
    const made = documents[0], plots = made.roots();
    page = {
      time: made.get_model_by_name("time"), tables: [], dots: [], plots, bars: [],
      fitted: false, again: false, at: NaN, hit: null, pointer: null, left: 0, width: 0,
    };
    for (const plot of plots) {
      const data = made.get_model_by_name("bars-" + plot.name), drawing = document.getElementById("chart-" + plot.name);
      if (data !== null) page.bars.push({ plot, data, drawing, place: document.getElementById("bar-" + plot.name) });
      view(plot).canvas.events_el.tabIndex = -1;  // a picture; what can be done is in the controls
    }
    for (let source = made.get_model_by_name("table0"); source; source = made.get_model_by_name(`table${page.tables.length}`)) {
      page.dots.push(plots.flatMap((plot) => plot.renderers.filter((one) => one.name === `dots${page.tables.length}`)));
      page.tables.push({ source, first: source.data, all: source.data });
    }
    if (matchMedia("(pointer: coarse)").matches)  // a finger scrolls the page and moves the cursor; the buttons zoom
      for (const plot of plots) {
        for (const tool of plot.toolbar.tools) if (tool.name === "gesture") tool.active = false;
        view(plot).canvas.events_el.style.touchAction = "pan-y pinch-zoom";  // Bokeh 3.10 sets it too early
      }
    cursor.className = "cursor";
    cursor.hidden = true;
    column.append(cursor);
    for (const kind of ["pointermove", "pointerdown"]) column.addEventListener(kind, follow, { capture: true });
    for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act));
    slider.addEventListener("input", () => point(Number(slider.value)));
    slider.addEventListener("keydown", key);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    addEventListener("beforeprint", picture);
    addEventListener("resize", () => setTimeout(fit, 200));
    document.querySelector(".machine")?.addEventListener("toggle", (event) => {
      for (const values of document.querySelectorAll(".readout .aside")) values.hidden = !event.target.open;
      setTimeout(fit, 50);
    });
    if (dark()) repaint();
    fit();
    root.dataset.ready = String(Math.round(performance.now()));
    void read();
  }

  // an area ends where a value is unknown; Bokeh's own goes on across that
  function gaps() {
    Bokeh.Models.get("VArea").prototype.default_view.prototype._paint = function (ctx, _indices, data) {
      const { sx, sy1, sy2 } = { ...this, ...data }, known = (row) => Number.isFinite(sy1[row] + sy2[row]);
      for (let begin = 0, end; begin < sx.length; begin = end + 1) {
        for (end = begin; end < sx.length && known(end);) end += 1;
        ctx.beginPath();
        for (let row = begin; row < end; row += 1) ctx.lineTo(sx[row], sy1[row]);
        for (let row = end - 1; row >= begin; row -= 1) ctx.lineTo(sx[row], sy2[row]);
        ctx.closePath();
        this.visuals.fill.apply(ctx);
        this.visuals.hatch.apply(ctx);
      }
    };
  }

  addEventListener("DOMContentLoaded", () => {
    if (window.Bokeh !== undefined) gaps();
    requestAnimationFrame(ready);
  });
  return { tick, fit };
})();
