"use strict";
// Sorting and searching of tables, and links to what a <details> hides. Without it, tables are complete and sorted
// by the server.
const rowsOf = table => [...table.tBodies[0].rows];
const keyOf = (row, place) => row.cells[place]?.dataset.value ?? row.cells[place]?.textContent.trim().toLowerCase();
const linkOf = row => row.querySelector("a[href^='#']");
const sortedBy = table => [...table.tHead.rows[0].cells].find(cell => /cending/.test(cell.ariaSort));

// Apply order and search; also after the rows have been replaced.
function arrange(table) {
  const by = sortedBy(table), rows = rowsOf(table);
  if (by && rows.every(row => row.cells.length > by.cellIndex)) {
    const place = by.cellIndex, sign = by.ariaSort === "ascending" ? 1 : -1;
    const compare = by.dataset.sort === "number" ? (a, b) => a - b : (a, b) => (a > b) - (a < b);
    rows.sort((a, b) => sign * compare(keyOf(a, place), keyOf(b, place)));
    if (rows.some((row, at) => row !== table.tBodies[0].rows[at])) table.tBodies[0].append(...rows);
  }
  const search = document.querySelector(`input[data-filters="${table.id}"]`);
  if (search) {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    const found = rows.filter(row => !row.hidden).length;
    search.closest("p").querySelector("output").textContent = search.value ? `${found} of ${rows.length} rows` : "";
  }
  rove(table);
}
// One row at a time is a tab stop; the arrow keys move between rows.
function rove(table, to) {
  const links = rowsOf(table).filter(row => !row.hidden).map(linkOf).filter(Boolean);
  const now = to ?? links.find(link => link === document.activeElement) ?? links[0];
  for (const link of links) link.tabIndex = link === now ? 0 : -1;
  return links;
}
function enhance(table) {
  for (const cell of table.tHead.rows[0].cells) {
    if (!cell.dataset.sort) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const first = cell.dataset.sort === "text" ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const next = cell.ariaSort === first ? other : first;
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      cell.ariaSort = next;
      arrange(table);
    });
  }
  table.addEventListener("focusin", event => { if (event.target.matches("tbody a")) rove(table, event.target); });
  table.addEventListener("keydown", event => {
    const step = {ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity}[event.key];
    const links = rove(table, event.target.closest("tbody a") ?? undefined), at = links.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + step))].focus();
  });
  const search = document.querySelector(`input[data-filters="${table.id}"]`);
  if (search) {
    search.closest("p").hidden = false;
    search.addEventListener("input", () => arrange(table));
  }
  arrange(table);
}
// Open what a link leads to, and everything around it.
function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement.closest("details")) if (each.matches("details")) each.open = true;
  target.scrollIntoView();
  target.querySelector("summary")?.focus({preventScroll: true});
}
document.querySelectorAll("table.sortable").forEach(enhance);
addEventListener("hashchange", reveal);
document.addEventListener("click", event => {
  if (event.target.closest?.("a[href^='#']")?.hash === location.hash) reveal();
});
reveal();
