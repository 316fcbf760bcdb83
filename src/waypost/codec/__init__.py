"""Bytes and what they mean: values, frames and compression, each in a module of its own."""
