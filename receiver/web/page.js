// The receiver's page. Pictures arrive as a header (PICTURE_HEADER in messages.py) and a JPEG; everything else is JSON.

const HEADER_BYTES = 28;
const HEADER_VERSION = 1;
const FLAG = { concealed: 1, late: 2, uncertainty: 4, generated: 8, level: 16, source: 32 };
const SECONDS = 60;
const LEVELS = ["hold", "guide", "base", "carry", "bridge1", "bridge2", "bridge4"];
const LAYER_COLOURS = {
  guide: "#4f7fd6", anchor: "#e0a030", motion: "#3fa37c", semantics: "#a673c9", residual: "#dd6a5f",
  config: "#7f8791", overhead: "#a9b0b8",
};
const LEVEL_COLOURS = {
  hold: "#cf4b45", guide: "#e0a030", base: "#4f7fd6", carry: "#7cc4d4", bridge1: "#8fcfae",
  bridge2: "#4fae86", bridge4: "#23795a",
};

const $ = (id) => document.getElementById(id);
const nowS = () => performance.now() / 1000;
const digits = (value, places) => (value == null ? "–" : value.toFixed(places));

// --- the link to the server -----------------------------------------------------------------------------------------

let socket = null;
let retryMs = 500;

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/link${location.search}`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    retryMs = 500;
    drawnNumber = -1;
    if (waiting) waiting.number = -1;
    setNotice("");
    sendView();
    if (document.hidden) send({ type: "look", visible: false });
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? take(JSON.parse(data)) : takePicture(data));
  socket.onclose = ({ reason }) => {
    setLink("lost", reason || "no answer from the receiver");
    setTimeout(connect, retryMs);
    retryMs = Math.min(5000, 2 * retryMs);
  };
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function take(message) {
  if (message.type === "stats") takeStats(message);
  else if (message.type === "setup") takeSetup(message);
  else if (message.type === "notice") setNotice(message.text);
}

// --- pictures: the newest one that is decoded is drawn when the screen is next refreshed ----------------------------

const canvas = $("picture");
const context = canvas.getContext("2d", { alpha: false });
let waiting = null;
let drawnNumber = -1;
let drawnCount = 0;

async function takePicture(buffer) {
  const view = new DataView(buffer);
  if (view.getUint8(0) !== HEADER_VERSION) return setNotice("The receiver has another version: reload this page.");
  const picture = {
    from: socket, flags: view.getUint8(1), spentMs: view.getUint16(2, true) / 10, number: view.getUint32(4, true),
    slot: view.getUint32(8, true), timeS: Number(view.getBigInt64(12, true)) / 1e6,
    level: new TextDecoder().decode(new Uint8Array(buffer, 20, 8)).replace(/\0+$/, ""), bitmap: null,
  };
  try {
    picture.bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: "image/jpeg" }));
  } catch {
    return send({ type: "drawn", number: picture.number }); // out of the way, so that the next one comes
  }
  if (picture.from !== socket || picture.number < (waiting?.number ?? drawnNumber)) return picture.bitmap.close();
  if (waiting) waiting.bitmap.close();
  else requestAnimationFrame(draw);
  waiting = picture;
}

function draw() {
  const { bitmap, number, flags, level, spentMs, slot } = waiting;
  waiting = null;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    $("frame").style.setProperty("--aspect", `${bitmap.width} / ${bitmap.height}`);
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  drawnNumber = number;
  send({ type: "drawn", number });
  $("empty").hidden = true;
  $("drawn").textContent = ++drawnCount;
  canvas.dataset.slot = slot;
  const late = (flags & FLAG.late) !== 0;
  history.pictures.push({ t: nowS(), level, spentMs, late, concealed: (flags & FLAG.concealed) !== 0 });
}

document.addEventListener("visibilitychange", () => send({ type: "look", visible: !document.hidden }));

// --- what it says ---------------------------------------------------------------------------------------------------

const LINK_TEXTS = { waiting: "waiting for a stream", connected: "connected", silent: "the stream is silent" };

function setLink(link, text) {
  document.body.dataset.link = link;
  if ($("state-text").textContent !== text) $("state-text").textContent = text;
}

function setNotice(text) {
  $("notice").textContent = text;
}

function takeStats(stats) {
  setLink(stats.link, LINK_TEXTS[stats.link]);
  $("fps").textContent = digits(stats.fps, 1);
  $("rate").textContent = digits(stats.rate_bps / 1e3, 1);
  $("size").textContent = stats.width ? `${stats.width}×${stats.height}` : "–";
  $("level").textContent = stats.level || "–";
  $("spent").textContent = digits(stats.spent_ms, 1);
  $("screen").textContent = digits(stats.page.to_screen_ms, 0);
  $("delay-fact").hidden = stats.delay_ms == null;
  $("delay").textContent = digits(stats.delay_ms, 0);
  for (const name of ["shown", "concealed", "late"]) $(name).textContent = stats[name];
  $("dropped").textContent = stats.page.dropped;
  history.stats.push({ t: nowS(), ...stats });
  drawCharts();
}

// --- charts: the last minute, newest at the right --------------------------------------------------------------------

const history = { stats: [], pictures: [] };
let theme = {};

const CHARTS = [
  { title: "Rate by layer, kbit/s", tall: true, plot: plotRate, legend: true,
    value: ({ stats }) => stats && digits(stats.rate_bps / 1e3, 1) },
  { title: "Time for a picture, ms", plot: plotLatency,
    value: ({ picture, stats }) => picture && `${digits(picture.spentMs, 1)} of ${stats?.budget_ms ?? "any"}` },
  { title: "Level", plot: plotLevel, value: ({ picture }) => picture?.level },
  { title: "Expected error, sample steps", plot: plotUncertainty,
    value: ({ stats }) => stats && digits(stats.uncertainty, 2) + takenBack(stats) },
  { title: "Packets lost, %", plot: plotLoss, value: ({ stats }) => stats && digits(stats.loss_ratio * 100, 1) },
];

function makeCharts() {
  for (const chart of CHARTS) {
    const figure = document.createElement("figure");
    figure.className = chart.tall ? "tall" : "";
    const caption = document.createElement("figcaption");
    const title = document.createElement("span");
    title.textContent = chart.title;
    chart.output = document.createElement("b");
    caption.append(title, chart.output);
    chart.canvas = document.createElement("canvas");
    chart.canvas.setAttribute("role", "img");
    figure.append(caption, chart.canvas);
    if (chart.legend) figure.append((chart.legendBox = document.createElement("div")));
    if (chart.legend) chart.legendBox.className = "legend";
    chart.canvas.addEventListener("pointermove", (event) => {
      const box = chart.canvas.getBoundingClientRect();
      chart.pointed = (1 - (event.clientX - box.left) / box.width) * SECONDS;
      drawChart(chart);
    });
    chart.canvas.addEventListener("pointerleave", () => {
      chart.pointed = null;
      drawChart(chart);
    });
    $("charts").append(figure);
    new ResizeObserver(() => drawChart(chart)).observe(chart.canvas);
  }
}

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "soft", "grid", "bar", "bad", "violet"]) theme[name] = style.getPropertyValue(`--${name}`);
  drawCharts();
}

function drawCharts() {
  const oldest = nowS() - SECONDS - 1;
  for (const series of Object.values(history)) {
    const stale = series.findIndex(({ t }) => t >= oldest);
    series.splice(0, stale < 0 ? series.length : stale);
  }
  CHARTS.forEach(drawChart);
}

function at(series, t) {
  return series.findLast((point) => point.t <= t);
}

function drawChart(chart) {
  const { canvas, output, pointed } = chart;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const now = nowS();
  const x = (t) => width * (1 - (now - t) / SECONDS);
  chart.plot(pen, { width, height, x }, chart);
  const shownT = pointed == null ? now : now - pointed;
  if (pointed != null) line(pen, [[x(shownT), 0], [x(shownT), height]], theme.soft, 1);
  const value = chart.value({ stats: at(history.stats, shownT), picture: at(history.pictures, shownT) }) ?? "–";
  output.textContent = pointed == null ? value : `${value}, ${Math.round(pointed)} s ago`;
  canvas.setAttribute("aria-label", `${chart.title}: ${value}`);
}

function line(pen, points, colour, thickness = 1.5, dash = []) {
  pen.beginPath();
  points.forEach(([px, py], index) => (index ? pen.lineTo(px, py) : pen.moveTo(px, py)));
  pen.setLineDash(dash);
  pen.strokeStyle = colour;
  pen.lineWidth = thickness;
  pen.stroke();
  pen.setLineDash([]);
}

function scaleTo(most) {
  const step = 10 ** Math.floor(Math.log10(Math.max(most, 1e-6)));
  return [1, 2, 5, 10].map((factor) => factor * step).find((top) => top >= most) ?? most;
}

function axis(pen, { width, height }, top) {
  const y = (value) => height - 1 - (height - 12) * Math.min(1, value / top);
  for (const share of [0, 0.5, 1]) line(pen, [[0, y(top * share)], [width, y(top * share)]], theme.grid, 1);
  pen.fillStyle = theme.soft;
  pen.font = "10px system-ui, sans-serif";
  pen.fillText(Number(top.toPrecision(2)), 1, y(top) - 2);
  return y;
}

function plotRate(pen, area, chart) {
  const points = history.stats;
  const names = Object.keys(LAYER_COLOURS).filter((name) => points.some((point) => point.layer_bps[name] > 0));
  const layers = points.map((point) => names.map((name) => (point.layer_bps[name] ?? 0) / 1e3));
  const most = Math.max(1, ...points.map((point) => point.rate_bps / 1e3), ...layers.map((row) => sum(row)));
  const y = axis(pen, area, scaleTo(most));
  names.forEach((name, index) => {
    const upper = points.map((point, k) => [area.x(point.t), y(sum(layers[k].slice(0, index + 1)))]);
    const lower = points.map((point, k) => [area.x(point.t), y(sum(layers[k].slice(0, index)))]);
    pen.beginPath();
    [...upper, ...lower.reverse()].forEach(([px, py], k) => (k ? pen.lineTo(px, py) : pen.moveTo(px, py)));
    pen.fillStyle = LAYER_COLOURS[name];
    pen.fill();
  });
  line(pen, points.map((point) => [area.x(point.t), y(point.rate_bps / 1e3)]), theme.text, 1);
  if (chart.named !== names.join()) {
    chart.named = names.join();
    chart.legendBox.replaceChildren(...names.map(legendEntry));
  }
}

function legendEntry(name) {
  const entry = document.createElement("span");
  const patch = document.createElement("i");
  patch.style.background = LAYER_COLOURS[name];
  entry.append(patch, name);
  return entry;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

function plotLatency(pen, area) {
  const budget = history.stats.at(-1)?.budget_ms;
  const y = axis(pen, area, scaleTo(Math.max(1, budget ?? 0, ...history.pictures.map(({ spentMs }) => spentMs))));
  for (const { t, spentMs, late } of history.pictures) {
    pen.fillStyle = late ? theme.bad : theme.bar;
    pen.fillRect(area.x(t) - 0.75, y(spentMs) - 0.75, late ? 2.5 : 1.5, late ? 2.5 : 1.5);
  }
  if (budget != null) line(pen, [[0, y(budget)], [area.width, y(budget)]], theme.bad, 1, [4, 3]);
}

function plotLevel(pen, area) {
  const rows = LEVELS.length;
  const row = (level) => area.height - ((LEVELS.indexOf(level) + 1) * area.height) / rows;
  for (let k = 0; k <= rows; k++) line(pen, [[0, (k * area.height) / rows], [area.width, (k * area.height) / rows]], theme.grid, 1);
  history.pictures.forEach(({ t, level }, index) => {
    const next = history.pictures[index + 1]?.t ?? t + 0.05;
    pen.fillStyle = LEVEL_COLOURS[level] ?? theme.soft;
    pen.fillRect(area.x(t), row(level) + 1, Math.max(1, area.x(Math.min(next, t + 0.5)) - area.x(t) + 0.3), area.height / rows - 1);
  });
}

function takenBack({ taken_back: share }) {
  return share ? `, ${digits(share * 100, 1)} % shown as the base picture` : "";
}

function plotUncertainty(pen, area) {
  const points = history.stats.filter(({ uncertainty }) => uncertainty != null);
  const y = axis(pen, area, scaleTo(Math.max(1, ...points.map(({ uncertainty }) => uncertainty))));
  line(pen, points.map(({ t, uncertainty }) => [area.x(t), y(uncertainty)]), theme.violet);
}

function plotLoss(pen, area) {
  const y = axis(pen, area, scaleTo(Math.max(1, ...history.stats.map((point) => point.loss_ratio * 100))));
  line(pen, history.stats.map((point) => [area.x(point.t), y(point.loss_ratio * 100)]), theme.bad);
}

// --- views, recording, full screen ----------------------------------------------------------------------------------

const OVERLAY_BUTTONS = { uncertainty: $("uncertainty"), generated: $("generated"), level: $("level-overlay") };
const isOn = (button) => button.getAttribute("aria-pressed") === "true";
const turn = (button, on) => button.setAttribute("aria-pressed", String(on));

function sendView() {
  const overlays = Object.keys(OVERLAY_BUTTONS).filter((name) => isOn(OVERLAY_BUTTONS[name]));
  send({ type: "view", overlays, source: isOn($("source")) });
}

for (const button of [...Object.values(OVERLAY_BUTTONS), $("source")]) {
  button.addEventListener("click", () => {
    turn(button, !isOn(button));
    sendView();
  });
}

$("record").addEventListener("click", () => {
  setNotice("");
  send({ type: "record", on: !isOn($("record")) });
});

const frame = $("frame");
$("full").hidden = !document.fullscreenEnabled;
$("full").addEventListener("click", () => {
  const change = document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen();
  change.catch(() => setNotice("This browser does not allow full screen here."));
});
frame.addEventListener("dblclick", () => $("full").click());
document.addEventListener("fullscreenchange", () => turn($("full"), document.fullscreenElement !== null));

$("help").addEventListener("click", () => ($("keys").open ? $("keys").close() : $("keys").showModal()));

const KEYS = {
  u: "uncertainty", g: "generated", l: "level-overlay", s: "source", f: "full", r: "record", "?": "help",
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.matches("select")) return;
  const button = $(KEYS[event.key.toLowerCase()]);
  if (!button || ($("keys").open && button !== $("help"))) return;
  event.preventDefault();
  button.click();
});

// --- controls: what can be changed in this run, as the server says ---------------------------------------------------

const WAIT_MS = 100;

function takeSetup({ controls, recording, files, source }) {
  $("source").disabled = !source;
  $("record").disabled = recording === null;
  turn($("record"), recording === true);
  $("recording").hidden = recording !== true;
  $("files").hidden = files.length === 0;
  $("files").textContent = (recording ? "Recording to " : "Recorded to ") + files.join(", ");
  for (const control of controls) showControl(control);
}

const rows = new Map();

function showControl(control) {
  const kind = control.value === null ? "none" : control.choices.length ? "choice" : "range";
  let row = rows.get(control.name);
  if (row?.kind !== kind) {
    const made = makeRow(control, kind);
    row ? row.label.replaceWith(made.label) : $("controls").append(made.label);
    rows.set(control.name, (row = made));
  }
  row.control = control;
  if (kind !== "none" && row.touchedMs + 500 < performance.now()) row.set(control.value);
}

function makeRow(control, kind) {
  const label = document.createElement("label");
  const row = { label, kind, control, touchedMs: -1e9, timer: null };
  const output = document.createElement("output");
  label.append(control.label);
  if (kind === "choice") {
    const select = document.createElement("select");
    select.append(...control.choices.map((choice) => new Option(choice, choice)));
    select.addEventListener("change", () => offer(row, select.value));
    row.set = (value) => (select.value = value);
    label.append(select);
    return row;
  }
  const slider = document.createElement("input");
  slider.type = "range";
  [slider.min, slider.max, slider.step] = [0, 1, "any"];
  slider.disabled = kind === "none";
  row.set = (value) => {
    slider.value = toShare(row.control, value);
    output.textContent = slider.ariaValueText = written(row.control, value);
  };
  slider.addEventListener("input", () => {
    const value = fromShare(row.control, Number(slider.value));
    output.textContent = slider.ariaValueText = written(row.control, value);
    offer(row, value);
  });
  slider.addEventListener("keydown", (event) => nudge(event, row, slider));
  if (kind === "none") [slider.value, label.dataset.off, output.textContent] = [0, "", "not in this run"];
  label.append(output, slider);
  return row;
}

function nudge(event, row, slider) {
  const direction = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
  if (!direction) return;
  event.preventDefault();
  slider.value = Number(slider.value) + direction * 0.02;
  slider.dispatchEvent(new Event("input"));
}

function toShare({ least, most, logarithmic }, value) {
  if (most <= least) return 0;
  return logarithmic && least > 0 ? Math.log(value / least) / Math.log(most / least) : (value - least) / (most - least);
}

function fromShare({ least, most, logarithmic, step }, share) {
  const value = logarithmic && least > 0 ? least * (most / least) ** share : least + share * (most - least);
  return Math.min(most, Math.max(least, Math.round(value / step) * step));
}

function written({ scale, unit, step }, value) {
  const places = Math.max(0, Math.ceil(-Math.log10(step / scale)));
  return `${(value / scale).toFixed(places)} ${unit}`.trim();
}

function offer(row, value) {
  row.touchedMs = performance.now();
  row.offered = value;
  row.timer ??= setTimeout(() => {
    row.timer = null;
    send({ type: "set", name: row.control.name, value: row.offered });
  }, WAIT_MS);
}

makeCharts();
readTheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readTheme);
connect();
