"use strict";
const STRONG = 0.62, PALE = 32, TABLE_COLUMNS = 40, TABLE_CELLS = 1600, LONG = 60, THUMBNAIL = 96;
const data = JSON.parse(document.getElementById("data").textContent);

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// One stop for Tab in a list, and the arrow keys inside it.
function roving(items, step = 1) {
  items.forEach((item, i) => {
    item.tabIndex = i === 0 ? 0 : -1;
    item.addEventListener("focus", () => items.forEach(other => { other.tabIndex = other === item ? 0 : -1; }));
    item.addEventListener("keydown", event => {
      const onward = getComputedStyle(item.parentElement).direction === "rtl" ? -1 : 1;
      const to = {
        ArrowLeft: i - onward, ArrowRight: i + onward, ArrowUp: i - step, ArrowDown: i + step, Home: 0, End: items.length - 1,
      }[event.key];
      if (to !== undefined && items[to]) {
        event.preventDefault();
        items[to].focus();
      }
    });
  });
}

// Attributions: a part of the input is marked, with its number and rank, in every method.
function setUpMethods() {
  const methods = [...document.querySelectorAll("div.method")].map(section => ({
    value: section.querySelector(".value"),
    parts: [...section.querySelectorAll(".parts")].map(group => [...group.querySelectorAll("[title]")]),
  }));
  for (const method of methods) {
    method.numbers = method.parts.flat().map(item => Number(item.title));
    method.order = [...method.numbers].sort((a, b) => b - a);
  }

  function clear() {
    for (const method of methods) {
      method.value.textContent = "";
      for (const item of method.parts.flat()) item.classList.remove("here");
    }
  }

  function name(item, part, i) {
    const columns = Number(item.parentElement.dataset.columns || 0);
    return columns ? `row ${Math.floor(i / columns) + 1}, column ${i % columns + 1}` : item.textContent;
  }

  function mark(part, i) {
    clear();
    for (const method of methods) {
      const item = method.parts[part][i], value = Number(item.title);
      const rank = 1 + method.order.findIndex(other => other <= value);
      const place = Number.isNaN(value) ? "" : ` (${rank} of ${method.order.length} from the top)`;
      item.classList.add("here");
      method.value.textContent = `\u2068${name(item, part, i)}\u2069: ${item.title.replace("-", "\u2212")}${place}`;
    }
  }

  for (const method of methods) {
    method.parts.forEach((items, part) => {
      const columns = items.length ? Number(items[0].parentElement.dataset.columns || 1) : 1;
      roving(items, columns);
      items.forEach((item, i) => {
        item.setAttribute("role", "img");
        item.setAttribute("aria-label", `${name(item, part, i)}: ${item.title}`);
        item.addEventListener("mouseenter", () => mark(part, i));
        item.addEventListener("focus", () => mark(part, i));
        item.addEventListener("click", () => mark(part, i));
        item.addEventListener("blur", clear);
      });
    });
  }
  document.getElementById("methods").parentElement.addEventListener("mouseleave", clear);
  document.addEventListener("keydown", event => { if (event.key === "Escape") clear(); });
}

function bytes(text) {
  return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}

// The weights of a head: rows of arrays.
function unpack(head, rows, columns) {
  const units = bytes(head.weights), kept = units.length / Math.max(rows, 1);
  const places = head.places ? new Uint16Array(bytes(head.places).buffer) : null;
  const value = unit => (head.signed ? (unit - 128) / 127 : unit / 255) * head.top;
  return Array.from({ length: rows }, (_, row) => {
    const weights = new Float32Array(columns);
    for (let i = 0; i < kept; i++) weights[places ? places[row * kept + i] : i] = value(units[row * kept + i]);
    return weights;
  });
}

function share(weight, head, columns) {
  const part = Math.min(Math.abs(weight) / head.top, 1);
  return columns * head.top > PALE ? Math.sqrt(part) : part;
}

