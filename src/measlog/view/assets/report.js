"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const filters = byId("filters");
  const rows = Array.from(document.querySelectorAll("#event-table > tbody > tr"));
  const shown = byId("filter-count");
  const controls = ["register", "type", "check", "finding", "text"].map((name) => byId("filter-" + name));
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const apply = () => {
    const [register, type, check, finding, text] = controls.map((control) => control.value);
    const words = text.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const found = row.dataset.finding || "";
      const fits =
        (!register || row.dataset.register === register) &&
        (!type || row.dataset.type === type) &&
        (!check || row.dataset.check === check) &&
        (!finding || (finding === "any" ? found !== "" : finding === "none" ? found === "" : found.split(" ").includes(finding))) &&
        (!words || textOf(row).includes(words));
      row.hidden = !fits;
      if (fits) count += 1;
    }
    shown.textContent = `${count} of ${rows.length} events`;
  };
  const reset = () => {
    for (const control of controls) control.value = "";
    apply();
  };
  if (filters && rows.length) {
    filters.hidden = false;
    for (const control of controls) control.addEventListener("input", apply);
    byId("filter-reset").addEventListener("click", reset);
    apply();
  }
  // A link to an event shows it, whatever the filters hide.
  const reveal = () => {
    const target = location.hash.startsWith("#event-") ? byId(location.hash.slice(1)) : null;
    if (target && target.hidden) {
      reset();
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  const said = byId("copied");
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = byId(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        said.textContent = `${button.dataset.what} copied`;
      } catch {
        getSelection().selectAllChildren(source);
        said.textContent = `${button.dataset.what} selected: copy it with the keyboard`;
      }
    });
  }
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open]):not(.bulky)"));
    for (const item of folded) item.open = true;
  });
  addEventListener("afterprint", () => {
    for (const item of folded) item.open = false;
  });
})();
