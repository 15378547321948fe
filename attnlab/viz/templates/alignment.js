"use strict";
// The tables are the data: every weight is read from its cell.
const STRONG = 0.62, FAINT = 0.02;

function paint(element, share, negative = false) {
  element.style.setProperty("--w", share);
  element.classList.toggle("negative", negative);
  element.classList.toggle("strong", share > STRONG);
  element.classList.toggle("faint", share < FAINT);
}

// A word among others, whatever the direction of its letters.
function apart(word) {
  return `\u2068${word.textContent}\u2069`;
}

function setUp(section) {
  const source = [...section.querySelectorAll(".source button")];
  const target = [...section.querySelectorAll(".target button")];
  const heads = [...section.querySelectorAll("thead th:not(.sum)")];
  const rows = [...section.querySelectorAll("tbody tr:not(.part)")];
  const cells = rows.map(row => [...row.querySelectorAll("td:not(.sum)")]);
  const weights = cells.map(row => row.map(cell => Number(cell.textContent || 0)));
  const said = section.querySelector(".said");
  const scales = rows.map(row => row.closest("tbody").dataset);
  let kept = null;

  function show(element, t, s) {
    const share = Math.abs(weights[t][s]) / Number(scales[t].top);
    paint(element, "rooted" in scales[t] ? Math.sqrt(share) : share, weights[t][s] < 0);
  }

  cells.forEach((row, t) => row.forEach((cell, s) => show(cell, t, s)));

  function clear() {
    for (const button of [...source, ...target]) {
      paint(button, 0);
      button.classList.remove("chosen");
      button.setAttribute("aria-pressed", "false");
    }
    for (const element of section.querySelectorAll("table .chosen")) element.classList.remove("chosen");
    said.textContent = "";
  }

  function rest() {
    clear();
    for (const word of source) paint(word, Math.abs(word.dataset.mean), word.dataset.mean < 0);
  }

  function say(word, verb, words, of) {
    const largest = of.map((weight, i) => [weight, i]).filter(([weight]) => Math.abs(weight) >= 0.01);
    largest.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
    const list = largest.slice(0, 5).map(([weight, i]) => `${apart(words[i])} ${weight.toFixed(3)}`);
    said.textContent = `${apart(word)} ${verb} ${list.join(", ") || "nothing by 0.01 or more"}`;
  }

  function light(button) {
    clear();
    const t = target.indexOf(button), s = source.indexOf(button);
    button.classList.add("chosen");
    if (button === kept) button.setAttribute("aria-pressed", "true");
    if (t >= 0) {
      source.forEach((word, i) => show(word, t, i));
      rows[t].classList.add("chosen");
      say(button, "attended to", source, weights[t]);
    } else {
      const column = weights.map(row => row[s]);
      target.forEach((word, i) => show(word, i, s));
      heads[s].classList.add("chosen");
      cells.forEach(row => row[s].classList.add("chosen"));
      say(button, "was attended to by", target, column);
    }
  }

  function settle() {
    const focused = section.contains(document.activeElement) && document.activeElement.matches(".words button");
    if (kept) light(kept);
    else if (focused && document.activeElement.matches(":focus-visible")) light(document.activeElement);
    else rest();
  }

  for (const words of [source, target]) {
    words.forEach((button, i) => {
      button.tabIndex = i === 0 ? 0 : -1;
      button.addEventListener("mouseenter", () => light(button));
      button.addEventListener("mouseleave", settle);
      button.addEventListener("focus", () => {
        words.forEach(other => { other.tabIndex = other === button ? 0 : -1; });
        light(button);
      });
      button.addEventListener("blur", settle);
      button.addEventListener("click", () => {
        kept = kept === button ? null : button;
        light(button);
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
  rows.forEach((row, t) => {
    row.addEventListener("mouseenter", () => light(target[t]));
    row.addEventListener("mouseleave", settle);
  });
  section.addEventListener("keydown", event => {
    if (event.key === "Escape") {
      kept = null;
      rest();
    }
  });
  rest();
}

document.querySelectorAll(".hypothesis").forEach(setUp);
