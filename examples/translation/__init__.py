"""English sentences translated into French by one small network, beside a phrase table and the nearest sentence."""
