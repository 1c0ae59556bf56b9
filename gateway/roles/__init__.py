"""The roles of a process in a memory, on a data folder and in a cluster."""
