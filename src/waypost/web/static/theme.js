// Light or dark: as the system says, until the reader chooses.

const KEY = "waypost-theme";
const DARK = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : null;
}

/** The theme that is shown. */
export const theme = () => chosen() ?? (DARK.matches ? "dark" : "light");

/** Show the theme, and follow the system as long as nothing was chosen. */
export function startTheme(changed) {
  apply();
  DARK.addEventListener("change", () => {
    apply();
    changed();
  });
}

function apply() {
  document.documentElement.dataset.theme = theme();
}

export function toggleTheme() {
  localStorage.setItem(KEY, theme() === "dark" ? "light" : "dark");
  apply();
}
