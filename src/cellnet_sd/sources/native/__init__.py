"""Reads the structure of a memory-mapped HDF5 file with compiled code, without libhdf5.

The sections cited as (III.A.1) and the like are those of the HDF5 File Format Specification, version 3.0.
Compiled functions take the mapped bytes `buf` and the state `ctx` (`codes.C_…`) first. They raise nothing: the first
failure is kept in `ctx[C_STATUS]` as one of the reasons of `codes`, and whoever sees it set returns.
"""
