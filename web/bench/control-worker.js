/**
 * A fixed piece of plain work. One such worker a core, all at once, shows whether anything else
 * keeps a core busy: then the work takes longer.
 */
import { serve } from "./messages.js";

serve({
  /** @param {{ steps: number }} work @returns {number} milliseconds */
  work({ steps }) {
    const began = performance.now();
    let value = 1;
    for (let i = 0; i < steps; i++) value = (value * 1103515245 + 12345) & 0x7fffffff;
    return performance.now() - began + (value < 0 ? 1 : 0);
  },
});
