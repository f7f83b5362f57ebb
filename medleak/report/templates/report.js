"use strict";
// What was not measured has no data-sort and stays at the end, whichever way one sorts.
function order(a, b, way) {
  const x = a.key, y = b.key;
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a.at - b.at;
  const p = Number(x), q = Number(y);
  const numbers = x !== "" && y !== "" && !Number.isNaN(p) && !Number.isNaN(q);
  const sign = numbers ? p - q : x.localeCompare(y, "en", { numeric: true });
  return way * sign || a.at - b.at;
}
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    [...body.rows]
      .map((row, at) => ({ row, at, key: row.cells[column].dataset.sort }))
      .sort((a, b) => order(a, b, down ? -1 : 1))
      .forEach((entry) => body.append(entry.row));
  }));
});
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  document.querySelectorAll("table.sortable tbody tr").forEach((row) => {
    const text = row.textContent.toLowerCase();
    row.style.display = words.every((word) => text.includes(word)) ? "" : "none";
  });
});
