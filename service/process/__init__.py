"""What holds for the whole process: the ledger of bytes, the machine's memory, and a watchdog; knows no HTTP."""
