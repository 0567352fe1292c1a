"""Images: Resize, Upsample, GridSample, RoiAlign, DepthToSpace, Col2Im, ..."""

from __future__ import annotations

from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import operator


@operator("Resize", (1, 4))
def resize(ctx: Context, node: OnnxNode) -> str:
    """Opset 10 has scales as its second input, and no more; since 11 they are the third."""
    old = node.version < 11
    values = (
        {"scales": node.input(1)}
        if old
        else {"roi": node.input(1), "scales": node.input(2), "sizes": node.input(3)}
    )
    for name, place in list(values.items()):  # an empty tensor is as good as none
        array = ctx.value(place) if place else None
        if array is not None and array.size == 0:
            del values[name]
    transform = "asymmetric" if old else "half_pixel"
    return ctx.emit_with(
        "resize",
        node.inputs[0],
        values=values,
        axes=node.attrs.get("axes"),
        mode=node.attrs.get("mode", "nearest"),
        transform=node.attrs.get("coordinate_transformation_mode", transform),
        nearest="simple" if old else node.attrs.get("nearest_mode", "round_prefer_floor"),
        cubic=node.attrs.get("cubic_coeff_a", -0.75),
        exclude_outside=node.attrs.get("exclude_outside") or None,
        extrapolation=node.attrs.get("extrapolation_value") or None,
        antialias=node.attrs.get("antialias") or None,
        aspect=node.attrs.get("keep_aspect_ratio_policy", "stretch"),
    )[0]


@operator("Upsample", (1, 2))
def upsample(ctx: Context, node: OnnxNode) -> str:
    """Scales are an attribute before opset 9; opset 10 made it Resize."""
    return ctx.emit_with(
        "resize",
        node.inputs[0],
        values={"scales": node.input(1)},
        scales=node.attrs.get("scales"),
        mode=node.attrs.get("mode", "nearest").replace("bilinear", "linear"),
        transform="asymmetric",
        nearest="floor",
    )[0]


@operator("GridSample", 2)
def grid_sample(ctx: Context, node: OnnxNode) -> str:
    mode = node.attrs.get("mode", "linear")  # bilinear and bicubic until opset 19
    return ctx.emit(
        "grid_sample",
        *node.inputs,
        mode=mode.removeprefix("bi"),
        padding=node.attrs.get("padding_mode", "zeros"),
        align_corners=node.attrs.get("align_corners", 0),
    )


@operator("AffineGrid", 2)
def affine_grid(ctx: Context, node: OnnxNode) -> str:
    theta, size = node.inputs
    corners = node.attrs.get("align_corners", 0)
    return ctx.emit_with("affine_grid", theta, values={"size": size}, align_corners=corners)[0]


@operator("RoiAlign", 3)
def roi_align(ctx: Context, node: OnnxNode) -> str:
    # Opset 10 had no shift by half a pixel.
    transform = "half_pixel" if node.version >= 16 else "output_half_pixel"
    transform = node.attrs.get("coordinate_transformation_mode", transform)
    return ctx.emit(
        "roi_align",
        *node.inputs,
        mode=node.attrs.get("mode", "avg"),
        height=node.attrs.get("output_height", 1),
        width=node.attrs.get("output_width", 1),
        ratio=node.attrs.get("sampling_ratio", 0),
        scale=node.attrs.get("spatial_scale", 1.0),
        half_pixel=int(transform == "half_pixel"),
    )


@operator("MaxRoiPool", 2)
def max_roi_pool(ctx: Context, node: OnnxNode) -> str:
    height, width = node.attrs["pooled_shape"]
    scale = node.attrs.get("spatial_scale", 1.0)
    return ctx.emit("max_roi_pool", *node.inputs, height=height, width=width, scale=scale)


@operator("DepthToSpace", 1)
def depth_to_space(ctx: Context, node: OnnxNode) -> str:
    crd = int(node.attrs.get("mode", "DCR") == "CRD")
    return ctx.emit("depth_to_space", *node.inputs, block=node.attrs["blocksize"], crd=crd)


@operator("SpaceToDepth", 1)
def space_to_depth(ctx: Context, node: OnnxNode) -> str:
    crd = int(node.attrs.get("mode", "DCR") == "CRD")
    return ctx.emit("space_to_depth", *node.inputs, block=node.attrs["blocksize"], crd=crd)


@operator("CenterCropPad", 2)
def center_crop_pad(ctx: Context, node: OnnxNode) -> str:
    x, shape = node.inputs
    axes = node.attrs.get("axes")
    return ctx.emit_with("center_crop_pad", x, values={"shape": shape}, axes=axes)[0]


@operator("Col2Im", 3)
def col2im(ctx: Context, node: OnnxNode) -> str:
    x, image, block = node.inputs
    return ctx.emit_with(
        "col2im",
        x,
        values={"image": image, "block": block},
        strides=node.attrs.get("strides"),
        dilations=node.attrs.get("dilations"),
        pads=node.attrs.get("pads"),
    )[0]


@operator("ImageDecoder", 1)
def image_decoder(ctx: Context, node: OnnxNode) -> str:
    pixels = node.attrs.get("pixel_format", "RGB")
    if pixels not in ("RGB", "BGR", "Grayscale"):
        raise ctx.invalid(f"pixel_format '{pixels}'; RGB, BGR and Grayscale are known")
    return ctx.emit("image_decoder", *node.inputs, pixels=pixels)