function drawThumbnail(canvas, weights, head) {
  const rows = weights.length, columns = weights[0].length;
  canvas.width = Math.min(columns, THUMBNAIL);
  canvas.height = Math.min(rows, THUMBNAIL);
  const strongest = new Float32Array(canvas.width * canvas.height);
  weights.forEach((row, t) => row.forEach((weight, s) => {
    const y = Math.floor(t * canvas.height / rows), x = Math.floor(s * canvas.width / columns);
    const at = y * canvas.width + x;
    if (Math.abs(weight) > Math.abs(strongest[at])) strongest[at] = weight;
  }));
  const context = canvas.getContext("2d"), pixels = context.createImageData(canvas.width, canvas.height);
  strongest.forEach((weight, i) => {
    const color = weight < 0 ? [235, 87, 66] : [59, 142, 234];
    pixels.data.set([...color, Math.round(255 * share(weight, head, columns))], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
}

function paint(item, weight, head, columns) {
  const strength = share(weight, head, columns);
  item.style.setProperty("--w", strength.toFixed(3));
  item.classList.toggle("negative", weight < 0);
  item.classList.toggle("strong", strength > STRONG);
}

function number(weight) {
  return weight.toFixed(3).replace("-", "\u2212");
}

// A word may be a comma, or run from right to left.
function quoted(text) {
  return `\u201c\u2068${text}\u2069\u201d`;
}

function words(labels, kind, title) {
  const buttons = labels.texts.map(text => element("button", { type: "button" }, [element("bdi", { textContent: text })]));
  const long = labels.texts.length > LONG ? " long" : "";
  const group = element("div", { className: `words ${kind}${long}`, dir: labels.direction || "ltr" }, buttons);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title);
  buttons.forEach(button => button.setAttribute("aria-pressed", "false"));
  return [group, buttons];
}

function imageGrid(labels) {
  const cells = labels.texts.map(() => element("i"));
  const grid = element("div", { className: "grid" }, cells);
  grid.style.setProperty("--columns", labels.columns);
  return [element("div", { className: "image" }, [grid]), cells];
}

function table(weights, queries, keys, head) {
  const top = element("tr", {}, [element("td")]);
  for (const text of keys.texts) {
    top.append(element("th", { scope: "col" }, [element("span", {}, [element("bdi", { textContent: text })])]));
  }
  const body = element("tbody");
  weights.forEach((row, t) => {
    const line = element("tr", {}, [element("th", { scope: "row" }, [element("bdi", { textContent: queries.texts[t] })])]);
    row.forEach(weight => {
      const cell = element("td", { textContent: Math.abs(weight) < 0.005 ? "" : weight.toFixed(2).replace(/^(-?)0/, "$1") });
      paint(cell, weight, head, row.length);
      line.append(cell);
    });
    body.append(line);
  });
  const region = element("div", { className: "scroll", tabIndex: 0 }, [element("table", {}, [element("thead", {}, [top]), body])]);
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", "Table of weights");
  return region;
}

// The large map: the queries as words; the selected one colors the keys, a selected key the queries.
function open(layer, index) {
  const head = layer.heads[index], queries = data.labels[layer.queries], keys = data.labels[layer.keys];
  const weights = unpack(head, queries.texts.length, keys.texts.length), columns = keys.texts.length;
  const place = document.getElementById("map");
  const status = element("p", { className: "status" });
  status.setAttribute("role", "status");
  const [rowGroup, rows] = words(queries, "rows", "attending");
  const [keyGroup, keyItems] = layer.image ? imageGrid(keys) : words(keys, "columns", "attended to");
  const of = layer.of > 1 ? `, head ${head.number} of ${layer.of}` : "";
  place.replaceChildren(
    element("h3", { textContent: layer.title + of }), status,
    element("p", { className: "label", textContent: `the strongest color is ${number(head.top)}; attended to:` }), keyGroup,
    element("p", { className: "label", textContent: "attending (select one):" }), rowGroup,
  );
  const small = columns <= TABLE_COLUMNS && columns * weights.length <= TABLE_CELLS;
  if (small && !layer.image && rows.length > 1) place.append(table(weights, queries, keys, head));
  let kept = rows.length === 1 ? rows[0] : null;

  function clear() {
    for (const item of [...rows, ...keyItems]) {
      item.style.setProperty("--w", 0);
      item.classList.remove("chosen", "strong", "negative");
      if (item.tagName === "BUTTON") item.setAttribute("aria-pressed", String(item === kept));
    }
  }

  function announce(name, verb, texts, values) {
    const largest = [...values].map((value, i) => [value, i]).filter(([value]) => Math.abs(value) >= 0.005);
    largest.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
    const list = largest.slice(0, 5).map(([value, i]) => `${quoted(texts[i])} ${number(value)}`);
    status.textContent = `${quoted(name)} ${verb} ${list.join(", ") || "no weight of 0.005 or more"}`;
  }

  function show(item) {
    const t = rows.indexOf(item), s = keyItems.indexOf(item);
    clear();
    if (t >= 0) {
      keyItems.forEach((key, i) => paint(key, weights[t][i], head, columns));
      announce(queries.texts[t], "attends to", keys.texts, weights[t]);
    } else if (s >= 0) {
      rows.forEach((row, i) => paint(row, weights[i][s], head, columns));
      announce(keys.texts[s], "is attended to by", queries.texts, weights.map(row => row[s]));
    } else {
      const means = keyItems.map((_, i) => weights.reduce((sum, row) => sum + row[i], 0) / weights.length);
      const strongest = { top: Math.max(...means.map(Math.abs)) || 1 };
      keyItems.forEach((key, i) => paint(key, means[i], strongest, 1));
      status.textContent = `mean of all ${weights.length} rows: colors are relative to the largest, ${number(strongest.top)}`;
      return;
    }
    item.classList.add("chosen");
  }

  for (const items of layer.image ? [rows] : [rows, keyItems]) {
    roving(items);
    for (const item of items) {
      item.addEventListener("mouseenter", () => show(item));
      item.addEventListener("mouseleave", () => show(kept));
      item.addEventListener("focus", () => show(item));
      item.addEventListener("blur", () => show(kept));
      item.addEventListener("click", () => { kept = kept === item ? null : item; show(item); });
    }
  }
  if (layer.image) keyItems.forEach((cell, s) => {
    cell.addEventListener("mouseenter", () => show(cell));
    cell.addEventListener("mouseleave", () => show(kept));
  });
  place.onkeydown = event => { if (event.key === "Escape") { kept = null; show(null); } };
  show(kept);
}

function setUpHeads() {
  const place = document.getElementById("heads"), buttons = [];
  if (!place) return;
  let kind = "";
  for (const layer of data.layers) {
    const queries = data.labels[layer.queries].texts.length, keys = data.labels[layer.keys].texts.length;
    if (layer.option !== kind && data.layers.length > 1) {
      place.append(element("h3", { textContent: layer.title.replace(/, layer \d+$/, "") }));
    }
    kind = layer.option;
    const alike = data.layers.filter(other => other.option === kind).length;
    const heads = layer.heads.map((head, index) => {
      const canvas = element("canvas"), several = layer.of > 1;
      drawThumbnail(canvas, unpack(head, queries, keys), head);
      const button = element("button", { type: "button", className: "head" }, [canvas]);
      if (several) button.append(`head ${head.number}`);
      button.classList.toggle("flat", keys > 3 * queries);
      button.classList.toggle("bad", head.bad);
      if (head.bad) button.append(" NaN");
      button.setAttribute("aria-label", `${layer.title}${several ? `, head ${head.number}` : ""}`);
      button.addEventListener("click", event => {
        buttons.forEach(other => other.setAttribute("aria-pressed", String(other === button)));
        open(layer, index);
        if (event.isTrusted) document.getElementById("map").scrollIntoView({ block: "nearest" });
      });
      button.setAttribute("aria-pressed", "false");
      buttons.push(button);
      return button;
    });
    place.append(element("div", { className: "layer" }, [
      element("span", { textContent: alike > 1 ? `layer ${layer.layer}` : "" }), element("div", {}, heads),
    ]));
  }
  roving(buttons, data.layers.length ? data.layers[0].heads.length : 1);
  if (buttons.length) buttons[0].click();
  place.hidden = buttons.length === 1;
}

setUpMethods();
setUpHeads();
