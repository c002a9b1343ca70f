"""Shared by the whole process, without HTTP: the ledger of bytes, the machine's memory, turns, and a watchdog."""
