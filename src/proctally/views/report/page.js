// The one cursor and the one time axis of all charts, from native controls; the drawing itself is Bokeh's.
"use strict";
const proctally = (() => {
  const root = document.documentElement;
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const places = [...document.querySelectorAll("[data-column]")];
  const slider = document.getElementById("cursor"), output = document.getElementById("at");
  const two = (value) => String(value).padStart(2, "0");
  const LETTER = 6.6;  // pixels
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

  function bytes(value, step) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (Math.abs(step ?? value) >= 999.5 && unit < 4) { value /= 1024; unit += 1; if (step !== undefined) step /= 1024; }
    return `${value >= 99.95 || unit === 0 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
  }

  function said(unit, value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
    if (unit === "time") return clock(value, 10);
    if (unit === "By" || unit === "By/s") return bytes(value) + unit.slice(2);
    if (unit === "1") return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
    if (unit === "W") return `${value.toFixed(0)} W`;
    return value === 0 ? "0" : Number(value.toPrecision(3)).toLocaleString("en");
  }

  function tick(unit, value, ticks) {
    if (unit === "time") return clock(value, ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1000);
    if (unit === "By" || unit === "By/s") return value === 0 ? "0" : bytes(value);
    if (unit === "1") return `${Number((100 * value).toPrecision(6))} %`;
    return Number(value.toPrecision(6)).toLocaleString("en");
  }

  function nearest(times, at) {
    let low = 0, high = times.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (times[middle] < at) low = middle + 1; else high = middle; }
    return low > 0 && at - times[low - 1] < times[low] - at ? low - 1 : low;
  }

  // what every line says at this time, in the legends of all charts
  function point(at) {
    if (page === null || !Number.isFinite(at)) return;
    const rows = page.tables.map((table) => nearest(table.data.time, at));
    for (const place of places) {
      const table = page.tables[place.dataset.table], row = rows[place.dataset.table];
      const beyond = at > table.data.time[table.data.time.length - 1] + 1000;
      place.textContent = beyond ? "ended" : said(place.dataset.unit, table.data[place.dataset.column][row]);
    }
    let text = clock(at, 10);
    if (facts.started_at !== null) text += " · " + new Date(1000 * facts.started_at + at).toLocaleString();
    output.textContent = text;
    page.cursor.location = at;
    slider.value = at;
    slider.setAttribute("aria-valuetext", text);
  }

  function move(from, to) {
    const [low, high] = page.time.bounds, length = Math.min(high - low, Math.max(to - from, 10));
    const start = Math.min(Math.max(from, low), high - length);
    page.time.setv({ start, end: start + length });
  }

  function act(name) {
    const { start, end } = page.time, length = end - start;
    const at = Number(slider.value) >= start && Number(slider.value) <= end ? Number(slider.value) : (start + end) / 2;
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

  function repaint() {
    for (const plot of page.plots) plot.change.emit();
  }

  // as much of each name as its bar has room for, from where it is in sight
  function fit() {
    if (page === null || page.fitting) return;
    page.fitting = true;
    requestAnimationFrame(() => {
      page.fitting = false;
      const { start, end } = page.time;
      for (const [plot, bars] of page.bars) {
        const pixels = Bokeh.index.get_by_id(plot.id).frame.bbox.width / (end - start);
        const data = bars.data, at = [], fits = [];
        for (let bar = 0; bar < data.name.length; bar += 1) {
          at.push(Math.max(data.begin[bar], start));
          const room = Math.floor(((Math.min(data.end[bar], end) - at[bar]) * pixels - 6) / LETTER);
          const name = data.name[bar];
          fits.push(room >= name.length ? name : room >= 4 ? name.slice(0, room - 1) + "…" : "");
        }
        bars.data = { ...data, at, fits };
      }
    });
  }

  // paper has another width, and is always light: pictures of the charts take their places
  function picture() {
    const before = root.dataset.theme;
    root.dataset.theme = "light";
    for (const plot of page.plots) {
      const place = document.getElementById("chart-" + plot.name);
      let image = place.querySelector("img");
      if (image === null) { image = document.createElement("img"); image.alt = ""; place.append(image); }
      image.src = Bokeh.index.get_by_id(plot.id).export("png", true).canvas.toDataURL();
      place.classList.add("drawn");
    }
    if (before === undefined) delete root.dataset.theme; else root.dataset.theme = before;
    repaint();
  }

  function ready() {
    const documents = window.Bokeh === undefined ? [] : Bokeh.documents;
    if (documents.length === 0 || !documents[0].is_idle) return void requestAnimationFrame(ready);
    const made = documents[0];
    const plots = made.roots();
    page = { time: made.get_model_by_name("time"), cursor: made.get_model_by_name("cursor"), tables: [], plots, bars: [], fitting: false };
    for (const plot of plots) {
      const bars = made.get_model_by_name("bars-" + plot.name);
      if (bars !== null) page.bars.push([plot, bars]);
      Bokeh.index.get_by_id(plot.id).canvas.events_el.tabIndex = -1;  // a picture; what can be done is in the buttons
    }
    for (let table = made.get_model_by_name("table0"); table; table = made.get_model_by_name(`table${page.tables.length}`))
      page.tables.push(table);
    if (matchMedia("(pointer: coarse)").matches)  // a finger scrolls the page; the buttons zoom
      for (const plot of plots) {
        for (const tool of plot.toolbar.tools) if (tool.name === "gesture") tool.active = false;
        Bokeh.index.get_by_id(plot.id).canvas.events_el.style.touchAction = "auto";  // Bokeh 3.10 sets it too early
      }
    for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act));
    slider.addEventListener("input", () => point(Number(slider.value)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    addEventListener("beforeprint", picture);
    addEventListener("resize", () => setTimeout(fit, 200));
    fit();
    root.dataset.ready = String(Math.round(performance.now()));
  }

  addEventListener("DOMContentLoaded", () => requestAnimationFrame(ready));
  return { said, tick, point, fit };
})();
