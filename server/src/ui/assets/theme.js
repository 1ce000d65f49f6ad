// Before the page is painted: dark or light as chosen here before, else as the system says.
(() => {
  const chosen = localStorage.getItem("daybook-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
