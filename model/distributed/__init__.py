"""Devices, and training in several processes with the losses of one."""
