"use strict";
(() => {
  const sign = "\u2212";
  const units = { M: 1e6, h: 3600, min: 60, s: 1 };

  // What a cell says, as a number if it begins with one: "61.0 ± 1.2", "2.1 M", "5 min 10 s", "[−2.0, 8.0]"; NaN if not.
  const number = (said) => {
    const plain = said.trim().replaceAll(sign, "-").replace(/(\d),(?=\d{3})/g, "$1").replace(/^[[<]\s*/, "");
    const time = plain.match(/^(?:[\d.]+ (?:h|min|s) ?)+$/) ? [...plain.matchAll(/([\d.]+) (h|min|s)/g)] : [];
    if (time.length) return time.reduce((sum, [, many, unit]) => sum + many * units[unit], 0);
    const found = plain.match(/^([+-]?[\d.]+)( M)?/);
    return found ? found[1] * (found[2] ? units.M : 1) : NaN;
  };

  const text = (row, column) => (row.cells[column] ? row.cells[column].textContent.trim() : "");

  // Numbers before words, and what is missing last, whichever way round.
  const compare = (column, down) => (one, other) => {
    const [a, b] = [text(one, column), text(other, column)];
    const [x, y] = [number(a), number(b)];
    if (column > 0 && isNaN(x) !== isNaN(y)) return isNaN(x) - isNaN(y);
    const words = column === 0 || isNaN(x);
    return (down ? -1 : 1) * (words ? a.localeCompare(b, undefined, { numeric: true }) : x - y);
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : column > 0; // of numbers, the largest first
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        for (const body of table.tBodies) body.append(...[...body.rows].sort(compare(column, down)));
      });
    });
  };

  const tools = (box) => {
    box.hidden = false;
    const hide = () => {
      for (const check of box.querySelectorAll("input[type=checkbox]"))
        for (const part of document.querySelectorAll(`[data-arm="${check.value}"]`)) part.hidden = !check.checked;
    };
    const search = box.querySelector("input[type=search]");
    const find = () => {
      const wanted = search.value.trim().toLowerCase();
      const rows = document.getElementById(search.dataset.rows).tBodies[0].rows;
      let left = 0;
      for (const row of rows) left += !(row.hidden = !text(row, 0).toLowerCase().includes(wanted));
      box.querySelector("output").textContent = wanted ? `${left} of ${rows.length}` : "";
    };
    box.addEventListener("input", search ? find : hide);
  };

  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll(".tools").forEach(tools);
})();
