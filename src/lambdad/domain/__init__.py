"""The pure rules: no asyncio, no operating system, no clock, no I/O."""
