// The token that lets this page in: it comes in the fragment of the address, which browsers send to nobody.

const KEY = "waypost-token";

/** Take the token out of the address, so that it stands in no copy of the address and no picture. The browser's own
 * history may keep that it was there, where it lets nobody in once that server has ended.
 *
 * Returns whether there was one. */
export function takeFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given === null) return false;
  keep(given);
  history.replaceState(history.state, "", location.pathname + location.search);
  return true;
}

/** Keep it for this tab. */
export function keep(token) {
  sessionStorage.setItem(KEY, token);
}

/** The token, or null. */
export function current() {
  return sessionStorage.getItem(KEY);
}
