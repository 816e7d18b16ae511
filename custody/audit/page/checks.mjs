// A check and its verdict: ok, bad, or unchecked, which is never shown as if it were ok.

export const ok = (text) => ({ state: "ok", text });
export const bad = (text) => ({ state: "bad", text });
export const unchecked = (text) => ({ state: "unchecked", text });

export function worst(checks) {
  if (checks.some((check) => check.state === "bad")) return "bad";
  return checks.some((check) => check.state === "unchecked") || checks.length === 0 ? "unchecked" : "ok";
}
