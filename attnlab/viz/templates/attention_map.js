"use strict";
// Every weight is read from its table cell.
const STRONG = 0.62, FAINT = 0.02;

function paint(element, share, negative = false) {
  element.style.setProperty("--w", share);
  element.classList.toggle("negative", negative);
  element.classList.toggle("strong", share > STRONG);
  element.classList.toggle("faint", share < FAINT);
}

// Isolate the text direction of a word from the surrounding text.
function isolate(word) {
  return `\u2068${word.textContent}\u2069`;
}

function setUp(section) {
  const columns = [...section.querySelectorAll(".columns button")];
  const rows = [...section.querySelectorAll(".rows button")];
  const heads = [...section.querySelectorAll("thead th:not(.sum)")];
  const tableRows = [...section.querySelectorAll("tbody tr:not(.group)")];
  const cells = tableRows.map(row => [...row.querySelectorAll("td:not(.sum)")]);
  const weights = cells.map(row => row.map(cell => Number(cell.textContent || 0)));
  const status = section.querySelector(".status");
  const scales = tableRows.map(row => row.closest("tbody").dataset);
  let kept = null;

  function show(element, t, s) {
    const share = Math.abs(weights[t][s]) / Number(scales[t].top);
    paint(element, "squareRoot" in scales[t] ? Math.sqrt(share) : share, weights[t][s] < 0);
  }

  cells.forEach((row, t) => row.forEach((cell, s) => show(cell, t, s)));

  function clear() {
    for (const button of [...columns, ...rows]) {
      paint(button, 0);
      button.classList.remove("chosen");
      button.setAttribute("aria-pressed", "false");
    }
    for (const element of section.querySelectorAll("table .chosen")) element.classList.remove("chosen");
    status.textContent = "";
  }

  function showMeans() {
    clear();
    for (const word of columns) paint(word, Math.abs(word.dataset.mean), word.dataset.mean < 0);
  }

  function announce(word, verb, words, of) {
    const largest = of.map((weight, i) => [weight, i]).filter(([weight]) => Math.abs(weight) >= 0.01);
    largest.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
    const list = largest.slice(0, 5).map(([weight, i]) => `${isolate(words[i])} ${weight.toFixed(3)}`);
    status.textContent = `${isolate(word)} ${verb} ${list.join(", ") || "no weight of 0.01 or more"}`;
  }

  function highlight(button) {
    clear();
    const t = rows.indexOf(button), s = columns.indexOf(button);
    button.classList.add("chosen");
    if (button === kept) button.setAttribute("aria-pressed", "true");
    if (t >= 0) {
      columns.forEach((word, i) => show(word, t, i));
      tableRows[t].classList.add("chosen");
      announce(button, "attended to", columns, weights[t]);
    } else {
      const column = weights.map(row => row[s]);
      rows.forEach((word, i) => show(word, i, s));
      heads[s].classList.add("chosen");
      cells.forEach(row => row[s].classList.add("chosen"));
      announce(button, "was attended to by", rows, column);
    }
  }

  function restore() {
    const focused = section.contains(document.activeElement) && document.activeElement.matches(".words button");
    if (kept) highlight(kept);
    else if (focused && document.activeElement.matches(":focus-visible")) highlight(document.activeElement);
    else showMeans();
  }

  for (const words of [columns, rows]) {
    words.forEach((button, i) => {
      button.tabIndex = i === 0 ? 0 : -1;
      button.addEventListener("mouseenter", () => highlight(button));
      button.addEventListener("mouseleave", restore);
      button.addEventListener("focus", () => {
        words.forEach(other => { other.tabIndex = other === button ? 0 : -1; });
        highlight(button);
      });
      button.addEventListener("blur", restore);
      button.addEventListener("click", () => {
        kept = kept === button ? null : button;
        highlight(button);
      });
      button.addEventListener("keydown", event => {
        const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: words.length - 1 }[event.key];
        if (to !== undefined && words[to]) {
          event.preventDefault();
          words[to].focus();
        }
      });
    });
  }
  tableRows.forEach((row, t) => {
    row.addEventListener("mouseenter", () => highlight(rows[t]));
    row.addEventListener("mouseleave", restore);
  });
  section.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      kept = null;
      showMeans();
    }
  });
  showMeans();
}

document.querySelectorAll(".prediction").forEach(setUp);
