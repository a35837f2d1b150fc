// Follows tables.js in the page.
const parse = html => new DOMParser().parseFromString(html, "text/html");
const fetched = async query => {
  const answer = await fetch("./" + query, {cache: "no-store", signal: AbortSignal.timeout(10000)});
  if (!answer.ok) throw new Error(answer.status);
  return parse(await answer.text());
};
const shown = new Map();
for (const part of document.querySelectorAll("[data-part]")) shown.set(part.id, part.innerHTML);
// Keeps the topmost visible stall in place when others are inserted above it.
const anchor = () => [...document.querySelectorAll("details.stall")]
  .find(each => each.checkVisibility() && each.getBoundingClientRect().bottom > 0);
function swap(fresh, ids) {
  const seen = scrollY > 0 && anchor(), top = seen && seen.getBoundingClientRect().top;
  const focused = document.activeElement?.closest?.("details[id]")?.id;
  const row = document.activeElement?.closest?.("#kinds tr")?.dataset.key;
  for (const id of ids) {
    const now = document.getElementById(id), next = fresh.getElementById(id);
    if (!next || shown.get(id) === next.innerHTML) continue;
    shown.set(id, next.innerHTML);
    for (const each of next.querySelectorAll("details[id]")) {
      const before = document.getElementById(each.id);
      if (before && before.dataset.state === each.dataset.state) each.open = before.open;
    }
    now.replaceWith(next);
  }
  const table = document.getElementById("kinds-table");
  arrange(table);
  if (row) document.querySelector(`#kinds tr[data-key="${row}"] a`)?.focus({preventScroll: true});
  if (focused) document.getElementById(focused)?.querySelector("summary").focus({preventScroll: true});
  const same = seen && document.getElementById(seen.id);
  if (same) scrollBy({top: same.getBoundingClientRect().top - top, behavior: "instant"});
}
async function refresh() {
  const lost = document.getElementById("lost");
  // Do not replace text that the user is selecting.
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    let fresh = await fetched("?news");
    const before = document.getElementById("state").dataset.ended;
    if (fresh.getElementById("state").dataset.ended !== before) fresh = await fetched("");
    swap(fresh, ["state", "figures", "kinds", "ongoing", "ended", "health"]);
    lost.className = "";
  } catch (error) {
    if (!lost.className) {
      lost.textContent = "The agent has not answered since " + new Date().toLocaleTimeString() + ".";
    }
    lost.className = "shown";
  }
}
(async () => { for (;;) { await new Promise(next => setTimeout(next, 2000)); await refresh(); } })();
