// Two comforts. Everything works without them.

// "/" goes to the search, unless somebody is typing.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    document.getElementById("q").focus();
  }
});

// Leaving a text that is not saved asks first.
for (const form of document.querySelectorAll("form.writing")) {
  const text = form.elements.text;
  let leaving = false;
  form.addEventListener("submit", () => (leaving = true));
  window.addEventListener("beforeunload", (event) => {
    const changed = text.value !== text.defaultValue || "changed" in text.dataset;
    if (changed && !leaving) event.preventDefault();
  });
}
