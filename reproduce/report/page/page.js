// Filters, the choice of light or dark, and the curves. Nothing here asks a server for anything.
"use strict";
(() => {
  const root = document.documentElement;
  const drawn = [];

  // -- light and dark ---------------------------------------------------------------------------------
  const themeButton = document.getElementById("theme");
  function setTheme(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    themeButton.setAttribute("aria-pressed", String(dark));
    drawn.forEach((redraw) => redraw());
  }
  setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches);
  themeButton.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));

  // -- search and filters -----------------------------------------------------------------------------
  const search = document.getElementById("search");
  const selects = ["state", "setting", "scale"].map((id) => document.getElementById(id)).filter(Boolean);
  const articles = [...document.querySelectorAll("article")];
  const texts = new Map(articles.map((article) => [article, article.textContent.toLowerCase()]));
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const article of articles) {
      const fits = words.every((word) => texts.get(article).includes(word))
        && selects.every((s) => !s.value || article.dataset[s.id].split("\n").includes(s.value));
      article.hidden = !fits;
      document.querySelector(`tr[data-item="${CSS.escape(article.id)}"]`).hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} shown`;
  }
  search.addEventListener("input", filter);
  selects.forEach((select) => select.addEventListener("change", filter));
  document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());

  // -- curves -----------------------------------------------------------------------------------------
  const format = (value) => value == null ? "–" : Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

  function element(name, parent, text) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  /** One chart with its buttons. `chart` is {label, scale, x, series: [{run, layer, colour, x, y}]}. */
  function draw(parent, chart) {
    const box = element("div", parent);
    box.className = "chart";
    element("h3", box, chart.label);
    const off = { run: new Set(), layer: new Set() };
    let scale = chart.scale;
    let plot = null;

    for (const facet of ["run", "layer"]) {
      const names = [...new Set(chart.series.map((s) => s[facet]))].filter(Boolean);
      if (names.length < 2) continue;
      const group = element("fieldset", box);
      element("legend", group, facet === "run" ? "Runs" : "Layers");
      for (const name of names) {
        const button = element("button", group);
        button.type = "button";
        const colours = new Set(chart.series.filter((s) => s[facet] === name).map((s) => s.colour));
        if (colours.size === 1) {
          const swatch = element("span", button);
          swatch.className = "swatch";
          swatch.style.background = [...colours][0];
        }
        button.append(name);
        button.setAttribute("aria-pressed", "true");
        button.addEventListener("click", () => {
          const on = off[facet].delete(name);
          if (!on) off[facet].add(name);
          button.setAttribute("aria-pressed", String(on));
          show();
        });
      }
    }
    const axis = element("fieldset", box);
    const log = element("button", axis, "Log axis");
    log.type = "button";
    log.setAttribute("aria-pressed", String(scale === "log"));
    log.addEventListener("click", () => {
      scale = scale === "log" ? "linear" : "log";
      log.setAttribute("aria-pressed", String(scale === "log"));
      build();
    });
    const readout = element("output", box, "Move over the curves to read a value.");
    readout.className = "readout";
    const canvas = element("div", box);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${chart.label} over ${chart.x}. ${summary(chart)}`);

    const visible = (s) => !off.run.has(s.run) && !off.layer.has(s.layer);
    const show = () => chart.series.forEach((s, i) => plot.setSeries(i + 1, { show: visible(s) }));

    function build() {
      if (plot) plot.destroy();
      const style = getComputedStyle(root);
      const ink = style.getPropertyValue("--ink"), line = style.getPropertyValue("--line");
      const positive = (y) => scale === "log" ? y.map((v) => v > 0 ? v : null) : y;
      const joined = uPlot.join(chart.series.map((s) => [s.x, positive(s.y)]));
      const look = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
      plot = new uPlot({
        width: Math.max(280, canvas.clientWidth),
        height: 320,
        scales: { x: { time: false }, y: { distr: scale === "log" ? 3 : 1 } },
        cursor: { focus: { prox: 24 }, drag: { x: true, y: true, uni: 20 } },
        focus: { alpha: 0.25 },
        legend: { show: false },
        axes: [{ ...look, label: chart.x }, { ...look, size: 62 }],
        series: [{}, ...chart.series.map((s) => ({
          label: [s.run, s.layer].filter(Boolean).join(", "), stroke: s.colour, width: 1.6, spanGaps: true,
          show: visible(s), points: { show: s.x.length === 1 },
        }))],
        hooks: { setCursor: [read], setSeries: [read] },
      }, joined, canvas);
    }

    /** Says the value of the curve that is nearest to the cursor. */
    function read(u) {
      const { idx, left, top } = u.cursor;
      if (idx == null || left < 0) return;
      let best = null;
      for (let i = 1; i < u.series.length; i++) {
        if (!u.series[i].show) continue;
        let j = idx;
        while (j > 0 && u.data[i][j] == null) j--;
        const value = u.data[i][j];
        if (value == null) continue;
        const far = Math.abs(u.valToPos(value, "y") - top);
        if (!best || far < best.far) best = { far, i, value, step: u.data[0][j] };
      }
      if (best) readout.textContent = `${u.series[best.i].label} · ${chart.x} ${format(best.step)} · ${format(best.value)}`;
    }

    build();
    drawn.push(build);
    new ResizeObserver(() => plot.setSize({ width: Math.max(280, canvas.clientWidth), height: 320 })).observe(canvas);
  }

  /** What a reader without eyes on the chart should know: the last value of each curve. */
  function summary(chart) {
    const ends = chart.series.slice(0, 12).map((s) => `${[s.run, s.layer].filter(Boolean).join(", ")} ends at ${format(s.y[s.y.length - 1])}`);
    const more = chart.series.length - ends.length;
    return ends.join("; ") + (more > 0 ? `; and ${more} more curves.` : ".");
  }

  /** The curves of all figures by the figure's place: compressed JSON, which the browser itself unpacks. */
  async function unpack() {
    const packed = Uint8Array.from(atob(document.getElementById("curves").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  // A chart is drawn when it comes near the screen, so that a page of fifty figures opens at once. The rest are drawn
  // one by one while the browser has nothing else to do, and all of them before the page is printed.
  let data = null;
  const left = new Set(document.querySelectorAll("[data-charts]"));
  const show = (place) => {
    if (!left.delete(place)) return;
    near.unobserve(place);
    data[place.dataset.charts].forEach((chart) => draw(place, chart));
  };
  const near = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => show(entry.target));
  }, { rootMargin: "600px" });
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  const next = () => {
    const [place] = left;
    if (!place) return;
    show(place);
    later(next);
  };
  unpack().then((curves) => {
    data = curves;
    left.forEach((place) => near.observe(place));
    window.addEventListener("beforeprint", () => [...left].forEach(show));
    later(next);
  }, () => left.forEach((place) => element("p", place, "This browser cannot unpack the curves. A newer one can.")));

  // A link to a folded part unfolds it, as one does that leads to this page.
  const unfold = () => {
    const part = document.getElementById(location.hash.slice(1));
    if (part?.tagName === "DETAILS") part.open = true;
  };
  window.addEventListener("hashchange", unfold);
  unfold();
})();
