"use strict";
(() => {
  const { head, databases, findings } = JSON.parse(document.getElementById("report").textContent);
  const SEVERITIES = ["critical", "high", "medium", "low"];
  const LANGUAGES = { sql: "SQL", cli: "AWS CLI", cloudformation: "CloudFormation", access: "access.yaml" };
  const PAGE = 50, PAGE_OF_DATABASES = 12, PRINTED = 500, DATABASES_IN_A_SUMMARY = 25, LARGE = 100;
  const NONE = "\u0000none"; // means "has no owner" in the filters; no tag can have this value
  const byArn = new Map(databases.map((each) => [each.arn, each]));
  const at = (id) => document.getElementById(id);

  // --- making elements: text is inserted as text, and nothing is parsed as HTML --------------------------------------

  function make(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((each) => each !== null && each !== undefined && each !== ""));
    return made;
  }

  // Characters that are invisible or change how others look; the same as rdsiam.report.formatting.hidden.
  const BLANKS = "\\u00a0\\u1680\\u2000-\\u200a\\u202f\\u205f\\u3000\\u115f\\u1160\\u2800\\u3164\\ufe00-\\ufe0f\\uffa0\\u{e0100}-\\u{e01ef}";
  const HIDDEN = new RegExp(`[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Zl}\\p{Zp}${BLANKS}]`, "gu");
  const HIDDEN_IN_CODE = new RegExp(`(?![\\n\\t])[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Zl}\\p{Zp}${BLANKS}]`, "gu");

  const mark = (text) => make("span", { class: "mark" }, text);
  const codePoint = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

  function shown(text, pattern) {
    const parts = [];
    let from = 0;
    for (const found of text.matchAll(pattern)) {
      parts.push(text.slice(from, found.index), mark(codePoint(found[0])));
      from = found.index + found[0].length;
    }
    return [...parts, text.slice(from)].filter((each) => each !== "");
  }

  // A foreign name.
  function name(value) {
    const text = String(value);
    if (text === "") return make("bdi", {}, mark("empty"));
    const before = text.match(/^ */)[0].length;
    const after = before < text.length ? text.match(/ *$/)[0].length : 0;
    const spaces = (count) => Array.from({ length: count }, () => mark("␠"));
    return make("bdi", {}, ...spaces(before), ...shown(text.slice(before, text.length - after), HIDDEN), ...spaces(after));
  }

  const figure = (value) => value.toLocaleString("en-US");
  const counted = (value, one, many) => `${figure(value)} ${value === 1 ? one : many || one + "s"}`;
  const capital = (word) => word.charAt(0).toUpperCase() + word.slice(1);
  const severity = (which) => make("span", { class: "severity " + (SEVERITIES.includes(which) ? which : "low") }, capital(which));
  const day = (time) => {
    const date = new Date(time);
    return Number.isNaN(date.valueOf())
      ? String(time)
      : date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  };
  const kindTitle = (kind) => (Object.hasOwn(head.kinds, kind) ? head.kinds[kind].title : kind.replaceAll("-", " "));
  const identifier = (arn) => (byArn.has(arn) ? byArn.get(arn).identifier : String(arn).split(":").slice(6).join(":") || String(arn));

  function percent(share) {
    const tenths = Math.floor(share * 1000 + 1e-9);
    if (tenths === 0 && share > 0) return "<0.1%";
    return tenths === 0 || tenths === 1000 ? `${tenths / 10}%` : `${(tenths / 10).toFixed(1)}%`;
  }

  function say(words) {
    at("said").textContent = "";
    window.setTimeout(() => { at("said").textContent = words; }, 50);
  }

  // A list that shows a number of items, and more on request. The keyboard continues at the first new item.
  function paged(id, list, size, row, words) {
    const button = at(id + "-more"), whole = at(id + "-all");
    let items = [], count = 0;
    function extend(more) {
      const next = items.slice(count, count + more);
      list.append(...next.map(row));
      count += next.length;
      button.hidden = count >= items.length;
      whole.hidden = items.length - count <= size;
      whole.textContent = `Show all ${figure(items.length)}`;
      button.textContent = `Show ${figure(Math.min(size, items.length - count))} more of ${counted(items.length, ...words)}`;
    }
    const onClick = (more) => () => {
      const first = count;
      extend(more());
      const focusable = list.children[first] && list.children[first].querySelector("summary, button");
      if (focusable) focusable.focus();
    };
    button.addEventListener("click", onClick(() => size));
    whole.addEventListener("click", onClick(() => items.length));
    return {
      show(all, least) { items = all; count = 0; list.replaceChildren(); extend(Math.max(size, least || 0)); },
      reach(least) { if (least > count) extend(least - count); },
      get count() { return count; },
      get total() { return items.length; },
    };
  }

  // A search field above a list: all of its words are in an item's text. `show` takes the items that match.
  function searched(id, items, textOf, words, show) {
    const texts = new Map();
    const field = at(id + "-find");
    let waiting = 0;
    function text(item) {
      if (!texts.has(item)) texts.set(item, textOf(item).filter(Boolean).join("\n").toLowerCase());
      return texts.get(item);
    }
    function search() {
      const wanted = field.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      const matching = wanted.length ? items.filter((each) => wanted.every((word) => text(each).includes(word))) : items;
      at(id + "-status").textContent = wanted.length ? matchingOf(matching.length, items.length, words) : "";
      at(id + "-nothing").hidden = matching.length > 0 || !items.length;
      show(matching);
    }
    field.closest(".find").hidden = items.length <= 1;
    field.addEventListener("input", () => {
      window.clearTimeout(waiting);
      waiting = window.setTimeout(search, 120);
    });
    search();
  }

  const matchingOf = (matching, all, words) => `${figure(matching)} of ${counted(all, ...words)} ${matching === 1 ? "matches" : "match"}`;

  // --- filters: the choice is in the address as well, so that a view can be passed on ---------------------------

  const chosen = { severity: new Set(), kind: new Set(), owner: "", environment: "", account: "", database: "", text: "", new: false };
  const ONE_OF = { owner: "Owner", environment: "Environment", account: "Account" };
  const about = (finding) => byArn.get(finding.database);

  const open = findings.filter((each) => !each.suppressed);
  const suppressed = findings.filter((each) => each.suppressed);
  for (const finding of open) {
    const database = about(finding);
    finding.parts = {
      owner: (database && database.owner) || NONE,
      environment: (database && database.environment) || NONE,
      account: (database && database.account) || NONE,
    };
  }

  // The text that a search looks through: made by the first search, not when the page is opened.
  function words(finding) {
    if (finding.words === undefined) {
      const database = about(finding);
      finding.words = [
        finding.title, finding.kind, finding.user || "", finding.database || "", database ? database.identifier : "", database ? database.owner : "",
        JSON.stringify(finding.evidence), ...finding.remediation.map((each) => each.text),
      ].join("\n").toLowerCase();
    }
    return finding.words;
  }

  // Whether a finding matches every filter but one: the basis of that filter's figures.
  function fits(finding, but) {
    return (but === "severity" || !chosen.severity.size || chosen.severity.has(finding.severity))
      && (but === "kind" || !chosen.kind.size || chosen.kind.has(finding.kind))
      && Object.keys(ONE_OF).every((key) => but === key || !chosen[key] || finding.parts[key] === chosen[key])
      && (!chosen.new || finding.new)
      && (!chosen.database || identifier(finding.database || "").toLowerCase().includes(chosen.database.toLowerCase()) || finding.database === chosen.database)
      && (!chosen.text || chosen.text.toLowerCase().split(/\s+/).every((word) => words(finding).includes(word)));
  }

  function tally(key, but) {
    const counts = new Map();
    for (const finding of open) {
      if (fits(finding, but)) {
        const value = key(finding);
        counts.set(value, (counts.get(value) || 0) + 1);
      }
    }
    return counts;
  }

  function toAddress() {
    const query = new URLSearchParams();
    for (const key of ["severity", "kind"]) for (const each of chosen[key]) query.append(key, each);
    for (const key of [...Object.keys(ONE_OF), "database", "text"]) if (chosen[key]) query.set(key, chosen[key] === NONE ? "" : chosen[key]);
    if (chosen.new) query.set("new", "1");
    const text = query.toString();
    if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? "#" + text : "#findings");
  }

  function fromAddress() {
    if (!location.hash.includes("=")) return false;
    const query = new URLSearchParams(location.hash.slice(1));
    chosen.severity = new Set(query.getAll("severity").filter((each) => SEVERITIES.includes(each)));
    chosen.kind = new Set(query.getAll("kind"));
    for (const key of Object.keys(ONE_OF)) chosen[key] = query.has(key) ? query.get(key) || NONE : "";
    for (const key of ["database", "text"]) chosen[key] = query.get(key) || "";
    chosen.new = query.has("new");
    return true;
  }

  const form = at("filters");
  const kinds = [...tally((each) => each.kind)].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([kind]) => kind);
  const boxes = { severity: new Map(), kind: new Map() };
  const selects = {};

  function choices(key, legend, values, label) {
    const rows = values.map((value) => {
      const box = make("input", { type: "checkbox", name: key, value, on: { change: () => {
        if (box.checked) chosen[key].add(value); else chosen[key].delete(value);
        refresh();
      } } });
      const count = make("span", { class: "count" });
      const row = make("label", { class: "option" }, box, label(value), count);
      boxes[key].set(value, { box, count, row });
      return row;
    });
    return make("fieldset", {}, make("legend", {}, legend), ...rows);
  }

  function field(id, label, control) {
    return make("div", { class: "field" }, make("label", { for: id }, label), control);
  }

  // The browser's own lists show plain text only: what hides is written out.
  function plain(text) {
    return text.replace(HIDDEN, (character) => `<${codePoint(character)}>`);
  }

  function buildFilters() {
    let waiting = 0;
    const later = (key) => (event) => {
      window.clearTimeout(waiting);
      const { value } = event.target;
      waiting = window.setTimeout(() => { chosen[key] = value.trim(); refresh(); }, 120);
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.append(
      field("text", "Search", make("input", { type: "search", id: "text", autocomplete: "off", spellcheck: "false", placeholder: "user, policy, SQL …", on: { input: later("text") } })),
      choices("severity", "Severity", SEVERITIES, severity),
      make("label", { class: "option field" }, make("input", { type: "checkbox", id: "new", on: { change: (event) => { chosen.new = event.target.checked; refresh(); } } }), make("span", {}, "New since the last run"), make("span", { class: "count", id: "new-count" })),
      field("database", "Database", make("input", { type: "search", id: "database", list: "database-names", autocomplete: "off", spellcheck: "false", placeholder: "any", on: { input: later("database") } })),
      make("datalist", { id: "database-names" }, ...[...new Set(open.map((each) => each.database && identifier(each.database)))].filter(Boolean).sort().map((each) => make("option", { value: each }))),
    );
    for (const [key, label] of Object.entries(ONE_OF)) {
      const values = [...new Set(open.map((each) => each.parts[key]))].sort();
      if (values.length < 2) continue;
      selects[key] = make("select", { id: key, on: { change: (event) => { chosen[key] = event.target.value; refresh(); } } },
        make("option", { value: "" }, "any"),
        ...values.map((value) => make("option", { value }, value === NONE ? `no ${label.toLowerCase()}` : plain(value))));
      form.append(field(key, label, selects[key]));
    }
    form.append(choices("kind", "Kind", kinds, (kind) => make("span", {}, kindTitle(kind))));
    if (!head.compared) at("new").closest("label").remove();
    // Beside the list where there is room, folded above it where there is none.
    const wide = window.matchMedia("(min-width: 64rem)");
    const fold = () => { at("fold").open = wide.matches; };
    wide.addEventListener("change", fold);
    fold();
  }

  function showFilters() {
    for (const [key, entries] of Object.entries(boxes)) {
      const counts = tally((each) => each[key], key);
      for (const [value, { box, count, row }] of entries) {
        box.checked = chosen[key].has(value);
        count.textContent = figure(counts.get(value) || 0);
        row.classList.toggle("none", !counts.get(value));
      }
    }
    for (const [key, select] of Object.entries(selects)) {
      const counts = tally((each) => each.parts[key], key);
      for (const option of select.options) {
        if (!option.value) continue;
        const label = option.value === NONE ? `no ${ONE_OF[key].toLowerCase()}` : plain(option.value);
        option.textContent = `${label} (${figure(counts.get(option.value) || 0)})`;
      }
      select.value = chosen[key];
    }
    for (const key of ["text", "database"]) if (document.activeElement !== at(key)) at(key).value = chosen[key];
    if (at("new")) {
      at("new").checked = chosen.new;
      at("new-count").textContent = figure(open.reduce((sum, each) => sum + (each.new ? 1 : 0), 0));
    }
    const chip = (label, value, undo) => make("button", { type: "button", "aria-label": `Remove the filter ${label} ${value}`, on: { click: () => { undo(); refresh(); at("findings").focus(); } } },
      label + " ", name(value), " ✕");
    const chips = [];
    for (const each of chosen.severity) chips.push(chip("Severity", capital(each), () => chosen.severity.delete(each)));
    for (const each of chosen.kind) chips.push(chip("Kind", kindTitle(each), () => chosen.kind.delete(each)));
    for (const [key, label] of Object.entries(ONE_OF)) {
      if (chosen[key]) chips.push(chip(label, chosen[key] === NONE ? "none" : chosen[key], () => { chosen[key] = ""; }));
    }
    if (chosen.new) chips.push(chip("New", "only", () => { chosen.new = false; }));
    if (chosen.database) chips.push(chip("Database", chosen.database, () => { chosen.database = ""; }));
    if (chosen.text) chips.push(chip("Search", chosen.text, () => { chosen.text = ""; }));
    if (chips.length) chips.push(make("button", { type: "button", class: "clear", on: { click: () => { clear(); refresh(); at("findings").focus(); } } }, "Clear all"));
    at("chosen").replaceChildren(...chips);
  }

  function clear() {
    chosen.severity.clear();
    chosen.kind.clear();
    for (const key of [...Object.keys(ONE_OF), "database", "text"]) chosen[key] = "";
    chosen.new = false;
  }

  // --- findings ------------------------------------------------------------------------------------------------------

  const where = (finding) => make("span", { class: "where" },
    ...(finding.database ? [name(identifier(finding.database))] : ["IAM"]),
    ...(finding.user && !finding.title.includes(finding.user) ? [" · ", name(finding.user)] : []),
    ...(about(finding) && about(finding).owner ? [" · ", name(about(finding).owner)] : []));

  function findingRow(finding) {
    const when = finding.new
      ? make("span", { class: "when" }, make("span", { class: "new" }, "New"))
      : make("span", { class: "when" }, finding.first_seen ? `since ${day(finding.first_seen)}` : "");
    const accepted = finding.suppressed
      ? make("span", { class: "accepted" }, make("strong", {}, name(finding.suppressed.reason)), ` – until ${day(finding.suppressed.until)}`, ending(finding.suppressed.until))
      : null;
    const details = make("details", { class: "finding" },
      make("summary", {}, severity(finding.severity), make("span", { class: "what" }, name(finding.title), where(finding)), when, accepted));
    const fill = () => { if (details.children.length === 1) details.append(findingBody(finding)); };
    // Before the element opens, so that Tab finds its content; "toggle" comes later, and for other ways to open it.
    details.querySelector("summary").addEventListener("click", fill);
    details.addEventListener("toggle", () => { if (details.open) fill(); });
    details.addEventListener("fill", fill); // for the printer
    return make("li", {}, details);
  }

  function ending(until) {
    const days = Math.ceil((new Date(until) - new Date(head.finished)) / 86400000);
    return days > 30 || Number.isNaN(days) ? "" : make("span", { class: "state" }, days < 0 ? " (expired)" : ` (in ${counted(days, "day")})`);
  }

  function findingBody(finding) {
    const why = Object.hasOwn(head.kinds, finding.kind) && head.kinds[finding.kind].why;
    const evidence = Object.entries(finding.evidence);
    return make("div", { class: "body" },
      why ? make("p", { class: "why" }, why) : null,
      evidence.length ? make("div", {}, make("h3", {}, "Evidence"), make("dl", { class: "evidence" }, ...evidence.flatMap(([key, value]) => [
        make("dt", {}, name(key.replaceAll("_", " "))), make("dd", {}, evidenceOf(value))]))) : null,
      finding.remediation.length ? make("div", {}, make("h3", {}, "Remediation"), ...waysOf(finding.remediation)) : null,
      make("p", { class: "identity" }, name(finding.kind), " · ", make("code", {}, name(finding.id)), ...(finding.database ? [" · ", name(finding.database)] : [])));
  }

  function evidenceOf(value) {
    if (value === true) return "yes";
    if (value === false) return "no";
    if (value === null) return "unknown";
    if (Array.isArray(value)) {
      if (!value.length) return "none";
      const flat = value.every((each) => typeof each !== "object" || each === null);
      return make("span", {}, ...(flat ? value.flatMap((each, index) => [index ? ", " : "", name(each)]) : [name(JSON.stringify(value))]));
    }
    if (typeof value === "object") return name(JSON.stringify(value));
    return typeof value === "number" ? figure(value) : name(value);
  }

  // All steps of one way are needed, in their order; another way does the same instead.
  function waysOf(remediation) {
    const ways = [...new Set(remediation.map((each) => each.way))];
    return ways.map((way, index) => {
      const steps = remediation.filter((each) => each.way === way);
      return make("div", { class: "way" },
        index || steps.length > 1 ? make("h4", {}, `${index ? "Or instead" : "First choice"}${steps.length > 1 ? `: ${steps.length} steps, all of them` : ""}`) : null,
        ...steps.map(fix));
    });
  }

  function fix(remediation) {
    const text = String(remediation.text);
    const label = LANGUAGES[remediation.language] || remediation.language;
    const parts = shown(text, HIDDEN_IN_CODE);
    const hides = parts.some((each) => typeof each !== "string");
    const button = make("button", { type: "button", "aria-label": `Copy the ${label}`, on: { click: () => copy(text, button) } }, "Copy");
    return make("div", { class: "fix" },
      make("div", { class: "fix-head" },
        make("span", {}, label, ...(remediation.database ? [", in the database ", name(remediation.database)] : []),
          hides ? make("span", { class: "warn" }, " – contains hidden characters; check before you run it") : null),
        button),
      make("p", { class: "note" }, "As ", name(remediation.user), ", with ", make("code", {}, name(remediation.client)), "."),
      remediation.note ? make("p", { class: "note" }, name(remediation.note)) : null,
      make("pre", { tabindex: "0", role: "group", "aria-label": label, dir: "ltr" }, make("code", {}, ...parts)));
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      if (!copyThroughSelection(text)) {
        button.textContent = "Not copied";
        say("Not copied: the browser does not allow it.");
        return;
      }
    }
    button.textContent = "Copied";
    say("Copied.");
    window.setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  // For browsers without a clipboard on pages like this one.
  function copyThroughSelection(text) {
    const area = make("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused) focused.focus();
    return done;
  }

  const findingPages = paged("findings", at("findings-list"), PAGE, findingRow, ["finding"]);

  function refresh() {
    const fitting = open.filter((each) => fits(each));
    findingPages.show(fitting);
    at("findings-nothing").hidden = fitting.length > 0;
    status();
    showFilters();
    toAddress();
  }

  function status() {
    const all = open.length, fitting = findingPages.total;
    at("findings-status").textContent = fitting === all
      ? `${counted(all, "finding")}, worst first`
      : `${matchingOf(fitting, all, ["finding"])} the filters`;
  }

  function jump() {
    if (!fromAddress()) return;
    refresh();
    at("findings").scrollIntoView();
    at("findings").focus({ preventScroll: true });
  }

  // --- databases -----------------------------------------------------------------------------------------------------

  const left = (each) => (each.read === "audited" ? each.accounts.password : each.read === "unknown" ? 0.5 : -1);
  const share = (each) => (each.read === "audited" && each.accounts.total ? (each.accounts.total - each.accounts.password) / each.accounts.total : null);
  const worst = (each) => SEVERITIES.reduce((sum, which) => sum * 10000 + ((each.findings || {})[which] || 0), 0);
  const COLUMNS = [
    { label: "Database", key: (each) => each.identifier, first: "ascending" },
    { label: "Passwords", key: left, first: "descending" },
    { label: "Passwordless", key: (each) => { const known = share(each); return known === null ? 2 : known; }, first: "ascending", class: "passwordless" },
    ...SEVERITIES.map((which) => ({ label: capital(which), key: (each) => (each.findings || {})[which] || 0, first: "descending", class: "optional" })),
    { label: "Findings", key: worst, first: "descending" },
  ];
  let sorted = { column: 1, way: "descending" };
  const NOT_READ = { unknown: "unknown", replica: "its source's", proxy: "none of its own" };

  function databaseRow(database) {
    const counts = SEVERITIES.map((which) => (database.findings || {})[which] || 0);
    const total = counts.reduce((sum, each) => sum + each, 0);
    const known = share(database);
    const facts = [database.engine + " " + database.engine_version, database.environment, database.owner, database.account, database.public ? "public endpoint" : ""].filter(Boolean);
    return make("tr", {},
      make("td", {}, make("span", { class: "database-name" }, name(database.identifier)), make("span", { class: "under" }, ...facts.flatMap((each, index) => [index ? " · " : "", name(each)]))),
      make("td", { class: database.read === "unknown" ? "state" : database.read === "audited" && database.accounts.password ? "left" : "zero" },
        database.read === "audited" ? figure(database.accounts.password) : NOT_READ[database.read] || "unknown",
        database.read === "audited" ? make("span", { class: "under" }, `of ${figure(database.accounts.total)}`) : null),
      make("td", { class: "passwordless" }, known === null ? "–" : percent(known), known === null ? null : bar(known)),
      ...counts.map((count) => make("td", { class: count ? "optional" : "optional zero" }, figure(count))),
      make("td", {}, total
        ? make("button", { type: "button", class: "link", "aria-label": `Show ${counted(total, "finding")} of ${plain(database.identifier)}`, on: { click: () => { clear(); chosen.database = database.arn; refresh(); at("findings").scrollIntoView(); at("findings").focus({ preventScroll: true }); } } }, figure(total))
        : make("span", { class: "zero" }, "0")));
  }

  function bar(known) {
    const draw = (tag, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const made = draw("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
    made.append(draw("rect", { class: "rest", width: 100, height: 6 }), draw("rect", { class: "done", width: known * 100, height: 6 }));
    return made;
  }

  const databasePages = paged("databases", at("databases-rows"), PAGE_OF_DATABASES, databaseRow, ["database"]);
  let matchingDatabases = databases;

  function showDatabases() {
    const { column, way } = sorted;
    const { key } = COLUMNS[column];
    const turn = way === "descending" ? -1 : 1;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const ordered = [...matchingDatabases].sort((a, b) => turn * compare(key(a), key(b)) || compare(worst(b), worst(a)) || compare(a.arn, b.arn));
    at("databases-head").replaceChildren(...COLUMNS.map((each, index) => make("th", { scope: "col", class: each.class, "aria-sort": index === column ? way : null },
      make("button", { type: "button", on: { click: () => {
        sorted = { column: index, way: index === column ? (way === "descending" ? "ascending" : "descending") : each.first };
        showDatabases();
        at("databases-head").children[index].querySelector("button").focus();
      } } }, each.label))));
    databasePages.show(ordered);
  }

  // --- all of it -----------------------------------------------------------------------------------------------------

  buildFilters();
  fromAddress();
  at("databases-count").textContent = figure(databases.length);
  at("findings-total").textContent = figure(open.length);
  at("waiting").remove();
  document.documentElement.classList.add("scripted");
  at("databases").hidden = at("findings").hidden = false;
  const wordsOf = (each) => [each.identifier, each.engine, each.engine_version, each.kind, each.environment, each.owner, each.account, each.read, each.cause];
  searched("databases", databases, wordsOf, ["database"], (matching) => { matchingDatabases = matching; showDatabases(); });
  const begin = location.hash;
  refresh();
  if (!begin.includes("=")) history.replaceState(null, "", begin || location.pathname + location.search);
  window.addEventListener("hashchange", jump);

  const small = [
    ["suppressed", suppressed, findingRow, ["suppressed finding"]],
    ["resolved", head.resolved, (each) => make("li", {}, severity(each.severity), make("span", { class: "what" }, name(each.title), where(each)), make("span", { class: "when" }, `found ${each.first_seen ? day(each.first_seen) : "–"}`)), ["resolved finding"]],
  ].map(([id, items, row, words]) => {
    const pages = paged(id, at(id + "-list"), 10, row, words);
    at(id).hidden = !items.length;
    at(id + "-count").textContent = figure(items.length);
    const textOf = (each) => [each.title, each.kind, each.user, each.database && identifier(each.database), about(each) && about(each).owner, each.suppressed && each.suppressed.reason];
    searched(id, items, textOf, words, (matching) => pages.show(matching));
    return pages;
  });

  // On paper: a summary, or all findings that match the filters, up to a limit, opened. A large fleet begins with the summary.
  const paper = at("paper");
  paper.value = databases.length > LARGE ? "summary" : "all";
  at("print").addEventListener("click", () => window.print());
  let opened = [];
  window.addEventListener("beforeprint", () => {
    const short = paper.value === "summary";
    document.documentElement.classList.toggle("summary", short);
    databasePages.reach(Math.min(databasePages.total, short ? DATABASES_IN_A_SUMMARY : databasePages.total));
    const rows = Math.min(short ? DATABASES_IN_A_SUMMARY : databasePages.total, databasePages.count);
    for (const [index, row] of [...at("databases-rows").children].entries()) row.classList.toggle("beyond", index >= rows);
    at("databases-note").textContent = rows < databasePages.total
      ? `The first ${figure(rows)} of ${counted(databasePages.total, "database")} ${rows === 1 ? "is" : "are"} printed; the CSV has all findings.` : "";
    at("print-note").textContent = "";
    if (short) return;
    findingPages.reach(Math.min(findingPages.total, PRINTED));
    for (const pages of small) pages.reach(pages.total);
    at("print-note").textContent = findingPages.count < findingPages.total
      ? `The first ${figure(findingPages.count)} of ${figure(findingPages.total)} are printed: filter them, or use the CSV.` : "";
    opened = [...document.querySelectorAll("details.finding:not([open]), details.stage:not([open]), .group details:not([open]), details.migrations:not([open])")];
    for (const each of opened) {
      each.dispatchEvent(new Event("fill"));
      each.open = true;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
    opened = [];
  });
  performance.mark("rdsiam-ready");
})();
