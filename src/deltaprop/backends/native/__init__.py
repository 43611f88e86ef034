"""The compiled library of the CPU: how it is compiled and loaded, and what is checked before it is called."""
