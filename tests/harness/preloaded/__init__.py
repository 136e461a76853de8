"""Starts of Python programs as forks of one process that has imported what they import.

A start of ``python -m services.gateway`` takes about a second of CPU time, and almost all of it is imports. Tests start
services and workers many hundreds of times. Each test process therefore has one preloaded process, and a start of a
program of this project is a fork of it; everything else is as after a real start (tests/contract/preloaded). Workers
in containers of the stand-in for Modal are forks of a process that has imported packages only (tests/modal_loopback).

Tests marked ``real_starts`` start programs as users do, and tests/system so starts each command for the first time in
a test process: errors of imports, and files that an image or a wheel lacks, are found there. ``pytest --real-starts``
has all tests do so; ``make soak`` runs tests/system that way.
"""
