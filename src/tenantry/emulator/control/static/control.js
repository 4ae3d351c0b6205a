// What no attribute can do: shows the current page's name on a phone, copies a text, counts down to a token's end.

const showCurrentPage = () =>
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
showCurrentPage();
document.addEventListener("htmx:afterSettle", (event) => event.target === document.body && showCurrentPage());

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  await navigator.clipboard.writeText(source.value ?? source.textContent);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
});

setInterval(() => {
  for (const shown of document.querySelectorAll("[data-expires]")) {
    const left = Math.ceil(Number(shown.dataset.expires) - Date.now() / 1000);
    shown.textContent = left > 0 ? `expires in ${left} s` : "expired";
    shown.classList.toggle("bad", left <= 0);
    shown.classList.toggle("ok", left > 0);
  }
}, 250);
