// Filters the matrix. The page is whole without it.
(() => {
  const find = (id) => document.getElementById(id);
  const sought = find("sought"), bad = find("bad");
  if (!sought) return;
  const families = [...document.querySelectorAll(".matrix details")];
  const rows = [...document.querySelectorAll(".matrix .row[id]")];
  const filter = () => {
    const wanted = sought.value.toLowerCase();
    for (const row of rows) {
      const named = row.firstElementChild.textContent.toLowerCase().includes(wanted);
      row.classList.toggle("gone", !named || (bad.checked && !row.classList.contains("bad")));
    }
    for (const family of families) {
      const shown = family.querySelector(".row[id]:not(.gone)") !== null;
      family.classList.toggle("gone", !shown);
      if (shown && wanted) family.open = true;
    }
  };
  sought.addEventListener("input", filter);
  bad.addEventListener("change", filter);
  find("open").addEventListener("click", () => families.forEach((family) => { family.open = true; }));
  find("shut").addEventListener("click", () => families.forEach((family) => { family.open = false; }));
  find("tools").hidden = false;
})();
