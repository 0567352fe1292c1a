/**
 * The landing page's only behaviour: the example installs the wheel that this site brings.
 */

async function showWheel() {
  const place = document.getElementById("wheel");
  if (!place) throw new Error("index.html has no #wheel");
  const site = new URL("../", import.meta.url);
  const { wheel } = await (await fetch(new URL("site.json", site))).json();
  place.textContent = new URL(wheel, site).href;
}

// Without it the example says "tilework", which is as true.
showWheel().catch(console.warn);
