//! triple: see triple.wit. The function pointers are data that each thread's instance relocates.
const tw = @import("tilework");

fn byThree(x: f32) f32 {
    return x * 3;
}

fn byFive(x: f32) f32 {
    return x * 5;
}

const factors = [_]*const fn (f32) f32{ byThree, byFive };

export fn triple(d: *const tw.tw_dispatch, t: *const tw.tw_tile) u32 {
    const p: *const tw.triple_params = @ptrCast(@alignCast(d.params));
    const x: [*]const f32 = @ptrCast(@alignCast(d.bindings[tw.TRIPLE_X].data));
    const y: [*]f32 = @ptrCast(@alignCast(d.bindings[tw.TRIPLE_Y].data));
    const count = d.bindings[tw.TRIPLE_Y].length / 4;
    if (d.bindings[tw.TRIPLE_X].length / 4 < count) return tw.TW_BINDING_TOO_SHORT;
    const first = @min(count, t.x * p.tile);
    const last = @min(count, first + p.tile);
    for (first..last) |i| y[i] = factors[i % 2](x[i]) + p.offset;
    return tw.TW_OK;
}
