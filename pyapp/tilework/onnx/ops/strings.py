"""Operators on strings, and TfIdfVectorizer, which counts words or numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tilework.core.dtypes import FLOAT32, INT64
from tilework.onnx.context import Context, OnnxNode
from tilework.onnx.ops.table import MICROSOFT, direct, operator

direct({"StringConcat": "string_concat"}, 2)


@operator("StringSplit", 1)
def string_split(ctx: Context, node: OnnxNode) -> Sequence[str]:
    attrs = {"delimiter": node.attrs.get("delimiter"), "most": node.attrs.get("maxsplit", -1)}
    names = ctx.emit_many("string_split", node.inputs, 2, attrs)
    ctx.set_dtype(names[1], INT64)
    return names


@operator("RegexFullMatch", 1)
def regex_full_match(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit("regex_full_match", *node.inputs, pattern=node.attrs.get("pattern", ""))


@operator("StringNormalizer", 1)
def string_normalizer(ctx: Context, node: OnnxNode) -> str:
    return ctx.emit(
        "string_normalizer",
        *node.inputs,
        change=node.attrs.get("case_change_action", "NONE"),
        sensitive=node.attrs.get("is_case_sensitive", 0),
        stopwords=node.attrs.get("stopwords"),
    )


@operator("Tokenizer", 1, MICROSOFT)
def tokenizer(ctx: Context, node: OnnxNode) -> str:
    attrs = node.attrs
    if not attrs.get("tokenexp") and not attrs.get("separators"):
        raise ctx.invalid("has neither tokenexp nor separators")
    return ctx.emit(
        "tokenize",
        *node.inputs,
        expression=attrs.get("tokenexp"),
        separators=attrs.get("separators"),
        shortest=attrs.get("mincharnum", 1),
        pad=attrs["pad_value"],
        mark=attrs.get("mark", 0),
    )


@operator("TfIdfVectorizer", 1)
def tf_idf_vectorizer(ctx: Context, node: OnnxNode) -> str:
    attrs = node.attrs
    name = ctx.emit(
        "tf_idf",
        *node.inputs,
        pool=attrs["pool_strings"] if "pool_strings" in attrs else attrs["pool_int64s"],
        starts=attrs["ngram_counts"],
        places=attrs["ngram_indexes"],
        weights=attrs.get("weights"),
        shortest=attrs["min_gram_length"],
        longest=attrs["max_gram_length"],
        skips=attrs["max_skip_count"],
        mode=attrs["mode"],
    )
    ctx.set_dtype(name, FLOAT32)
    return name
