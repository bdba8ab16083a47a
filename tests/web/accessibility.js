// Checks a page as people with a keyboard, a screen reader, weak sight or a small screen need it; returns what is wrong.
() => {
  const problems = [];
  const say = (what, node) => problems.push(`${what}: ${node ? node.outerHTML.slice(0, 120) : ""}`);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (node) => {
    const style = getComputedStyle(node);
    return node.getClientRects().length > 0 && style.visibility === "visible" && style.display !== "none";
  };
  const clipped = (node) => {
    for (let place = node; place; place = place.parentElement)
      if (getComputedStyle(place).clipPath !== "none" || place.matches(".skip:not(:focus)")) return true;
    return false;
  };

  // ---- the document and its landmarks
  if (!document.documentElement.lang) say("no language", document.documentElement);
  if (!document.title.trim()) say("no title");
  if (!all("meta[name=viewport]").length) say("no viewport");
  if (all("meta[name=viewport]").some((meta) => /maximum-scale|user-scalable/.test(meta.content))) say("zoom is forbidden");
  for (const [name, selector] of [["main", "main"], ["banner", "body > header"], ["contentinfo", "body > footer"], ["navigation", "nav"]])
    if (all(selector).length !== 1) say(`not one ${name} landmark`);
  for (const nav of all("nav, section, [role=region]"))
    if (!nav.getAttribute("aria-label") && !nav.getAttribute("aria-labelledby")) say("a landmark without a name", nav);
  if (!document.querySelector("a.skip[href^='#']")) say("no way to skip to the content");
  if (!document.querySelector("[role=status], [aria-live=polite]")) say("nothing announces what was done");

  // ---- headings
  const levels = all("h1, h2, h3, h4, h5, h6").map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) say("not one h1");
  levels.forEach((level, index) => { if (index && level > levels[index - 1] + 1) say(`heading level ${level} after ${levels[index - 1]}`); });
  for (const heading of all("h1, h2, h3")) if (!heading.textContent.trim()) say("an empty heading", heading);

  // ---- references and structure
  const ids = all("[id]").map((node) => node.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) say(`the id ${id} twice`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const node of all(`[${attribute}]`))
      for (const id of node.getAttribute(attribute).split(" ")) if (!document.getElementById(id)) say(`${attribute} leads nowhere`, node);
  for (const link of all("a[href^='#']")) if (!document.getElementById(link.hash.slice(1))) say("a link leads nowhere", link);
  for (const item of all("li")) if (!["UL", "OL"].includes(item.parentElement.tagName)) say("an item outside a list", item);
  for (const table of all("table")) {
    if (!table.querySelector("caption")?.textContent.trim()) say("a table without caption", table);
    for (const head of table.querySelectorAll("th")) {
      if (!head.getAttribute("scope")) say("a header cell without scope", head);
      if (!head.textContent.trim()) say("an empty header cell", head);
    }
    const roles = { table: "table", tr: "row", td: "cell", th: "columnheader" };
    for (const [tag, role] of Object.entries(roles))
      for (const node of [table, ...table.querySelectorAll(tag)])
        if (node.matches(tag) && getComputedStyle(node).display === "block" && node.getAttribute("role") !== role) say(`${tag} lost its role`, node);
  }
  for (const radio of all("input[type=radio]")) if (!radio.closest("fieldset")?.querySelector("legend")?.textContent.trim()) say("a choice without a question", radio);
  for (const node of all("[aria-hidden=true]")) if (node.matches("a, button, input, select, textarea") || node.querySelector("a, button, input, select, textarea")) say("focus can go where nothing is", node);
  for (const node of all("[tabindex]")) if (Number(node.getAttribute("tabindex")) > 0) say("a focus order of its own", node);
  for (const image of all("img")) if (!image.hasAttribute("alt")) say("an image without alternative", image);

  // ---- names of controls
  const controls = all("a[href], button, input:not([type=hidden]), select, textarea, summary").filter(shown);
  const words = (node) => node.innerText?.trim() || node.textContent.trim();
  for (const node of controls) {
    const named = node.getAttribute("aria-label")?.trim() || (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent.trim()).join("")
      || [...(node.labels ?? [])].map(words).join("") || (node.matches("a, button, summary") ? words(node) : "");
    if (!named) say("a control without a name", node);
  }
  const names = all("button").filter(shown).map((button) => [button, button.getAttribute("aria-label") || button.textContent.trim()]);
  for (const [button, name] of names) if (names.some(([other, same]) => other !== button && same === name)) say("two buttons of one name", button);

  // ---- size of what is hit
  for (const node of controls) {
    const box = node.matches("input[type=radio]") ? node.closest("label").getBoundingClientRect() : node.getBoundingClientRect();
    if (!clipped(node) && (box.width < 24 || box.height < 24)) say(`a target of ${Math.round(box.width)} x ${Math.round(box.height)}`, node);
  }

  // ---- contrast
  const channel = (value) => { const part = value / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => { const parts = (text.match(/[\d.]+/g) ?? []).map(Number); return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 }; };
  const over = (top, under) => top.rgb.map((value, index) => value * top.alpha + under[index] * (1 - top.alpha));
  const behind = (node) => {
    const stack = [];
    for (let place = node; place; place = place.parentElement) stack.unshift(parse(getComputedStyle(place).backgroundColor));
    return stack.reduce((under, layer) => over(layer, under), matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255]);
  };
  const light = (rgb) => { const [r, g, b] = rgb.map(channel); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (one, other) => { const [high, low] = [light(one), light(other)].sort((a, b) => b - a); return (high + 0.05) / (low + 0.05); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || node.matches("script, style, option") || !shown(node) || clipped(node)) continue;
    const style = getComputedStyle(node), size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
    const under = behind(node), found = ratio(over(parse(style.color), under), under);
    if (found < (size >= 24 || (bold && size >= 18.66) ? 3 : 4.5)) say(`contrast ${found.toFixed(2)}`, node);
  }
  for (const field of all("input:not([type=hidden]):not([type=radio]), select, textarea, button").filter(shown)) {
    const style = getComputedStyle(field), outside = behind(field.parentElement);
    const edge = Math.max(ratio(over(parse(style.borderTopColor), outside), outside), ratio(behind(field), outside));
    if (edge < 3) say(`the edge of a field has contrast ${edge.toFixed(2)}`, field);
    const hint = field.placeholder ? ratio(over(parse(getComputedStyle(field, "::placeholder").color), behind(field)), behind(field)) : 99;
    if (hint < 4.5) say(`placeholder contrast ${hint.toFixed(2)}`, field);
  }

  // ---- what does not fit
  if (document.documentElement.scrollWidth > innerWidth) say(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const node of all("*").filter((node) => shown(node) && !clipped(node))) {
    const style = getComputedStyle(node);
    const scrolls = /auto|scroll/.test(style.overflowY) && node.scrollHeight > node.clientHeight + 1;
    if (scrolls && node.tabIndex < 0) say("a scrolled part that the keyboard does not reach", node);
    const box = node.getBoundingClientRect();
    if (!node.closest(".scroll") && box.width && (box.right > innerWidth + 1 || box.left < -1)) say("something stands out of the window", node);
  }
  return problems;
}
