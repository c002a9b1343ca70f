"""Tests of `service/siblings`: what several processes behind one port share."""
