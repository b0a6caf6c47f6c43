"""Conversion in parts: what a file is turned into, made piece by piece in bounded memory, so that it can be resumed.

A conversion is a list of jobs. Each reads a part of the file and writes a part of the output that no other job writes;
doing it twice is doing it once. What is done is marked in the folder of the unfinished output (`workspace`), which
appears under its name only when everything is (`workspace.finish`).
"""
