"""Figures of a finished network: protocols, dynamic evaluation, calibration, surprise, memorisation."""
