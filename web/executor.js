/**
 * One thread's executor: its function table, its stack and its instances of every loaded module,
 * over the device's one memory. The bridge has one for the submitting thread, each compute worker
 * has one of its own; the indices in the table are the same on all of them.
 */

/**
 * Where an executable goes, decided by the device's single allocator.
 * @typedef {object} Placement
 * @property {number} memoryBase  its zero-filled data region, bytes
 * @property {number} tableBase  its first slot in the table: the module's own element segment
 * @property {[number, string][]} functions  table index and export name of each entry point
 */

export class Executor {
  /**
   * @param {WebAssembly.Memory} memory
   * @param {number} stackTop  end of this thread's stack, 16-byte aligned
   */
  constructor(memory, stackTop) {
    this.memory = memory;
    this.stackTop = stackTop;
    this.table = new WebAssembly.Table({ element: "anyfunc", initial: 64 });
    this.stackPointer = new WebAssembly.Global({ value: "i32", mutable: true }, stackTop);
    /** @type {WebAssembly.Exports} */
    this.processor = {};
  }

  /**
   * Instantiates `module` and puts its entry points at their table indices.
   * @param {WebAssembly.Module} module
   * @param {Placement} placement
   * @param {WebAssembly.Memory} [far]  a second memory, for a module that imports one
   * @returns {WebAssembly.Exports}
   */
  load(module, { memoryBase, tableBase, functions }, far) {
    const base = (/** @type {number} */ value) =>
      new WebAssembly.Global({ value: "i32", mutable: false }, value);
    const end = Math.max(tableBase, ...functions.map(([index]) => index + 1));
    if (this.table.length < end) this.table.grow(Math.max(end, 2 * this.table.length) - this.table.length);
    /** @type {WebAssembly.ModuleImports} */
    const env = {
      memory: this.memory,
      __indirect_function_table: this.table,
      __stack_pointer: this.stackPointer,
      __memory_base: base(memoryBase),
      __table_base: base(tableBase),
    };
    if (far) env.far = far;
    const { exports } = new WebAssembly.Instance(module, { env });
    // Pointers in the module's data become absolute. Every thread writes the same values.
    const relocate = exports.__wasm_apply_data_relocs;
    if (typeof relocate === "function") relocate();
    for (const [index, name] of functions) this.table.set(index, exports[name]);
    return exports;
  }

  /**
   * Empties table slots: nothing else holds a module's instance.
   * @param {number} first
   * @param {number} slots
   */
  unload(first, slots) {
    const end = Math.min(first + slots, this.table.length);
    for (let index = first; index < end; index++) this.table.set(index, null);
  }

  /**
   * Calls an export of the processor; a kernel that traps under it is recorded as that tile's
   * failure and the call goes on through `resume`.
   * @param {string} name
   * @param {number} thread
   * @param {number[]} parameters
   * @param {string} resume  the export that continues after a trap, given the thread
   * @param {number[]} again  its further parameters
   * @returns {number}
   */
  run(name, thread, parameters, resume, again) {
    for (;;) {
      try {
        return this.call(name, thread, ...parameters);
      } catch (error) {
        this.recover(thread, error);
      }
      name = resume;
      parameters = again;
    }
  }

  /**
   * @param {number} thread
   * @param {unknown} error
   */
  recover(thread, error) {
    const trapped = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
    if (!trapped) throw error;
    // The trap left the kernel's frames on the stack.
    this.stackPointer.value = this.stackTop;
    // Not in a tile: the processor itself is at fault, which no failure record can express.
    if (this.call("tw_trapped", thread) === 0) throw error;
  }

  /**
   * @param {string} name
   * @param {...number} parameters
   * @returns {number}
   */
  call(name, ...parameters) {
    return /** @type {(...p: number[]) => number} */ (this.processor[name])(...parameters);
  }
}
