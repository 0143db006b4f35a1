"""Exported models served by HTTP, with a page and a log of every decision.

From the port inwards: `listening`, `guard`, `server`, `intake`, `service`, `model`; what a service
remembers: `inspections`, `log_file`, `recent`, `metrics`.
"""
