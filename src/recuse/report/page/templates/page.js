"use strict";
(() => {
  // Charts: the ink is the page's own, by CSS variables, so light, dark and print need no redraw.
  for (const figure of document.querySelectorAll("figure[id^='figure-']")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const options = { actions: false, renderer: "svg", ast: true };
    window.vegaEmbed(figure.querySelector(".chart"), spec, options).catch((error) => {
      figure.querySelector(".chart").textContent = "This chart could not be drawn: " + error.message;
    });
  }

  // Tables: a click on a heading sorts by it, a second click turns the order around.
  const key = (row, column) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? Number(cell.dataset.v) : cell.classList.contains("n") ? null : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      // What is not defined stays at the end in either order.
      rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
      table.querySelectorAll("tr.start").forEach((row) => row.classList.remove("start"));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  }

  // The contents list follows the reader.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
      }
    }, { rootMargin: "-15% 0px -70% 0px" });
    document.querySelectorAll("main > section").forEach((section) => seen.observe(section));
  }

  // Nothing stays folded on paper.
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => { d.open = true; });
  });
})();
