"use strict";
// One viewer a slide: its picture, painted by layer and stage, and the patch that is pointed at.
// Every pixel of the picture knows its patch, so that 100,000 patches cost no more than ten.
(() => {
  const TYPES = { Int32: Int32Array, Float32: Float32Array, Uint16: Uint16Array, Uint8: Uint8Array };
  const DARK = [38, 42, 50], PALE = [236, 236, 236];
  const KEPT = 0, MERGED = 1, PRUNED = 2;
  const LEGIBLE_PX = 5, MOST_ZOOM = 24, ZOOM_STEP = 1.5;

  const decode = async ({ type, base64 }) => {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
    const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new TYPES[type](await new Response(inflated).arrayBuffer());
  };
  /** Put the decoded arrays of a part of the data beside its other values. */
  const decoded = async ({ arrays, ...values }) => {
    const names = Object.keys(arrays), found = await Promise.all(names.map((name) => decode(arrays[name])));
    return { ...values, ...Object.fromEntries(names.map((name, at) => [name, found[at]])) };
  };
  const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits });
  const percent = (share) => `${share >= 0.1 || share === 0 ? number(100 * share) : (100 * share).toPrecision(2)} %`;
  const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "es"}`;

  /** Patches, and at the budget in use their attention and their tokens after each stage; stage 0 is before the first. */
  class Slide {
    static async read(data) {
      return new Slide({ ...await decoded(data), budgets: await Promise.all(data.budgets.map(decoded)) });
    }

    constructor(values) {
      Object.assign(this, values);
      this.alone = Int32Array.from({ length: this.count }, (_, patch) => patch);
      this.use(this.trained);
    }

    use(budget) {
      Object.assign(this, this.budgets[budget]);
      this.ranked = this.alone.slice().sort((one, other) => this.attention[other] - this.attention[one] || one - other);
      this.rank = new Int32Array(this.count);
      this.ranked.forEach((patch, rank) => { this.rank[patch] = rank; });
    }

    after(stage) {
      const token = stage ? this.tokens.subarray((stage - 1) * this.count, stage * this.count) : this.alone;
      const size = new Int32Array(this.count);
      let tokens = 0, pruned = 0, merged = 0, shared = 0;
      for (const one of token) {
        if (one < 0) pruned++;
        else if (size[one]++ === 0) tokens++;
      }
      for (const many of size) if (many > 1) { shared++; merged += many; }
      return { stage, token, size, tokens, pruned, merged, shared };
    }
  }

  const fateAt = (state, patch) =>
    state.token[patch] < 0 ? PRUNED : state.size[state.token[patch]] > 1 ? MERGED : KEPT;

  /** Say which patch covers the centre of each pixel, the later one where two do; -1 for none. */
  function ownersOf(slide, width, height, pixel) {
    const owner = new Int32Array(width * height).fill(-1);
    for (let patch = 0; patch < slide.count; patch++) {
      const x = (slide.x[patch] - slide.origin[0]) / pixel, y = (slide.y[patch] - slide.origin[1]) / pixel;
      const left = Math.ceil(x - 0.5), top = Math.ceil(y - 0.5);
      const right = Math.min(width, Math.max(left + 1, Math.ceil(x + slide.size / pixel - 0.5)));
      const bottom = Math.min(height, Math.max(top + 1, Math.ceil(y + slide.size / pixel - 0.5)));
      for (let row = Math.max(0, top); row < bottom; row++) {
        if (right > Math.max(0, left)) owner.fill(patch, row * width + Math.max(0, left), row * width + right);
      }
    }
    return owner;
  }

  /** Choose each shared token's tint so that it differs from those that it touches. */
  function tintsOf(state, owner, width, count) {
    const touching = new Map();
    const shared = (at) => (at < owner.length && owner[at] >= 0 && fateAt(state, owner[at]) === MERGED
      ? state.token[owner[at]] : -1);
    for (let at = 0; at < owner.length; at++) {
      const one = shared(at);
      if (one < 0) continue;
      if (!touching.has(one)) touching.set(one, new Set());
      for (const other of [shared(at + 1), shared(at + width), shared(at + width + 1), shared(at + width - 1)]) {
        if (other < 0 || other === one) continue;
        if (!touching.has(other)) touching.set(other, new Set());
        touching.get(one).add(other);
        touching.get(other).add(one);
      }
    }
    const tint = new Map();
    for (const [one, others] of touching) {
      const taken = new Set([...others].map((other) => tint.get(other)));
      const wanted = (one * 7) % count;
      const choices = Array.from({ length: count }, (_, step) => (wanted + step) % count);
      tint.set(one, choices.find((choice) => !taken.has(choice)) ?? wanted);
    }
    return tint;
  }

  /** Move a pixel towards a colour: 0 leaves it, 1 replaces it. */
  const blend = (out, to, colour, share) => {
    for (let channel = 0; channel < 3; channel++) {
      out[to + channel] += share * (colour[channel] - out[to + channel]);
    }
  };

  /** Layers: each gives a function that changes the pixel at out[to], of a patch (-1: none), at an edge of its token. */
  const LAYERS = {
    slide: () => () => {},

    attention: ({ slide }) => (patch, out, to) => {
      const grey = 0.299 * out[to] + 0.587 * out[to + 1] + 0.114 * out[to + 2];
      const seen = patch >= 0 && slide.attention[patch] > 0, ground = patch < 0 ? grey + 0.65 * (255 - grey) : grey;
      const at = seen ? 3 * Math.round(slide.percentile[patch] / 100) : 0, light = 0.45 + 0.55 * grey / 255;
      for (let channel = 0; channel < 3; channel++) {
        out[to + channel] = seen ? light * slide.attentionColours[at + channel] : ground;
      }
    },

    merging: ({ slide, state, owner, width }) => {
      const tint = tintsOf(state, owner, width, slide.groupColours.length);
      return (patch, out, to, edge) => {
        if (patch < 0) return;
        const fate = fateAt(state, patch);
        if (fate === PRUNED) blend(out, to, PALE, 0.65);
        else if (fate === MERGED) blend(out, to, slide.groupColours[tint.get(state.token[patch])], edge ? 1 : 0.5);
        else if (edge) blend(out, to, slide.fateColours[KEPT], 1);
      };
    },

    pruning: ({ slide, state }) => (patch, out, to, edge) => {
      if (patch < 0) return;
      const fate = fateAt(state, patch);
      if (fate === PRUNED) blend(out, to, DARK, 0.88);
      else if (edge) blend(out, to, slide.fateColours[fate], 1);
    },
  };

  /** Paint a layer over the slide's pixels; edges are those between tokens. */
  function paint(layer, view) {
    const { pixels, owner, width, height, state, edgePx } = view;
    const painted = new ImageData(new Uint8ClampedArray(pixels), width, height), out = painted.data;
    const change = LAYERS[layer](view);
    const token = new Int32Array(owner.length);
    for (let at = 0; at < owner.length; at++) token[at] = owner[at] < 0 ? -2 : state.token[owner[at]];
    const between = (at, x, y) => {
      const own = token[at];
      return x < edgePx || y < edgePx || x + edgePx >= width || y + edgePx >= height || token[at - edgePx] !== own
        || token[at + edgePx] !== own || token[at - edgePx * width] !== own || token[at + edgePx * width] !== own;
    };
    const edges = edgePx > 0 && (layer === "merging" || layer === "pruning");
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        change(owner[at], out, 4 * at, edges && token[at] >= 0 && between(at, x, y));
      }
    }
    return painted;
  }

  class Viewer {
    constructor(card, slide) {
      this.slide = slide;
      this.root = card.querySelector(".viewer");
      this.map = this.root.querySelector(".map");
      [this.ground, this.marks] = this.map.querySelectorAll("canvas");
      this.live = this.root.querySelector("[aria-live=polite]");
      this.walk = this.root.querySelector("input[name=stage]");
      this.budget = this.root.querySelector("input[name=budget]");
      this.layer = "slide";
      this.selected = this.shown = -1;
      this.root.hidden = false;
      card.classList.add("live");
      this.read(card.querySelector(".panels img"));
      this.listen();
      this.toBudget(this.slide.trained);
      new ResizeObserver(() => this.resize()).observe(this.map);
    }

    read(image) {
      this.width = image.naturalWidth;
      this.height = image.naturalHeight;
      this.pixel = this.slide.width / this.width;
      const side = this.slide.size / this.pixel;
      this.edgePx = side < LEGIBLE_PX ? 0 : Math.min(4, Math.max(1, Math.round(side / 14)));
      this.picture = new OffscreenCanvas(this.width, this.height);
      this.brush = this.picture.getContext("2d", { willReadFrequently: true });
      this.brush.drawImage(image, 0, 0);
      this.pixels = this.brush.getImageData(0, 0, this.width, this.height).data;
      this.owner = ownersOf(this.slide, this.width, this.height, this.pixel);
      this.map.style.aspectRatio = `${this.width} / ${this.height}`;
    }

    listen() {
      for (const choice of this.root.querySelectorAll("input[type=radio]")) {
        choice.checked = choice.value === this.layer;
        choice.addEventListener("change", () => this.toLayer(choice.value));
      }
      this.budget?.addEventListener("input", () => {
        this.leave("slide");
        this.toBudget(Number(this.budget.value));
        this.announce();
      });
      this.walk?.addEventListener("input", () => {
        this.leave("slide", "attention");
        this.toStage(Number(this.walk.value));
        this.announce();
      });
      for (const button of this.root.querySelectorAll("[data-zoom]")) {
        button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
      }
      this.map.addEventListener("keydown", (event) => this.key(event));
      this.map.addEventListener("focus", () => {
        if (this.selected < 0 && this.map.matches(":focus-visible")) this.select(this.slide.ranked[0]);
      });
      this.map.addEventListener("pointerdown", (event) => this.hold(event));
      this.map.addEventListener("pointermove", (event) => this.move(event));
      this.map.addEventListener("pointerleave", () => this.show(this.selected));
    }

    /** Show pruning instead of layers in which a slider would change nothing. */
    leave(...layers) {
      if (!layers.includes(this.layer)) return;
      this.root.querySelector("input[value=pruning]").checked = true;
      this.toLayer("pruning");
    }

    toLayer(layer) {
      this.layer = layer;
      for (const told of this.root.querySelectorAll("[data-layer]")) told.hidden = told.dataset.layer !== layer;
      this.repaint();
    }

    /** Show what is left at another retention, after its last stage. */
    toBudget(budget) {
      this.slide.use(budget);
      if (this.budget) this.tell(this.budget, budget, this.slide.told);
      for (const word of this.root.querySelectorAll("[data-alone]")) word.hidden = !this.slide.firstAlone;
      if (this.walk) this.walk.max = this.slide.stages;
      this.toStage(this.slide.stages);
    }

    toStage(stage) {
      this.state = this.slide.after(stage);
      if (this.walk) this.tell(this.walk, stage, this.told());
      this.repaint();
      this.show(this.shown);
    }

    tell(slider, value, told) {
      slider.value = value;
      slider.setAttribute("aria-valuetext", told);
      slider.parentElement.querySelector("output").textContent = told;
    }

    told() {
      const { stage, tokens, pruned, merged, shared } = this.state, { count, stages } = this.slide;
      const where = stage ? `After stage ${stage} of ${stages}` : "Before compression";
      const counts = `${number(tokens)} tokens of ${plural(count, "patch")} (${percent(tokens / count)})`;
      const how = stage ? `; ${number(merged)} merged into ${number(shared)}, ${number(pruned)} pruned` : "";
      return `${where}: ${counts}${how}`;
    }

    repaint() {
      this.brush.putImageData(paint(this.layer, this), 0, 0);
      this.draw();
    }

    resize() {
      const { clientWidth, clientHeight } = this.map, sharp = devicePixelRatio || 1;
      for (const canvas of [this.ground, this.marks]) {
        canvas.width = Math.round(clientWidth * sharp);
        canvas.height = Math.round(clientHeight * sharp);
      }
      this.sharp = sharp;
      const zoomed = this.scale > this.whole * 1.001;
      this.whole = Math.min(clientWidth / this.width, clientHeight / this.height);
      if (!zoomed || this.scale <= this.whole) this.fit();
      this.draw();
    }

    fit() {
      this.scale = this.whole;
      this.left = (this.map.clientWidth - this.width * this.scale) / 2;
      this.top = (this.map.clientHeight - this.height * this.scale) / 2;
      this.map.classList.remove("zoomed");
    }

    /** Multiply the scale around the selected patch, or the middle; 0 shows the whole slide. */
    zoom(factor) {
      const scale = Math.min(MOST_ZOOM * this.whole, this.scale * factor);
      if (scale <= this.whole * 1.001) this.fit();
      else {
        const { clientWidth, clientHeight } = this.map;
        const [x, y] = this.selected < 0 ? [(clientWidth / 2 - this.left) / this.scale,
          (clientHeight / 2 - this.top) / this.scale] : this.centre(this.selected);
        this.scale = scale;
        this.pan(clientWidth / 2 - x * scale, clientHeight / 2 - y * scale);
        this.map.classList.add("zoomed");
      }
      this.draw();
    }

    pan(left, top) {
      const within = (at, room, size) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
      this.left = within(left, this.map.clientWidth, this.width * this.scale);
      this.top = within(top, this.map.clientHeight, this.height * this.scale);
    }

    centre(patch) {
      const { x, y, origin, size } = this.slide;
      return [(x[patch] - origin[0] + size / 2) / this.pixel, (y[patch] - origin[1] + size / 2) / this.pixel];
    }

    draw() {
      if (!this.scale) return;
      const { ground, scale, left, top, sharp } = this, pen = ground.getContext("2d");
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, ground.width, ground.height);
      pen.setTransform(scale * sharp, 0, 0, scale * sharp, left * sharp, top * sharp);
      pen.drawImage(this.picture, 0, 0);
      this.mark();
    }

    mark() {
      if (!this.scale) return;
      const pen = this.marks.getContext("2d");
      pen.setTransform(this.sharp, 0, 0, this.sharp, 0, 0);
      pen.clearRect(0, 0, this.map.clientWidth, this.map.clientHeight);
      if (this.shown >= 0) {
        const fellows = this.fellows(this.shown);
        this.frame(pen, fellows, 1.5);
        this.frame(pen, [this.shown], 3);
      }
      this.bar(pen);
    }

    /** Outline patches in white between black lines, which shows on any colour. */
    frame(pen, patches, thick) {
      const { x, y, origin, size } = this.slide, zoom = this.scale / this.pixel;
      pen.beginPath();
      for (const patch of patches) {
        pen.rect(this.left + (x[patch] - origin[0]) * zoom, this.top + (y[patch] - origin[1]) * zoom,
          Math.max(3, size * zoom), Math.max(3, size * zoom));
      }
      for (const [colour, width] of [["#000", thick + 2], ["#fff", thick]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = width;
        pen.stroke();
      }
    }

    bar(pen) {
      const unit = this.slide.spacingUm || 1, px = (this.pixel * unit) / this.scale;
      const longest = px * Math.min(this.map.clientWidth, this.width * this.scale) / 4;
      const power = 10 ** Math.floor(Math.log10(longest));
      const length = [5, 2, 1].find((step) => step * power <= longest) * power;
      const told = !this.slide.spacingUm ? `${number(length)} px` : length >= 1000 ? `${number(length / 1000, 3)} mm`
        : `${number(length, 3)} µm`;
      const bottom = this.map.clientHeight - 12;
      pen.font = "600 13px system-ui, sans-serif";
      const wide = Math.max(length / px, pen.measureText(told).width);
      pen.fillStyle = "rgba(255, 255, 255, .85)";
      pen.fillRect(8, bottom - 24, wide + 16, 30);
      pen.fillStyle = "#000";
      pen.fillRect(16, bottom - 2, length / px, 3);
      pen.fillText(told, 16, bottom - 8);
    }

    fellows(patch) {
      const token = this.state.token[patch];
      const found = [];
      if (token >= 0 && this.state.size[token] > 1) {
        this.state.token.forEach((other, at) => { if (other === token && at !== patch) found.push(at); });
      }
      return found;
    }

    at(event) {
      const box = this.map.getBoundingClientRect();
      const x = Math.floor((event.clientX - box.left - this.map.clientLeft - this.left) / this.scale);
      const y = Math.floor((event.clientY - box.top - this.map.clientTop - this.top) / this.scale);
      return x < 0 || y < 0 || x >= this.width || y >= this.height ? -1 : this.owner[y * this.width + x];
    }

    move(event) {
      const patch = this.at(event);
      if (patch !== this.shown) this.show(patch < 0 ? this.selected : patch);
    }

    /** Press to choose a patch; drag to move a slide that is zoomed. */
    hold(event) {
      const from = { x: event.clientX, y: event.clientY, left: this.left, top: this.top };
      let dragged = false;
      const drag = (moved) => {
        const across = moved.clientX - from.x, down = moved.clientY - from.y;
        dragged ||= Math.hypot(across, down) > 4;
        if (!dragged || this.scale <= this.whole) return;
        this.pan(from.left + across, from.top + down);
        this.draw();
      };
      const over = new AbortController(), { signal } = over;
      const release = (ended) => {
        over.abort();
        if (!dragged && ended.type === "pointerup") this.select(this.at(ended));
      };
      this.map.addEventListener("pointermove", drag, { signal });
      for (const end of ["pointerup", "pointercancel", "pointerleave"]) this.map.addEventListener(end, release, { signal });
    }

    key(event) {
      const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const zooms = { "+": ZOOM_STEP, "=": ZOOM_STEP, "-": 1 / ZOOM_STEP, 0: 0 };
      const { ranked, rank, count } = this.slide, place = this.selected < 0 ? -1 : rank[this.selected];
      const ranks = { Home: 0, PageDown: Math.min(count - 1, place + 1), PageUp: Math.max(0, place - 1), End: count - 1 };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in directions) this.select(this.next(...directions[event.key]));
      else if (event.key in ranks) this.select(ranked[ranks[event.key]]);
      else if (event.key in zooms) this.zoom(zooms[event.key]);
      else if (event.key === "Escape") this.select(-1);
      else return;
      event.preventDefault();
    }

    /** Find the nearest patch that lies more ahead than aside; the same one at the rim. */
    next(across, down) {
      const { x, y, ranked, count } = this.slide, from = this.selected;
      if (from < 0) return ranked[0];
      let best = from, least = Infinity;
      for (let patch = 0; patch < count; patch++) {
        const right = x[patch] - x[from], below = y[patch] - y[from];
        const ahead = right * across + below * down, aside = Math.abs(right * down) + Math.abs(below * across);
        if (ahead > 0 && aside <= ahead && ahead + 2 * aside < least) {
          best = patch;
          least = ahead + 2 * aside;
        }
      }
      return best;
    }

    select(patch) {
      this.selected = patch;
      if (patch >= 0 && this.scale > this.whole) this.reveal(patch);
      this.show(patch);
      this.live.textContent = patch < 0 ? "No patch chosen." : this.sentence(patch);
    }

    /** Tell a screen reader what is known of the chosen patch now. */
    announce() {
      if (this.selected >= 0) this.live.textContent = this.sentence(this.selected);
    }

    reveal(patch) {
      const [x, y] = this.centre(patch).map((at) => at * this.scale), { clientWidth, clientHeight } = this.map;
      const inside = x + this.left > 20 && y + this.top > 20 && x + this.left < clientWidth - 20
        && y + this.top < clientHeight - 20;
      if (inside) return;
      this.pan(clientWidth / 2 - x, clientHeight / 2 - y);
      this.draw();
    }

    show(patch) {
      this.shown = patch;
      const row = patch < 0 ? {} : this.row(patch);
      for (const cell of this.root.querySelectorAll("[data-of]")) cell.textContent = row[cell.dataset.of] ?? "–";
      this.mark();
    }

    row(patch) {
      const { x, y, count, attention, percentile, importance, rank } = this.slide;
      const share = (value) => `${percent(value)} of the slide's`;
      return {
        patch: `${number(patch)}, of ${number(count)} from 0 on; at pixel (${number(x[patch])}, ${number(y[patch])})`,
        attention: share(attention[patch]),
        percentile: attention[patch] > 0
          ? `${(percentile[patch] / 100).toFixed(1)}, place ${number(rank[patch] + 1)} of ${number(count)}` : "none: no attention",
        importance: importance ? share(importance[patch]) : "–",
        fate: this.fate(patch),
        token: this.token(patch),
      };
    }

    fate(patch) {
      const { fates, fate, stage, stages } = this.slide;
      return fates[fate[patch]] + (stage[patch] && stages ? ` at stage ${stage[patch]}` : " alone");
    }

    token(patch) {
      const token = this.state.token[patch];
      if (token < 0) return `in no token after stage ${this.state.stage}`;
      const others = this.state.size[token] - 1;
      return `${number(token)}, ${others ? `shared with ${number(others)} other patch${others > 1 ? "es" : ""} (outlined)` : "its own"}`;
    }

    sentence(patch) {
      const row = this.row(patch), seen = `Patch ${row.patch}. Attention ${row.attention}, percentile ${row.percentile}.`;
      if (!this.walk) return seen;
      return `${seen} ${row.fate}${this.state.token[patch] < 0 ? "" : `; token ${row.token}`}.`;
    }
  }

  async function start(data) {
    const card = data.closest(".card");
    if (!self.DecompressionStream) {
      const told = document.createElement("p");
      told.textContent = "This browser cannot unpack the patches; one of 2023 or later shows a map here to point at.";
      card.querySelector(".viewer").before(told);
      return;
    }
    const [slide] = await Promise.all([Slide.read(JSON.parse(data.textContent)), card.querySelector(".panels img").decode()]);
    new Viewer(card, slide);
  }
  document.querySelectorAll("script.patches").forEach(start);
})();
